"""What the user named as input, as one ordered list of utterances with ids of their own.

An input is an audio file; a folder of audio and tar files; a table
(:mod:`~hocket.recognition.tables`); a lhotse manifest of cuts; a tar shard
(:mod:`~hocket.recognition.shards`); a pattern such as ``audio/**/*.flac``; a prepared corpus, as
``FOLDER:SPLIT`` or the folder alone for its ``test`` split; or ``-`` for a list of any of these on
standard input.
"""

from __future__ import annotations

import glob
import gzip
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from hocket.core.errors import CorpusError, UsageError
from hocket.corpus import manifest
from hocket.corpus.audio import AUDIO_SUFFIXES
from hocket.corpus.index import CorpusIndex
from hocket.recognition import shards, tables
from hocket.recognition.items import Item, ItemList

DEFAULT_SPLIT = "test"


STDIN = "-"


def listed(stream: BinaryIO, null: bool = False) -> list[str]:
    """The names on a stream, one a line, or ended by a zero byte each (``find -print0``); read to its end.

    Raises :class:`UsageError` for a list without any name.
    """
    data = stream.read()
    names = data.split(b"\0") if null else data.splitlines()
    found = [os.fsdecode(name) for name in names if name]
    if not found:
        raise UsageError("the list on standard input is empty")
    return found


def collect(inputs: Sequence[str], lenient: bool = False) -> ItemList:
    """The utterances of all inputs, in order; a repeated id gets ``#2``, ``#3``... at its end.

    Raises :class:`UsageError` naming an input that is missing, of no known kind, or empty. With
    ``lenient``, for a list that a program wrote, such a name is an item with a ``problem`` instead: a
    million names are not refused for one of them.
    """
    if not inputs:
        raise UsageError(
            "nothing to recognise", "Name audio files, folders, tables, manifests or a prepared corpus."
        )
    items = ItemList()
    for name in inputs:
        before = len(items)
        try:
            for item in _expand(name):
                items.append(item)
            if len(items) == before:
                raise UsageError(f"{name}: there is nothing to recognise in it")
        except UsageError as error:
            if not lenient:
                raise
            items.append(Item(id=name, audio=Path(name), problem=error.message))
    return _with_own_ids(items)


def _expand(name: str) -> Iterator[Item]:
    path = Path(name)
    folder, colon, split = name.rpartition(":")
    if path.is_dir():
        if (path / "corpus.json").is_file():
            return _prepared(path, DEFAULT_SPLIT)
        return _folder(path)
    if path.exists():
        return _file(path)
    if colon and _is_prepared(Path(folder)):
        return _prepared(Path(folder), split)
    if glob.has_magic(name):
        return _pattern(name)
    raise UsageError(
        f"{name}: no such file or folder",
        "An input is an audio file, a folder, a pattern, a table, a manifest, a tar file, a prepared corpus "
        "as FOLDER:SPLIT, or - for a list of them on standard input.",
    )


def _pattern(pattern: str) -> Iterator[Item]:
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    names = sorted(name for name in found if not Path(name).is_dir())
    if not names:
        raise UsageError(f"{pattern}: no file matches it")
    return (item for name in names for item in _file(Path(name)))


def _is_prepared(folder: Path) -> bool:
    return (folder / "corpus.json").is_file()


def _file(path: Path) -> Iterator[Item]:
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return iter([Item(id=str(path), audio=path)])
    if path.suffix.lower() == shards.SUFFIX:
        return shards.read(path, AUDIO_SUFFIXES)
    if path.name.lower().endswith(tables.SUFFIXES):
        return _cuts(path) if _holds_cuts(path) else tables.read(path)
    raise UsageError(
        f"{path}: neither audio nor a table by its name",
        f"Audio ends in one of {' '.join(AUDIO_SUFFIXES)}; tables in {' '.join(tables.SUFFIXES)}; "
        f"shards in {shards.SUFFIX}.",
    )


def _folder(folder: Path) -> Iterator[Item]:
    """Audio and tar files below a folder, sorted by path; hidden files and folders are passed over.

    A link to nowhere is an input, too: it is listed as failed.
    """
    known = (*AUDIO_SUFFIXES, shards.SUFFIX)
    found: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            str(Path(parent, name))
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in known
        ]
    if not found:
        raise UsageError(
            f"{folder}: no audio file in it", f"Audio ends in one of {' '.join(AUDIO_SUFFIXES)}."
        )
    paths = (Path(name) for name in sorted(found, key=lambda name: Path(name).parts))
    return (item for path in paths for item in _file(path))


def _prepared(folder: Path, split: str) -> Iterator[Item]:
    try:
        index = CorpusIndex.open(folder, split)
    except CorpusError as error:
        raise UsageError(error.message, error.hint) from error
    for row in range(len(index)):
        utterance = index.utterance(row)
        yield Item(
            id=utterance.id,
            audio=utterance.audio,
            member=utterance.member,
            channel=utterance.channel,
            start=utterance.start,
            num=utterance.num,
            sample_rate=utterance.sample_rate,
            num_samples_16k=int(index.num_samples[row]),
            ref=utterance.text,
            speaker=utterance.speaker,
        )


def _cuts(path: Path) -> Iterator[Item]:
    try:
        for number, cut in manifest.read(path):
            if isinstance(cut, CorpusError):
                yield Item(id=f"{path}:{number}", audio=path, problem=str(cut))
                continue
            yield Item(
                id=cut.id,
                audio=cut.audio,
                channel=cut.channel,
                start=cut.start,
                num=cut.num,
                sample_rate=cut.sample_rate,
                ref=cut.text,
                speaker=cut.speaker,
            )
    except CorpusError as error:
        raise UsageError(error.message, error.hint) from error


def _holds_cuts(path: Path) -> bool:
    """Whether the first line is a cut; what is no JSON at all is left to the reader of tables to say."""
    if path.name.lower().endswith((".csv", ".tsv")):
        return False
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            first = json.loads(next((line for line in file if line.strip()), b"{}"))
    except ValueError:
        return False
    except (OSError, EOFError) as error:
        raise UsageError(f"{path}: cannot read it: {error}") from error
    return isinstance(first, dict) and str(first.get("type", "")).endswith("Cut")


def _with_own_ids(items: ItemList) -> ItemList:
    taken = {item.id for item in items}
    if len(taken) == len(items):
        return items
    counts: dict[str, int] = {}
    unique = ItemList()
    for item in items:
        count = counts.get(item.id, 0) + 1
        id = item.id
        while count > 1 and id in taken:
            id = f"{item.id}#{count}"
            count += id in taken
        counts[item.id] = max(count, 1)
        taken.add(id)
        unique.append(item if id == item.id else replace(item, id=id))
    return unique

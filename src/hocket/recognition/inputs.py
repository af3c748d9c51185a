"""What the user named as input, as one ordered list of utterances with ids of their own.

An input is an audio file; a folder of them; a table (:mod:`~hocket.recognition.tables`); a lhotse
manifest of cuts; or a prepared corpus, as ``FOLDER:SPLIT`` or the folder alone for its ``test`` split.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hocket.core.errors import CorpusError, UsageError
from hocket.corpus import manifest
from hocket.corpus.audio import AUDIO_SUFFIXES
from hocket.corpus.index import CorpusIndex
from hocket.recognition import tables
from hocket.recognition.items import Item

DEFAULT_SPLIT = "test"


def collect(inputs: Sequence[str]) -> list[Item]:
    """The utterances of all inputs, in order; a repeated id gets ``#2``, ``#3``... at its end.

    Raises :class:`UsageError` naming an input that is missing, of no known kind, or empty.
    """
    if not inputs:
        raise UsageError(
            "nothing to recognise", "Name audio files, folders, tables, manifests or a prepared corpus."
        )
    items: list[Item] = []
    for name in inputs:
        found = list(_expand(name))
        if not found:
            raise UsageError(f"{name}: there is nothing to recognise in it")
        items += found
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
    raise UsageError(
        f"{name}: no such file or folder",
        "An input is an audio file, a folder, a table, a manifest, or a prepared corpus as FOLDER:SPLIT.",
    )


def _is_prepared(folder: Path) -> bool:
    return (folder / "corpus.json").is_file()


def _file(path: Path) -> Iterator[Item]:
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return iter([Item(id=str(path), audio=path)])
    if path.name.lower().endswith(tables.SUFFIXES):
        return _cuts(path) if _holds_cuts(path) else tables.read(path)
    raise UsageError(
        f"{path}: neither audio nor a table by its name",
        f"Audio ends in one of {' '.join(AUDIO_SUFFIXES)}; tables in {' '.join(tables.SUFFIXES)}.",
    )


def _folder(folder: Path) -> Iterator[Item]:
    """Audio files below a folder, sorted by path; hidden files and folders are passed over."""
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not found:
        raise UsageError(
            f"{folder}: no audio file in it", f"Audio ends in one of {' '.join(AUDIO_SUFFIXES)}."
        )
    return (Item(id=str(path), audio=path) for path in found)


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


def _with_own_ids(items: Sequence[Item]) -> list[Item]:
    taken = {item.id for item in items}
    counts: dict[str, int] = {}
    unique = []
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

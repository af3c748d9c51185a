"""CMU AN4 as it is handed out, and any tree laid out like it (as SphinxTrain has them).

``etc/NAME_SPLIT.fileids`` lists the audio, without ending, below ``wav``; beside it
``NAME_SPLIT.transcription`` has lines ``<s> WORDS </s> (ID)``. Audio is NIST SPHERE, WAV, FLAC or raw
(16 kHz, 16 bit, mono, in either byte order); raw audio is kept as FLAC in the prepared folder.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from hocket.core.errors import AudioError, CorpusError
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.importers import raw_audio
from hocket.corpus.importers.base import (
    ImportContext,
    Imported,
    Item,
    LeftOut,
    part,
    refuse_mostly_broken,
    text_lines,
)

RAW = ".raw"
_SUFFIXES = (".sph", ".wav", ".flac", RAW)
_TRANSCRIPT = re.compile(r"(?P<words>.*?)\s*\((?P<id>[^()\s]+)\)")
_MARKS = {"<s>", "</s>", "<sil>"}
Transcripts = dict[str, tuple[str, str]]


class An4Importer:
    """A folder with ``etc/*.fileids``, ``etc/*.transcription`` and ``wav``."""

    def detect(self, source: str) -> bool:
        """Whether the source looks like this format."""
        return any(file.with_suffix(".transcription").is_file() for file in _lists(Path(source)))

    def read(self, source: str, context: ImportContext) -> Imported:
        """Read all lists; what has no transcript or no audio is left out, unless most has none."""
        root = Path(source)
        lists = _lists(root)
        if not lists:
            raise CorpusError(f"{source}: no etc/*.fileids here", "Give the folder that holds etc and wav.")
        items: list[Item] = []
        broken: list[LeftOut] = []
        for file in lists:
            items += _read_list(file, root, broken)
        refuse_mostly_broken(source, items, broken)
        items, notes = _without_raw(items, broken, root, context)
        return Imported(root.resolve().name, items, broken, notes)


def _lists(root: Path) -> list[Path]:
    return sorted((root / "etc").glob("*.fileids"))


def _read_list(file: Path, root: Path, broken: list[LeftOut]) -> list[Item]:
    split = part(file.stem.rpartition("_")[2])
    transcripts = _transcripts(file.with_suffix(".transcription"), split, broken)
    items = []
    for where, fileid in text_lines(file, broken):
        path = PurePosixPath(fileid)
        transcript = transcripts.pop(fileid, None) or transcripts.pop(path.name, None)
        if transcript is None:
            reason = f"{where}: no transcript of {fileid} in {file.stem}.transcription"
            broken.append(LeftOut(path.name, where, "no transcript", reason, split))
            continue
        audio = _audio(root, fileid)
        if audio is None:
            reason = f"{where}: no {root / 'wav' / fileid} with {', '.join(_SUFFIXES)}"
            broken.append(LeftOut(path.name, where, "unreadable audio", reason, split))
            continue
        text, said_at = transcript
        speaker = path.parent.name or None
        items.append(Item(id=path.name, audio=audio, text=text, where=said_at, speaker=speaker, split=split))
    for name, (_, where) in transcripts.items():
        reason = f"{where}: {name} is not in {file.name}"
        broken.append(LeftOut(name, where, "transcript without audio", reason, split))
    return items


def _transcripts(file: Path, split: str, broken: list[LeftOut]) -> Transcripts:
    """Words, and where they stand, by the id at the end of the line."""
    found: Transcripts = {}
    for where, line in text_lines(file, broken):
        match = _TRANSCRIPT.fullmatch(line)
        if match is None:
            reason = f"{where}: not of the form <s> WORDS </s> (ID)"
            broken.append(LeftOut(None, where, "broken line", reason, split))
        elif match["id"] in found:
            reason = f"{where}: {match['id']} stands at {found[match['id']][1]} already"
            broken.append(LeftOut(match["id"], where, "broken line", reason, split))
        else:
            words = [word for word in match["words"].split() if word not in _MARKS]
            found[match["id"]] = " ".join(words), where
    return found


def _audio(root: Path, fileid: str) -> Path | None:
    candidates = (folder / f"{fileid}{suffix}" for folder in (root / "wav", root) for suffix in _SUFFIXES)
    return next((path.absolute() for path in candidates if path.is_file()), None)


def _without_raw(
    items: list[Item], broken: list[LeftOut], root: Path, context: ImportContext
) -> tuple[list[Item], list[str]]:
    """The items, with FLAC in the prepared folder in place of raw audio."""
    raw = [item for item in items if item.audio.suffix == RAW]
    if not raw:
        return items, []
    order = raw_audio.byte_order([item.audio for item in raw])
    kept = []
    for item in items:
        if item.audio.suffix != RAW:
            kept.append(item)
            continue
        out = context.audio_folder / item.audio.relative_to(root.absolute()).with_suffix(".flac")
        try:
            raw_audio.to_flac(item.audio, out, SAMPLE_RATE, order)
        except AudioError as error:
            broken.append(LeftOut(item.id, item.where, "unreadable audio", str(error), item.split))
            continue
        kept.append(replace(item, audio=out))
        context.progress("converting raw audio", len(kept), len(items))
    note = f"{len(raw)} raw files are read as 16 kHz, 16 bit, {raw_audio.NAMES[order]}, and kept as FLAC"
    return kept, [note]

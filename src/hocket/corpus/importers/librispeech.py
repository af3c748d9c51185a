"""LibriSpeech as it is handed out: ``SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`` beside FLAC files.

Panayotov, Chen, Povey & Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books",
ICASSP 2015. https://www.openslr.org/12
"""

from __future__ import annotations

import re
from pathlib import Path

from hocket.core.errors import CorpusError
from hocket.corpus.importers.base import (
    ImportContext,
    Imported,
    Item,
    LeftOut,
    part,
    refuse_mostly_broken,
    text_lines,
)

_PART = re.compile(r"(?:train|dev|test)-[A-Za-z0-9-]+")
_TRANSCRIPTS = "*/*/*.trans.txt"
_SUFFIXES = (".flac", ".wav")


class LibriSpeechImporter:
    """The folder that holds ``train-clean-100`` and the others, one of them, or the folder above."""

    def detect(self, source: str) -> bool:
        """Whether the source looks like this format."""
        return bool(_parts(Path(source)))

    def read(self, source: str, context: ImportContext) -> Imported:
        """Read all parts there are: ``train-*`` become train, ``dev-*`` dev; ``test-*`` stay apart."""
        path = Path(source)
        parts = _parts(path)
        if not parts:
            raise CorpusError(
                f"{source}: no LibriSpeech here", "It holds folders such as train-clean-100 or dev-other."
            )
        items: list[Item] = []
        broken: list[LeftOut] = []
        for done, folder in enumerate(parts):
            context.progress("reading transcripts", done, len(parts))
            for file in sorted(folder.glob(_TRANSCRIPTS)):
                items += _chapter(file, part(folder.name), broken)
        refuse_mostly_broken(source, items, broken)
        names = [folder.name for folder in parts if folder.name != part(folder.name)]
        notes = [f"{name} is part of {part(name)}" for name in names]
        return Imported(path.resolve().name, items, broken, notes)


def _parts(path: Path) -> list[Path]:
    for root in (path, path / "LibriSpeech"):
        if not root.is_dir():
            continue
        folders = [folder for folder in sorted(root.iterdir()) if _is_part(folder)]
        if folders:
            return folders
    whole = path.resolve()
    return [whole] if _is_part(whole) else []


def _is_part(folder: Path) -> bool:
    if not _PART.fullmatch(folder.name) or not folder.is_dir():
        return False
    return next(folder.glob(_TRANSCRIPTS), None) is not None


def _chapter(file: Path, split: str, broken: list[LeftOut]) -> list[Item]:
    """Lines ``ID WORDS``; the audio ``ID.flac`` lies beside, in its speaker's folder."""
    folder = file.parent.absolute()
    audio = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES}
    items = []
    for where, line in text_lines(file, broken):
        name, *words = line.split(None, 1)
        if name not in audio:
            reason = f"{where}: no {folder / name}.flac"
            broken.append(LeftOut(name, where, "unreadable audio", reason, split))
            continue
        text = words[0] if words else ""
        speaker = folder.parent.name
        items.append(Item(name, audio[name], text, where, speaker=speaker, split=split))
    with_text = {item.id for item in items}
    for name, path in audio.items():
        if name not in with_text:
            reason = f"{path}: no transcript of it in {file.name}"
            broken.append(LeftOut(name, str(path), "no transcript", reason, split))
    return items

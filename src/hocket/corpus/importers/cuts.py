"""lhotse manifests of cuts, such as those that its own recipes make.

A split is named by its file, ``cuts_SPLIT.jsonl.gz``, or by its folder, ``SPLIT/cuts.jsonl.gz``.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

from hocket.core.errors import CorpusError
from hocket.corpus import manifest
from hocket.corpus.importers.base import ImportContext, Imported, Item, LeftOut, refuse_mostly_broken

_NAME = re.compile(r"cuts(?:[-_.](?P<split>[A-Za-z0-9._-]+?))?\.jsonl(?:\.gz)?$")


class CutsImporter:
    """A file of cuts, or a folder of ``cuts_SPLIT.jsonl.gz`` (or ``SPLIT/cuts.jsonl.gz``)."""

    def detect(self, source: str) -> bool:
        """Whether the source looks like this format."""
        path = Path(source)
        if path.is_file():
            return path.name.endswith((".jsonl", ".jsonl.gz")) and _looks_like_cuts(path)
        return path.is_dir() and bool(_manifests(path))

    def read(self, source: str, context: ImportContext) -> Imported:
        """Read all cuts; the text of a cut is that of its supervisions."""
        path = Path(source)
        items: list[Item] = []
        broken: list[LeftOut] = []
        found = [(path, None)] if path.is_file() else _manifests(path)
        if not found:
            raise CorpusError(f"{source}: no manifest of cuts here", "Files are called cuts_SPLIT.jsonl.gz.")
        for file, split in found:
            for number, cut in manifest.read(file):
                add(cut, f"{file}:{number}", split, items, broken)
        refuse_mostly_broken(source, items, broken)
        return Imported(path.resolve().name.removesuffix(".gz").removesuffix(".jsonl"), items, broken)


def add(
    cut: manifest.Cut | CorpusError, where: str, split: str | None, items: list[Item], broken: list[LeftOut]
) -> None:
    """Put a cut among the items, or among what is broken."""
    if isinstance(cut, CorpusError):
        broken.append(LeftOut(None, where, "broken line", cut.message))
    elif cut.text is None:
        broken.append(LeftOut(cut.id, where, "broken line", f"{where}: no text"))
    else:
        items.append(_item(cut, where, split))


def _item(cut: manifest.Cut, where: str, split: str | None) -> Item:
    whole = cut.start == 0 and cut.num == cut.file_samples
    return Item(
        id=cut.id,
        audio=cut.audio.absolute(),
        text=cut.text or "",
        where=where,
        speaker=cut.speaker,
        split=split,
        channel=cut.channel,
        start_seconds=None if whole else cut.start / cut.sample_rate,
        duration_seconds=cut.num / cut.sample_rate,
        told=cut.told,
    )


def _manifests(folder: Path) -> list[tuple[Path, str | None]]:
    found: list[tuple[Path, str | None]] = []
    for path in sorted(folder.glob("*cuts*.jsonl*")) + sorted(folder.glob("*/cuts.jsonl*")):
        match = _NAME.search(path.name)
        if match:
            split = match["split"] or (path.parent.name if path.parent != folder else None)
            found.append((path, split))
    return found


def _looks_like_cuts(path: Path) -> bool:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            first = json.loads(file.readline())
    except (OSError, EOFError, ValueError):
        return False
    return isinstance(first, dict) and first.get("type") in ("MonoCut", "MultiCut")

"""Importers by name. A new format is one file and one line here."""

from __future__ import annotations

import difflib
from pathlib import Path

from hocket.core.errors import CorpusError, UsageError
from hocket.corpus.importers.base import Importer
from hocket.corpus.importers.cuts import CutsImporter
from hocket.corpus.importers.synthetic import SyntheticImporter
from hocket.corpus.importers.table import TableImporter

IMPORTERS: dict[str, Importer] = {
    "synthetic": SyntheticImporter(),
    "cuts": CutsImporter(),
    "table": TableImporter(),
}
"""In the order in which they are asked whether a source is theirs."""


def find(source: str, format: str | None) -> Importer:
    """The importer of a format, or of the format that ``source`` looks like.

    Raises :class:`UsageError` for an unknown format, :class:`CorpusError` when none is recognised.
    """
    if format is not None:
        if format not in IMPORTERS:
            near = difflib.get_close_matches(format, IMPORTERS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(IMPORTERS))}."
            raise UsageError(f"format {format!r}: not known", hint)
        return IMPORTERS[format]
    for importer in IMPORTERS.values():
        if importer.detect(source):
            return importer
    if not Path(source).exists():
        raise CorpusError(
            f"{source}: no such file or folder", "The word synthetic makes a corpus of its own."
        )
    raise CorpusError(
        f"{source}: not a corpus that is recognised",
        "A source is a .jsonl, .csv or .tsv table with columns audio and text, a folder that holds one "
        "called manifest, a lhotse manifest of cuts, or the word synthetic.",
    )

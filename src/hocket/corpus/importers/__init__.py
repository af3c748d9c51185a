"""Importers by name. A new format is one file and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from hocket.core.errors import CorpusError, UsageError
from hocket.corpus.importers.an4 import An4Importer
from hocket.corpus.importers.base import Importer
from hocket.corpus.importers.cuts import CutsImporter
from hocket.corpus.importers.kaldi import KaldiImporter
from hocket.corpus.importers.lhotse_recipes import LhotseRecipe
from hocket.corpus.importers.librispeech import LibriSpeechImporter
from hocket.corpus.importers.synthetic import SyntheticImporter
from hocket.corpus.importers.table import TableImporter

IMPORTERS: dict[str, Importer] = {
    "synthetic": SyntheticImporter(),
    "cuts": CutsImporter(),
    "table": TableImporter(),
    "kaldi": KaldiImporter(),
    "an4": An4Importer(),
    "librispeech": LibriSpeechImporter(),
}
"""In the order in which they are asked whether a file is theirs; a folder must be of one alone."""

FAMILIES: dict[str, Callable[[str], Importer]] = {"lhotse": LhotseRecipe}
"""Formats that are asked for as ``FAMILY:NAME``."""


def find(source: str, format: str | None) -> Importer:
    """The importer of a format, or of the format that ``source`` looks like.

    Raises :class:`UsageError` for an unknown format, :class:`CorpusError` when none is recognised, or
    several are.
    """
    if format is not None:
        return _named(format)
    found = [name for name, importer in IMPORTERS.items() if importer.detect(source)]
    if len(found) > 1 and Path(source).is_dir():
        raise CorpusError(
            f"{source}: it could be any of {', '.join(found)}", f"Say which, such as --format {found[0]}."
        )
    if found:
        return IMPORTERS[found[0]]
    if not Path(source).exists():
        raise CorpusError(
            f"{source}: no such file or folder", "The word synthetic makes a corpus of its own."
        )
    raise CorpusError(
        f"{source}: not a corpus that is recognised",
        "A source is a .jsonl, .csv or .tsv table with columns audio and text, a folder that holds one "
        "called manifest, a lhotse manifest of cuts, a Kaldi data directory, the folder of AN4 or of "
        "LibriSpeech, or the word synthetic. lhotse's recipes know other corpora: --format lhotse:NAME.",
    )


def _named(format: str) -> Importer:
    family, colon, name = format.partition(":")
    if colon and family in FAMILIES:
        return FAMILIES[family](name)
    if format not in IMPORTERS:
        known = [*IMPORTERS, *(f"{family}:NAME" for family in FAMILIES)]
        near = difflib.get_close_matches(format, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known))}."
        raise UsageError(f"format {format!r}: not known", hint)
    return IMPORTERS[format]

"""A trained model in the format of another program. A format is one function and one line in the table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hocket.core import files
from hocket.core.errors import RunError, UsageError
from hocket.corpus import features
from hocket.corpus.tokens import Tokens
from hocket.model import FastConformerCTC, hf, store
from hocket.recognition.job import find_model

Write = Callable[[Path, FastConformerCTC, Tokens], None]
"""Writes a model and its tokens into a folder that is there and empty."""


@dataclass(frozen=True)
class Format:
    """A format that models can be written in."""

    what: str
    """What the folder is, in a few words."""
    write: Write


@dataclass(frozen=True)
class Exported:
    """What was written."""

    out: Path
    format: str
    files: Mapping[str, int]
    """Name of each file in ``out``, and its bytes."""
    num_parameters: int
    vocab_size: int
    """Tokens that the model writes, the blank included."""
    source_sha256: str
    """Hash of the weights in the run, as its ``summary.json`` names it."""


def export(source: Path, out: Path, format: str) -> Exported:
    """Write the model of a run (or a model folder) into the new folder ``out``, whole or not at all.

    Raises :class:`UsageError` for a format that is not known or that cannot hold this model, and
    :class:`RunError` when there is no model, or ``out`` is there already.
    """
    if format not in FORMATS:
        raise UsageError(f"format: {format!r} is not known", f"Known: {', '.join(FORMATS)}.")
    folder = find_model(source)
    if out.exists():
        raise RunError(f"{out}: it is there already", "Name another folder.")
    model, tokens = store.load(folder), Tokens.load(folder)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        FORMATS[format].write(temporary, model, tokens)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    files.fsync_dir(out.parent)
    return Exported(
        out=out,
        format=format,
        files={path.name: path.stat().st_size for path in sorted(out.iterdir())},
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocab_size=tokens.vocab_size,
        source_sha256=store.weights_sha256(model),
    )


def _write_hf(out: Path, model: FastConformerCTC, tokens: Tokens) -> None:
    """``ParakeetForCTC`` and the settings of ``ParakeetFeatureExtractor``; tokens as hocket keeps them."""
    hf.save(out, model)
    heard = features.parameters(model.config.num_mel_bins)
    files.write_json(out / hf.FEATURES, {"feature_extractor_type": hf.FEATURE_EXTRACTOR, **heard})
    tokens.save(out)


FORMATS: Mapping[str, Format] = {
    "hf": Format("ParakeetForCTC in Hugging Face's format", _write_hf),
}

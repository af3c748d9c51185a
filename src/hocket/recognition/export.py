"""A trained model in the format of another program. A format is one function and one line in the table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hocket.core import files
from hocket.core.errors import RunError, UsageError
from hocket.corpus import features
from hocket.corpus.tokens import Tokens
from hocket.hardware import catalogue, graph_facts
from hocket.hardware.card_check import CardCheck, check_graph, check_torch
from hocket.hardware.catalogue import Card
from hocket.model import FastConformerCTC, hf, store
from hocket.recognition import onnx_export, precision_cost
from hocket.recognition.job import find_model
from hocket.recognition.precision_cost import Cost, Way

Write = Callable[[Path, FastConformerCTC, Tokens], None]
"""Writes a model and its tokens into a folder that is there and empty."""
Shape = tuple[int, int]
"""Utterances, feature frames."""


@dataclass(frozen=True)
class Format:
    """A format that models can be written in."""

    what: str
    """What the folder is, in a few words."""
    write: Write
    write_int8: Callable[[Path, FastConformerCTC], None] | None = None
    """Adds the model in int8, where the format has that."""
    write_fixed: Callable[[Path, FastConformerCTC, Shape], None] | None = None
    """Adds the model for inputs of one shape alone, where the format has that."""


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
    costs: tuple[Cost, ...] = ()
    """What the ways of computing it cost in words, where that was asked for."""
    card_checks: tuple[CardCheck, ...] = ()
    """Each file beside the card that was named."""


def export(
    source: Path,
    out: Path,
    format: str,
    *,
    int8: bool = False,
    check: Sequence[str] = (),
    fixed: str | None = None,
    card: str | None = None,
) -> Exported:
    """Write the model of a run (or a model folder) into the new folder ``out``, whole or not at all.

    ``int8`` adds the model with products of integers, ``fixed`` (``1x1600``: utterances, feature frames)
    one for inputs of that shape alone. ``check`` are inputs, as of a recognition, that are then
    recognised by the run and by all that was written. ``card`` is one of the catalogue, which what was
    written is held against.

    Raises :class:`UsageError` for a format or card that is not known or a format that cannot hold this
    model, and :class:`RunError` when there is no model, or ``out`` is there already.
    """
    if format not in FORMATS:
        raise UsageError(f"format: {format!r} is not known", f"Known: {', '.join(FORMATS)}.")
    write_int8 = FORMATS[format].write_int8
    if write_int8 is None and (int8 or check):
        able = ", ".join(name for name, entry in FORMATS.items() if entry.write_int8)
        raise UsageError(f"format: {format!r} has no int8, and hocket does not run it", f"Known: {able}.")
    write_fixed = FORMATS[format].write_fixed
    shape = None if fixed is None else parse_shape(fixed)
    if shape is not None and write_fixed is None:
        raise UsageError(f"format: {format!r} holds no shapes to fix", "Use --format onnx.")
    target = None if card is None else catalogue.find(card)
    folder = find_model(source)
    if out.exists():
        raise RunError(f"{out}: it is there already", "Name another folder.")
    model, tokens = store.load(folder), Tokens.load(folder)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        FORMATS[format].write(temporary, model, tokens)
        if int8 and write_int8 is not None:
            write_int8(temporary, model)
        if shape is not None and write_fixed is not None:
            write_fixed(temporary, model, shape)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    files.fsync_dir(out.parent)
    ways = [Way("the run, fp32", str(folder), "fp32"), Way("written, fp32", str(out), "fp32")]
    ways += [Way("written, int8", str(out), "int8")] if int8 else []
    return Exported(
        out=out,
        format=format,
        files={path.name: path.stat().st_size for path in sorted(out.iterdir())},
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocab_size=tokens.vocab_size,
        source_sha256=store.weights_sha256(model),
        costs=tuple(precision_cost.measure(ways, check)) if check else (),
        card_checks=() if target is None else tuple(_beside(target, out, model)),
    )


def parse_shape(text: str) -> Shape:
    """``1x1600`` as (utterances, feature frames). Raises :class:`UsageError` for anything else."""
    utterances, cross, frames = text.partition("x")
    if not (cross and utterances.isdecimal() and frames.isdecimal() and int(utterances) and int(frames)):
        raise UsageError(
            f"--fixed {text}: not a shape", "Say utterances x frames of 10 ms, as in 1x1600 for one of 16 s."
        )
    return int(utterances), int(frames)


def _beside(card: Card, out: Path, model: FastConformerCTC) -> Iterator[CardCheck]:
    """Everything that was written, held against a card."""
    graphs = sorted(out.glob("*.onnx"))
    for path in graphs:
        yield check_graph(card, graph_facts.read(path))
    if not graphs:
        weight_bytes = sum(each.numel() * each.element_size() for each in model.parameters())
        yield check_torch(card, out.name, weight_bytes)


def _write_hf(out: Path, model: FastConformerCTC, tokens: Tokens) -> None:
    """``ParakeetForCTC`` and the settings of ``ParakeetFeatureExtractor``; tokens as hocket keeps them."""
    hf.save(out, model)
    heard = features.parameters(model.config.num_mel_bins)
    files.write_json(out / hf.FEATURES, {"feature_extractor_type": hf.FEATURE_EXTRACTOR, **heard})
    tokens.save(out)


FORMATS: Mapping[str, Format] = {
    "onnx": Format(
        "ONNX for hocket, ONNX Runtime and sherpa-onnx",
        onnx_export.write,
        onnx_export.write_int8,
        onnx_export.write_fixed,
    ),
    "hf": Format("ParakeetForCTC in Hugging Face's format", _write_hf),
}

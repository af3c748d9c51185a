"""From what a user names (a run, a model, an exported or a published folder) to what computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hocket.core.cost import CostModel
from hocket.core.errors import CheckpointError, RunError, UsageError
from hocket.corpus.tokens import Tokens
from hocket.decoding.vocabulary import Vocabulary
from hocket.hardware.device import choose_device
from hocket.model import hf, store, workload
from hocket.model.config import ModelConfig
from hocket.recognition import published
from hocket.recognition.encoders import Encoder, OnnxEncoder, TorchEncoder

Precision = Literal["fp32", "bf16", "int8"]
Kind = Literal["hocket", "onnx", "hf"]

ONNX = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
"""Graphs of an exported folder, by precision."""


@dataclass(frozen=True)
class Found:
    """A folder that holds a model, and of which kind."""

    folder: Path
    kind: Kind

    def __str__(self) -> str:
        """As :func:`find` takes it, from wherever a process runs."""
        return f"{published.PREFIX if self.kind == 'hf' else ''}{self.folder.absolute()}"


def check_precision(precision: str) -> None:
    """Raises :class:`UsageError` unless it is a :data:`Precision`."""
    known = get_args(Precision)
    if precision not in known:
        raise UsageError(f"precision: {precision!r} is not known", f"Known: {', '.join(known)}.")


def find(name: str | Path) -> Found:
    """The model of a run folder, of a model folder, of an exported one, or ``hf:FOLDER``.

    Raises :class:`RunError` when there is none.
    """
    if str(name).startswith(published.PREFIX):
        folder = Path(str(name).removeprefix(published.PREFIX))
        if not (folder / hf.CONFIG).is_file():
            raise RunError(f"{folder}: no {hf.CONFIG} in it", "hf:FOLDER names a folder on this machine.")
        return Found(folder, "hf")
    path = Path(name)
    for folder in (path / "model", path):
        if any((folder / graph).is_file() for graph in ONNX.values()):
            return Found(folder, "onnx")
        if (folder / store.CONFIG).is_file():
            return Found(folder, "hocket")
    if not path.is_dir():
        raise RunError(f"{path}: no such run folder")
    raise RunError(f"{path}: there is no model in it yet", "A run writes its model folder when it has ended.")


def check(found: Found, device: str, precision: str) -> None:
    """Raises :class:`UsageError` for a device or a precision that this kind of model has not."""
    check_precision(precision)
    if found.kind == "onnx" and (device == "cuda" or precision not in ONNX):
        raise UsageError(
            f"{found.folder}: ONNX Runtime computes on the CPU, in {' or '.join(ONNX)}",
            "For a GPU or bf16 give the run that was exported.",
        )
    if found.kind != "onnx" and precision == "int8":
        raise UsageError(
            "precision: int8 is for exported models",
            f"hocket export {found.folder} OUT --format onnx --int8, then recognise with OUT.",
        )


def check_split(found: Found, sp: int) -> None:
    """Raises :class:`UsageError` for a model whose frames ``sp`` processes cannot share."""
    if sp < 1:
        raise UsageError(f"layout: sp={sp}: degrees start at 1")
    if sp > 1 and (found.kind == "onnx" or (found.kind == "hf" and not is_parakeet(found))):
        raise UsageError(
            f"layout: sp={sp}: {found.folder} is not computed by hocket's own model, and cannot be split",
            "Give the run that it was exported from, or leave out --layout.",
        )


def load(
    found: Found, device: str = "auto", precision: str = "fp32", slot: int = 0, threads: int = 1
) -> tuple[Encoder, Vocabulary]:
    """What computes, and its tokens. ``slot`` chooses the GPU where there are several.

    Raises :class:`UsageError` for a device or precision that this kind of model has not, and
    :class:`CheckpointError` when the folder is no such model.
    """
    check(found, device, precision)
    encoder: Encoder
    if found.kind == "onnx":
        encoder = OnnxEncoder(found.folder / ONNX[precision], threads)
        vocabulary = Vocabulary.of(Tokens.load(found.folder))
    else:
        chosen = choose_device(device, slot)
        if found.kind == "hocket":
            encoder = TorchEncoder(store.load(found.folder), chosen, precision)
            vocabulary = Vocabulary.of(Tokens.load(found.folder))
        else:
            vocabulary = published.vocabulary(found.folder)
            if is_parakeet(found):
                encoder = TorchEncoder(hf.load(found.folder), chosen, precision)
            else:
                encoder = published.WaveformEncoder(found.folder, chosen, precision)
    if encoder.vocab_size != vocabulary.vocab_size:
        raise CheckpointError(
            f"{found.folder}: the model writes {encoder.vocab_size} tokens, "
            f"the token set has {vocabulary.vocab_size}"
        )
    return encoder, vocabulary


def cost(found: Found) -> CostModel:
    """What a micro-batch costs, to be dealt by. Raises :class:`CheckpointError` for another kind of model."""
    if found.kind == "hf":
        if is_parakeet(found):
            return workload.cost(hf.read_config(found.folder))
        # Unknown in detail; a transformer of the usual shape: 20 ms frames, as many as base models do.
        return workload.cost(ModelConfig.model_validate({"preset": "large", "vocab_size": 32}))
    return workload.cost(store.load_config(found.folder))


def is_parakeet(found: Found) -> bool:
    """True for a published folder whose model is of hocket's own kind."""
    return bool(published.read_json(found.folder / hf.CONFIG).get("model_type") == hf.MODEL_TYPE)

"""Named tensors read from safetensors files and checked against a model before any is taken over."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hocket.core import files
from hocket.core.errors import CheckpointError

WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_NAMED = 3
"""How many differing tensors an error names."""


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors of ``model.safetensors``, or of the parts its index lists.

    Raises :class:`CheckpointError` for a file that is missing or torn.
    """
    index = folder / _INDEX
    if (folder / WEIGHTS).exists() or not index.exists():
        return _read_file(folder / WEIGHTS)
    try:
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index}: not an index of safetensors files ({error!r})") from error
    tensors: dict[str, Tensor] = {}
    for part in parts:
        tensors |= _read_file(folder / part)
    return tensors


def write(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write ``model.safetensors`` whole, or leave what was there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(whole, temporary, metadata=dict(metadata))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    files.fsync_dir(folder)


def take_over(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy ``tensors`` into ``model`` in place, in the model's types and devices.

    Raises :class:`CheckpointError` naming the first tensors that are missing, unknown or of another
    shape; the model is then unchanged.
    """
    own = model.state_dict()
    problems = [f"{name}: missing" for name in own if name not in tensors]
    problems += [f"{name}: not in the model" for name in tensors if name not in own]
    problems += [
        f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CheckpointError(
            f"{source}: weights of another model: {'; '.join(problems[:_NAMED])}{more}",
            "The configuration must be the one that the weights were trained with.",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file", "A model folder holds config.json and model.safetensors."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: torn or not a safetensors file: {error}", "Copy it again.") from error

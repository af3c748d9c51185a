"""Model folders: ``config.json`` and ``model.safetensors``, all that recognition needs of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from hocket.core import files
from hocket.core.errors import CheckpointError
from hocket.model import tensors
from hocket.model.config import ModelConfig
from hocket.model.ctc import FastConformerCTC

CONFIG = "config.json"
_FORMAT = "hocket-model"
_VERSION = 1


def save(folder: Path, model: FastConformerCTC, extra: Mapping[str, Any] | None = None) -> None:
    """Write ``model`` to ``folder``; ``extra`` (feature settings, say) goes into the configuration.

    Weights come first and the configuration names their checksum: a folder in which a crash left the
    two apart is refused by :func:`load`.
    """
    tensors.write(folder, model.state_dict(), {"format": "pt"})
    digest = files.sha256(folder / tensors.WEIGHTS)
    files.write_json(folder / CONFIG, document(model.config, digest, extra))


def document(
    config: ModelConfig, weights_sha256: str, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``config.json`` says of a model and of the weights beside it."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "model": config.model_dump(mode="json"),
        "weights_sha256": weights_sha256,
        "extra": dict(extra or {}),
    }


def load(folder: Path) -> FastConformerCTC:
    """The model of ``folder``, on the CPU, in evaluation mode.

    Raises :class:`CheckpointError` for files that are missing, torn, altered or of another model.
    """
    config = load_config(folder)
    weights = tensors.read(folder)
    if files.sha256(folder / tensors.WEIGHTS) != read_config(folder).get("weights_sha256"):
        raise CheckpointError(
            f"{folder / tensors.WEIGHTS}: not the weights that {CONFIG} was written with",
            "Copy the folder again, both files from the same run.",
        )
    model = FastConformerCTC(config)
    tensors.take_over(model, weights, folder / tensors.WEIGHTS)
    return model.eval()


def load_config(folder: Path) -> ModelConfig:
    """:class:`ModelConfig` of a model folder; raises :class:`CheckpointError`."""
    try:
        return ModelConfig.model_validate(read_config(folder)["model"])
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{folder / CONFIG}: not the configuration of a model: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model folder: ``model``, ``weights_sha256``, ``extra``.

    Raises :class:`CheckpointError` when it is missing, no JSON, or of another format.
    """
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read: {error.strerror}", "Is this a model folder?") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: not a {_FORMAT}", "Folders in Hugging Face's format: hocket.model.hf.load."
        )
    if document.get("version") != _VERSION:
        raise CheckpointError(
            f"{path}: version {document.get('version')}, this hocket reads version {_VERSION}"
        )
    return document


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of all names, types, shapes and values: equal for models that are equal bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

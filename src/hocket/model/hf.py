"""Models in Hugging Face's format: ``ParakeetForCTC`` folders, both ways, without ``transformers``.

Names and shapes of the tensors are the same; what differs is the configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hocket.core import files
from hocket.core.errors import CheckpointError, UsageError
from hocket.model import tensors
from hocket.model.config import CUSTOM, ModelConfig
from hocket.model.ctc import FastConformerCTC

CONFIG = "config.json"
MODEL_TYPE = "parakeet_ctc"
FEATURES = "preprocessor_config.json"
FEATURE_EXTRACTOR = "ParakeetFeatureExtractor"
"""What transformers makes this model's input with, and the file that holds its settings."""

_SHAPE = {
    "num_mel_bins": "num_mel_bins",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "ff_size": "intermediate_size",
    "conv_kernel_size": "conv_kernel_size",
    "subsampling_factor": "subsampling_factor",
    "subsampling_channels": "subsampling_conv_channels",
    "attention_bias": "attention_bias",
    "conv_bias": "convolution_bias",
    "scale_input": "scale_input",
    "dropout": "dropout",
    "ff_dropout": "activation_dropout",
    "input_dropout": "dropout",
}
"""Our key to the one in ``encoder_config``."""

_FIXED = {"hidden_act": "silu", "subsampling_conv_kernel_size": 3, "subsampling_conv_stride": 2}
"""What a published model may say in ``encoder_config``, and what it must then say."""


def load(folder: Path) -> FastConformerCTC:
    """The model of a ``ParakeetForCTC`` folder (config.json, model.safetensors), in evaluation mode.

    Its batch norm stays frozen. Raises :class:`CheckpointError` for another kind of model and for
    files that are missing, torn or do not fit together.
    """
    config = read_config(folder)
    model = FastConformerCTC(config)
    tensors.take_over(model, tensors.read(folder), folder)
    return model.eval()


def read_config(folder: Path) -> ModelConfig:
    """:class:`ModelConfig` of a ``ParakeetForCTC`` folder; raises :class:`CheckpointError`."""
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        kind = document["model_type"]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a Hugging Face configuration: {error!r}") from error
    if kind != MODEL_TYPE:
        raise CheckpointError(f"{path}: a model of type {kind!r}", f"Only {MODEL_TYPE!r} can be imported.")
    try:
        return _from_hf(document, path)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the configuration lacks {error}") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: a model of a shape that hocket has not: {error}") from error


def save(folder: Path, model: FastConformerCTC) -> None:
    """Write ``model`` as a ``ParakeetForCTC`` folder that ``from_pretrained`` takes.

    Raises :class:`UsageError` for a model with layer norm in its convolution module (that format has
    batch norm there, and no batch norm computes the same), and for one of limited context.
    """
    if model.config.conv_norm != "frozen_batch_norm":
        raise UsageError(
            "only a model with conv_norm: frozen_batch_norm fits Hugging Face's ParakeetForCTC; this one "
            "normalises each frame by itself (conv_norm: layer_norm)",
            "Train with model.conv_norm: frozen_batch_norm, or on from an imported model (init: hf:FOLDER).",
        )
    if model.config.left_context is not None or model.config.right_context is not None:
        raise UsageError(
            "Hugging Face's ParakeetForCTC attends to all frames; this model was trained with "
            f"left_context: {model.config.left_context}, right_context: {model.config.right_context}",
            "Export it to ONNX (--format onnx), which keeps the limits.",
        )
    tensors.write(folder, model.state_dict(), {"format": "pt"})
    files.write_json(folder / CONFIG, _to_hf(model.config))


def _from_hf(document: dict[str, Any], path: Path) -> ModelConfig:
    encoder = document["encoder_config"]
    for name, value in _FIXED.items():
        if encoder.get(name, value) != value:
            raise CheckpointError(f"{path}: {name} is {encoder[name]!r}; hocket computes {value!r} alone")
    vocab_size, blank = document["vocab_size"], document["pad_token_id"]
    if blank != vocab_size - 1:
        raise CheckpointError(f"{path}: the blank is token {blank} of {vocab_size}; it must be the last")
    shape = {own: encoder[name] for own, name in _SHAPE.items()}
    fixed = {"preset": CUSTOM, "conv_norm": "frozen_batch_norm", "vocab_size": vocab_size}
    return ModelConfig.model_validate({**shape, **fixed})


def _to_hf(config: ModelConfig) -> dict[str, Any]:
    encoder = {name: getattr(config, own) for own, name in _SHAPE.items() if own != "input_dropout"}
    return {
        "architectures": ["ParakeetForCTC"],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "pad_token_id": config.blank,
        "dtype": "float32",
        "encoder_config": {"model_type": "parakeet_encoder", **_FIXED, **encoder},
    }

"""What is computed: the FastConformer-CTC acoustic model, what it costs, and where it can be split."""

from hocket.model.config import ModelConfig
from hocket.model.ctc import FastConformerCTC, build

__all__ = ["FastConformerCTC", "ModelConfig", "build"]

"""Fewer, wider frames: strided convolutions over time and frequency, then one linear layer.

The first convolution is a full one, each further one depthwise and pointwise (FastConformer, Rekesh
et al., 2023). Everything is laid out channels-last, where oneDNN has fast kernels; the convolutions
run in float32 under autocast, since oneDNN's bfloat16 depthwise backward pass is over ten times
slower.

Shape suffixes: B utterances, C channels, T frames, F mel bins (halved by each stage), D hidden.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hocket.model.config import ModelConfig
from hocket.model.frames import valid_frames


class Subsampling(nn.Module):
    """Mel features (B, T, F) to hidden frames (B, ceil(T / factor), D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.subsampling_channels
        # ``layers`` counts the activations too, as published checkpoints do: 0, 2, 3, 5, 6.
        self.layers = nn.ModuleList([_strided(1, channels, groups=1), nn.ReLU()])
        for _ in range(config.num_stages - 1):
            self.layers.extend(
                [_strided(channels, channels, channels), nn.Conv2d(channels, channels, 1), nn.ReLU()]
            )
        self.num_bins = config.num_mel_bins // config.subsampling_factor
        self.linear = nn.Linear(channels * self.num_bins, config.hidden_size)

    def forward(self, features_BTF: Tensor, lens_B: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden frames (B, T', D) and their lengths; what lies in the padding has no influence."""
        x_BTF = features_BTF * valid_frames(lens_B, features_BTF.shape[1])[..., None]
        x_BCTF = x_BTF[..., None].permute(
            0, 3, 1, 2
        )  # the strides of a channels-last tensor, not only its order
        for layer in self.layers:
            if not isinstance(layer, nn.Conv2d):
                x_BCTF = _relu_without_padding(x_BCTF, lens_B)
            elif layer.kernel_size == (1, 1):
                x_BCTF = _pointwise(layer, x_BCTF)
            else:
                x_BCTF = _convolve(layer, x_BCTF)
                lens_B = (lens_B + 1) // 2
        x_BTFC = x_BCTF.permute(0, 2, 3, 1)
        return F.linear(x_BTFC.flatten(2), self._channels_last_weight(), self.linear.bias), lens_B

    def _channels_last_weight(self) -> Tensor:
        """The linear layer's weight for inputs (F, C) instead of the checkpoint's (C, F)."""
        weight_DCF = self.linear.weight.view(len(self.linear.weight), -1, self.num_bins)
        return weight_DCF.transpose(1, 2).flatten(1)


def _strided(in_channels: int, out_channels: int, groups: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, groups=groups)


def _convolve(layer: nn.Conv2d, x_BCTF: Tensor) -> Tensor:
    """A 3x3 convolution, at least in float32."""
    with torch.autocast(x_BCTF.device.type, enabled=False):
        x_BCTF = _widened(x_BCTF)
        weight = layer.weight.to(x_BCTF.dtype).contiguous(memory_format=torch.channels_last)
        bias = None if layer.bias is None else layer.bias.to(x_BCTF.dtype)
        return F.conv2d(x_BCTF, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _pointwise(layer: nn.Conv2d, x_BCTF: Tensor) -> Tensor:
    """A 1x1 convolution as a product of matrices."""
    weight = layer.weight.flatten(1).to(x_BCTF.dtype)
    bias = None if layer.bias is None else layer.bias.to(x_BCTF.dtype)
    return F.linear(x_BCTF.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _relu_without_padding(x_BCTF: Tensor, lens_B: Tensor) -> Tensor:
    """ReLU and silence beyond the lengths, written over ``x``."""
    valid_BT = valid_frames(lens_B, x_BCTF.shape[2])
    valid_B1T1 = valid_BT[:, None, :, None].to(x_BCTF.dtype)
    y_BCTF: Tensor = _ReluMask.apply(x_BCTF, valid_B1T1)  # type: ignore[no-untyped-call]
    return y_BCTF


class _ReluMask(torch.autograd.Function):
    """One pass backward instead of two: what the mask silences, ReLU's derivative silences too."""

    @staticmethod
    def forward(ctx: Any, x_BCTF: Tensor, valid_B1T1: Tensor) -> Tensor:
        ctx.mark_dirty(x_BCTF)
        y_BCTF = x_BCTF.mul_(valid_B1T1).relu_()
        ctx.save_for_backward(y_BCTF)
        return y_BCTF

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (y_BCTF,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], y_BCTF, 0), None


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x

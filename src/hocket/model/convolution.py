"""The convolution module: gate, convolve each channel over time, normalise, mix.

Weights are shaped as in published checkpoints (1x1 convolutions); frames stay (B, T, D) throughout.

Shape suffixes: B utterances, T frames, D channels, K kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hocket.model.config import ModelConfig
from hocket.model.frames import Frames
from hocket.model.time import TimePart


class Pointwise(nn.Module):
    """A convolution of kernel 1, (..., in) to (..., out); its weight is (out, in, 1)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """A linear layer over the last dimension."""
        return F.linear(x, self.weight.squeeze(-1), self.bias)


class DepthwiseConv(nn.Module):
    """Each channel convolved over time with a kernel of its own; its weight is (D, 1, K)."""

    def __init__(self, channels: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel_size))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None

    def forward(self, x_BTD: Tensor, part: TimePart) -> Tensor:
        """Same length; zeros beyond the ends of the whole.

        As a 2-d convolution of height T and width 1, whose channels-last layout is the (B, T, D) at
        hand: oneDNN's kernels for it take a third of the time of the 1-d convolution.
        """
        reach = self.weight.shape[-1] // 2
        padding = reach
        if part.num_parts > 1:
            lacking = max(0, reach - part.span.first), max(0, part.span.end + reach - part.num_frames)
            x_BTD, padding = F.pad(part.halo(x_BTD, 1, reach, reach), (0, 0, *lacking)), 0
        x_BDT1 = x_BTD.transpose(1, 2).unsqueeze(-1)
        y_BDT1 = F.conv2d(
            x_BDT1,
            self.weight.unsqueeze(-1),
            self.bias,
            padding=(padding, 0),
            groups=self.weight.shape[0],
        )
        return y_BDT1.squeeze(-1).transpose(1, 2)


class FrozenBatchNorm(nn.Module):
    """Batch norm that stays with the statistics it came with: a scale and a shift per channel.

    Statistics of a batch would make the gradient depend on how the work was dealt.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """``x * scale + shift``."""
        scale_D = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift_D = self.bias - self.running_mean * scale_D
        return torch.addcmul(shift_D.to(x_BTD.dtype), x_BTD, scale_D.to(x_BTD.dtype))


class ConvolutionModule(nn.Module):
    """(B, T, D) to (B, T, D): what attention does for far frames, for near ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, bias = config.hidden_size, config.conv_bias
        self.pointwise_conv1 = Pointwise(hidden, 2 * hidden, bias)
        self.depthwise_conv = DepthwiseConv(hidden, config.conv_kernel_size, bias)
        self.norm = nn.LayerNorm(hidden) if config.conv_norm == "layer_norm" else FrozenBatchNorm(hidden)
        self.pointwise_conv2 = Pointwise(hidden, hidden, bias)

    def forward(self, x_BTD: Tensor, frames: Frames) -> Tensor:
        """Padding is silenced before it can reach a neighbour."""
        x_BTD = F.glu(self.pointwise_conv1(x_BTD), dim=-1).mul_(frames.valid_BT1)
        x_BTD = F.silu(self.norm(self.depthwise_conv(x_BTD, frames.part)))
        y_BTD: Tensor = self.pointwise_conv2(x_BTD)
        return y_BTD

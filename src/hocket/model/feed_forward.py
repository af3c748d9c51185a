"""The feed-forward module: two linear layers around a SiLU."""

from __future__ import annotations

from torch import Tensor, nn

from hocket.model.config import ModelConfig
from hocket.model.dropout import Site, silu_dropout
from hocket.model.frames import Frames


class FeedForward(nn.Module):
    """(B, T, D) to (B, T, D) through ``ff_size`` channels."""

    first_channel: int = 0
    """Where this rank's inner channels begin; not 0 only where the module is split by channels."""

    def __init__(self, config: ModelConfig, site: str) -> None:
        super().__init__()
        self.inner = Site(f"{site}.inner", config.ff_dropout)
        self.linear1 = nn.Linear(config.hidden_size, config.ff_size, bias=config.attention_bias)
        self.linear2 = nn.Linear(config.ff_size, config.hidden_size, bias=config.attention_bias)

    def forward(self, x_BTD: Tensor, frames: Frames) -> Tensor:
        """Each frame by itself."""
        inner_BTC = silu_dropout(self.linear1(x_BTD), self.inner, frames.masks, self.first_channel)
        y_BTD: Tensor = self.linear2(inner_BTC)
        return y_BTD

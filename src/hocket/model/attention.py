"""Self-attention with relative positions (Transformer-XL, Dai et al., 2019, arXiv:1901.02860).

Shape suffixes: B utterances, T frames, H heads, E channels of a head, D = H*E hidden, P = 2T - 1
distances.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hocket.model.config import ModelConfig
from hocket.model.frames import Frames
from hocket.model.scores import attend


class RelativeAttention(nn.Module):
    """Multi-head attention whose scores see content and distance.

    The distances are projected once per batch. The heads are counted from the projections' outputs,
    so that a rank may hold some of the heads.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, bias = config.hidden_size, config.attention_bias
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(hidden, hidden, bias=bias)
        self.k_proj = nn.Linear(hidden, hidden, bias=bias)
        self.v_proj = nn.Linear(hidden, hidden, bias=bias)
        self.o_proj = nn.Linear(hidden, hidden, bias=bias)
        self.relative_k_proj = nn.Linear(hidden, hidden, bias=False)
        self.bias_u = nn.Parameter(torch.zeros(config.num_heads, config.head_dim))
        self.bias_v = nn.Parameter(torch.zeros(config.num_heads, config.head_dim))

    def forward(self, x_BTD: Tensor, frames: Frames) -> Tensor:
        """Attend over the frames of each utterance; padding is never attended to."""
        q_HBTE = self._heads(self.q_proj(x_BTD))
        k_HBTE = self._heads(self.k_proj(x_BTD))
        v_HBTE = self._heads(self.v_proj(x_BTD))
        r_HPE = self._heads(self.relative_k_proj(frames.positions_PD))
        content_HBTE = q_HBTE + self.bias_u.to(q_HBTE.dtype)[:, None, None]
        distance_HBTE = q_HBTE + self.bias_v.to(q_HBTE.dtype)[:, None, None]
        out_HBTE = attend(content_HBTE, distance_HBTE, k_HBTE, v_HBTE, r_HPE, frames.key_bias_BT)
        out_BTD: Tensor = self.o_proj(out_HBTE.permute(1, 2, 0, 3).flatten(2))
        return out_BTD

    def _heads(self, x_D: Tensor) -> Tensor:
        """(..., H*E) as (H, ..., E), contiguous: all products below are then batched over heads."""
        return x_D.view(*x_D.shape[:-1], -1, self.head_dim).movedim(-2, 0).contiguous()

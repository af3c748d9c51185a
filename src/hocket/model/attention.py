"""Self-attention with relative positions (Transformer-XL, Dai et al., 2019, arXiv:1901.02860).

Shape suffixes: B utterances, T frames, H heads, E channels of a head, D = H*E hidden, P = 2T - 1
distances.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hocket.model.blockwise import attend_blockwise
from hocket.model.config import ModelConfig
from hocket.model.frames import Frames
from hocket.model.scores import attend


class RelativeAttention(nn.Module):
    """Multi-head attention whose scores see content and distance.

    By a table of all scores, or in tiles for long audio (``frames.key_bias_BQT`` is then None). The
    distances are projected once per batch. The heads are counted from the projections' outputs,
    so that a rank may hold some of the heads.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, bias = config.hidden_size, config.attention_bias
        self.head_dim = config.head_dim
        self.product: Callable[[Tensor, Tensor, Tensor | None], Tensor] = F.linear
        """Of frames and the weights of queries, keys and values; another where heads are split over ranks."""
        self.q_proj = nn.Linear(hidden, hidden, bias=bias)
        self.k_proj = nn.Linear(hidden, hidden, bias=bias)
        self.v_proj = nn.Linear(hidden, hidden, bias=bias)
        self.o_proj = nn.Linear(hidden, hidden, bias=bias)
        self.relative_k_proj = nn.Linear(hidden, hidden, bias=False)
        self.bias_u = nn.Parameter(torch.zeros(config.num_heads, config.head_dim))
        self.bias_v = nn.Parameter(torch.zeros(config.num_heads, config.head_dim))

    def forward(self, x_BTD: Tensor, frames: Frames) -> Tensor:
        """Attend over the frames of each utterance; padding is never attended to."""
        qkv_3HBTE = self._project(x_BTD)
        if frames.key_bias_BQT is None:
            weight_DD = self.relative_k_proj.weight
            out_HBTE = attend_blockwise(qkv_3HBTE, self.bias_u, self.bias_v, weight_DD, frames)
        else:
            out_HBTE = self._attend(qkv_3HBTE, frames, frames.key_bias_BQT)
        out_BTD: Tensor = self.o_proj(out_HBTE.permute(1, 2, 0, 3).flatten(2))
        return out_BTD

    def _attend(self, qkv_3HBTE: Tensor, frames: Frames, key_bias_BQT: Tensor) -> Tensor:
        """Values (H, B, T, E) by a table of all scores."""
        q_HBTE, k_HBTE, v_HBTE = qkv_3HBTE.unbind()
        r_PD = self.relative_k_proj(frames.positions_PD)
        r_HPE = r_PD.view(len(r_PD), -1, self.head_dim).transpose(0, 1)
        content_HBTE = q_HBTE + self.bias_u.to(q_HBTE.dtype)[:, None, None]
        distance_HBTE = q_HBTE + self.bias_v.to(q_HBTE.dtype)[:, None, None]
        return attend(content_HBTE, distance_HBTE, k_HBTE, v_HBTE, r_HPE, key_bias_BQT)

    def _project(self, x_BTD: Tensor) -> Tensor:
        """Queries, keys and values (3, H, B, T, E), by one product instead of three.

        Contiguous: all products that follow are then batched over heads.
        """
        layers = (self.q_proj, self.k_proj, self.v_proj)
        weight_CD = torch.cat([layer.weight for layer in layers])
        bias_C = None if self.q_proj.bias is None else torch.cat([layer.bias for layer in layers])
        x_BTC = self.product(x_BTD, weight_CD, bias_C)
        x_BT3HE = x_BTC.view(*x_BTC.shape[:-1], len(layers), -1, self.head_dim)
        return x_BT3HE.permute(2, 3, 0, 1, 4).contiguous()

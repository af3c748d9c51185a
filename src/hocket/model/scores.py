"""Attention over content and distance: the same formula twice.

``softmax((qc k' + shift(qd r') + key_bias) * E**-0.5) v``, where ``shift`` picks, for frames i and
j, the product with distance i - j.

* On CPUs: products and softmax by hand, with a backward pass of its own. When the additive mask
  needs a gradient, torch's fused CPU kernel is not used, and what is used instead takes twice the
  time.
* Elsewhere, and for export: torch's ``scaled_dot_product_attention`` with the distances as its
  additive mask.

Shape suffixes: H heads, B utterances, T frames, E channels of a head, P = 2T - 1 distances,
Q 1 or T.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    content_HBTE: Tensor,
    distance_HBTE: Tensor,
    k_HBTE: Tensor,
    v_HBTE: Tensor,
    r_HPE: Tensor,
    key_bias_BQT: Tensor,
) -> Tensor:
    """Attended values (H, B, T, E). ``content`` and ``distance`` are the queries for the two terms.

    ``r`` holds the keys of the distances T-1 ... -(T-1); ``key_bias`` is added to all scores of a
    frame as a key (Q is 1), or to each score (Q is T).
    """
    arguments = (content_HBTE, distance_HBTE, k_HBTE, v_HBTE, r_HPE, key_bias_BQT)
    if k_HBTE.device.type == "cpu" and not torch.compiler.is_compiling():
        out_HBTE: Tensor = _Attend.apply(*arguments)  # type: ignore[no-untyped-call]
        return out_HBTE
    return attend_fused(*arguments)


def attend_fused(
    content_HBTE: Tensor,
    distance_HBTE: Tensor,
    k_HBTE: Tensor,
    v_HBTE: Tensor,
    r_HPE: Tensor,
    key_bias_BQT: Tensor,
) -> Tensor:
    """:func:`attend` through ``scaled_dot_product_attention``."""
    scale = k_HBTE.shape[-1] ** -0.5
    by_distance_HBTP = distance_HBTE @ r_HPE[:, None].transpose(-1, -2)
    bias_HBTT = torch.add(key_bias_BQT, by_distance(by_distance_HBTP), alpha=scale)
    content, k, v, bias = (x.transpose(0, 1) for x in (content_HBTE, k_HBTE, v_HBTE, bias_HBTT))
    return F.scaled_dot_product_attention(content, k, v, attn_mask=bias, scale=scale).transpose(0, 1)


def by_distance(scores_TP: Tensor) -> Tensor:
    """View (..., T, P) by distance as (..., T, S): entry (i, j) is the one of distance i - j.

    T queries and S = P - T + 1 keys; the distances go from the last query and the first key down to the
    converse. Distance i - j is column T-1-i+j. In memory that is T-1 + i*(P-1) + j: rows shorter by one.
    """
    num_frames, num_distances = scores_TP.shape[-2:]
    if num_frames == 1:
        return scores_TP
    flat = scores_TP.flatten(-2)[..., num_frames - 1 : num_frames * num_distances - 1]
    rows = flat.view(*flat.shape[:-1], num_frames, num_distances - 1)
    return rows[..., : num_distances - num_frames + 1]


def _softmax(scores_NTT: Tensor) -> Tensor:
    """Softmax over keys, in float32 for narrower types: more exact, and faster there on CPUs too."""
    if scores_NTT.dtype in (torch.bfloat16, torch.float16):
        return torch.softmax(scores_NTT.float(), -1).to(scores_NTT.dtype)
    return torch.softmax(scores_NTT, -1)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        qc_HBTE: Tensor,
        qd_HBTE: Tensor,
        k_HBTE: Tensor,
        v_HBTE: Tensor,
        r_HPE: Tensor,
        bias_BQT: Tensor,
    ) -> Tensor:
        H, B, T, E = k_HBTE.shape
        scale = E**-0.5
        products_HBTP = torch.bmm(qd_HBTE.view(H, B * T, E), r_HPE.transpose(1, 2)).view(H, B, T, -1)
        scores_NTT = torch.add(bias_BQT, by_distance(products_HBTP), alpha=scale).view(H * B, T, T)
        scores_NTT.baddbmm_(qc_HBTE.view(-1, T, E), k_HBTE.view(-1, T, E).transpose(1, 2), alpha=scale)
        weights_NTT = _softmax(scores_NTT)
        ctx.save_for_backward(qc_HBTE, qd_HBTE, k_HBTE, v_HBTE, r_HPE, weights_NTT)
        return torch.bmm(weights_NTT, v_HBTE.view(-1, T, E)).view(H, B, T, E)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qc_HBTE, qd_HBTE, k_HBTE, v_HBTE, r_HPE, weights_NTT = ctx.saved_tensors
        H, B, T, E = k_HBTE.shape
        P, shape, rows = r_HPE.shape[1], (H, B, T, E), (H * B, T, E)
        grad_NTE = grads[0].contiguous().view(rows)
        grad_v_NTE = torch.bmm(weights_NTT.transpose(1, 2), grad_NTE)
        grad_weights_NTT = torch.bmm(grad_NTE, v_HBTE.view(rows).transpose(1, 2))
        dtype = weights_NTT.dtype
        grad_NTT = torch._softmax_backward_data(grad_weights_NTT, weights_NTT, -1, dtype).mul_(E**-0.5)
        grad_qc_NTE = torch.bmm(grad_NTT, k_HBTE.view(rows))
        grad_k_NTE = torch.bmm(grad_NTT.transpose(1, 2), qc_HBTE.view(rows))
        grad_HBTP = grad_NTT.new_zeros(H, B, T, P)
        by_distance(grad_HBTP).copy_(grad_NTT.view(H, B, T, T))
        grad_HSP = grad_HBTP.view(H, B * T, P)
        grad_qd_HSE = torch.bmm(grad_HSP, r_HPE)
        grad_r_HPE = torch.bmm(grad_HSP.transpose(1, 2), qd_HBTE.view(H, B * T, E))
        grads_NTE = (grad_qc_NTE, grad_qd_HSE, grad_k_NTE, grad_v_NTE)
        return *(grad.view(shape) for grad in grads_NTE), grad_r_HPE, None

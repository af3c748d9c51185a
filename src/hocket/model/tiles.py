"""Attention over content and distance one tile of scores at a time: no table of frames by frames.

A tile is some queries by some keys. Going over the keys, each query keeps the largest score so far,
the sum of exponentials and the weighted sum of values, and rescales them when a larger score comes
(Rabe & Staats, 2021, arXiv:2112.05682; FlashAttention: Dao et al., 2022, arXiv:2205.14135). The
backward pass computes each tile again from the logarithm of that sum. Of the distances a tile needs
only as many as it has queries and keys, less one: a slice of the projected positions.

The same two functions serve one process and, fed with keys from other ranks one after another, ring
attention (Liu et al., 2023, arXiv:2310.01889). Sums are kept in float32 for narrower types.

Shape suffixes: H heads, B utterances, N = H*B, I queries and J keys of a tile, T queries here, S keys
here, E channels of a head, D = H*E hidden, P distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hocket.model.frames import Context, key_bias
from hocket.model.scores import by_distance
from hocket.model.time import Span


@dataclass(frozen=True)
class Distances:
    """Projected positions (H, P, E) of the distances ``highest`` and below, one lower in each row."""

    r_HPE: Tensor
    highest: int

    def rows(self, queries: Span, keys: Span) -> slice:
        """Rows of the distances from the last query to the first key, down to the converse."""
        start = self.highest - (queries.last - keys.first)
        return slice(start, start + queries.count + keys.count - 1)


@dataclass(frozen=True)
class Positions:
    """Sines and cosines (P, D) of the distances ``highest`` and below, one lower in each row."""

    table_PD: Tensor
    highest: int

    def between(self, queries: Span, keys: Span, context: Context) -> Positions:
        """Those that the visible tiles of ``queries`` by ``keys`` need."""
        highest, lowest = context.distances(queries, keys)
        start = self.highest - highest
        return Positions(self.table_PD[start : start + highest - lowest + 1], highest)

    def projected(self, weight_DD: Tensor, head_dim: int, dtype: torch.dtype) -> Distances:
        """As keys of distances."""
        r_PD = F.linear(self.table_PD.to(dtype), weight_DD.to(dtype))
        return Distances(r_PD.view(len(r_PD), -1, head_dim).transpose(0, 1).contiguous(), self.highest)


@dataclass(frozen=True)
class Queries:
    """Queries of the frames ``span``: for content and for distance, both (H, B, T, E)."""

    content_HBTE: Tensor
    distance_HBTE: Tensor
    span: Span

    @staticmethod
    def of(q_HBTE: Tensor, u_HE: Tensor, v_HE: Tensor, span: Span) -> Queries:
        """With the two biases of Transformer-XL."""
        u_HE, v_HE = u_HE.to(q_HBTE.dtype), v_HE.to(q_HBTE.dtype)
        return Queries(q_HBTE + u_HE[:, None, None], q_HBTE + v_HE[:, None, None], span)


@dataclass(frozen=True)
class Keys:
    """Keys and values (2, H, B, S, E) of the frames ``span``."""

    kv_2HBSE: Tensor
    span: Span


@dataclass(frozen=True)
class _Tile:
    queries: Span
    keys: Span
    i: slice
    j: slice
    masked: bool
    """True when the window leaves some of it out."""


class Running:
    """Softmax over the keys seen so far, for every query: largest score, sum, weighted values."""

    def __init__(self, like_HBTE: Tensor) -> None:
        self.dtype = wide(like_HBTE.dtype)
        H, B, T, E = like_HBTE.shape
        self.out_NTE = like_HBTE.new_zeros((H * B, T, E), dtype=self.dtype)
        self.max_NT = like_HBTE.new_full((H * B, T), -torch.inf, dtype=self.dtype)
        self.sum_NT = like_HBTE.new_zeros((H * B, T), dtype=self.dtype)

    def add(
        self, queries: Queries, keys: Keys, distances: Distances, lens_B: Tensor, context: Context
    ) -> None:
        """Attend to ``keys`` too."""
        k_NSE, v_NSE = keys.kv_2HBSE.flatten(1, 2)
        for tile in _tiles(queries.span, keys.span, context):
            scores_NIJ = _scores(queries, k_NSE, distances, lens_B, context, tile, self.dtype)
            max_NI, sum_NI = self.max_NT[:, tile.i], self.sum_NT[:, tile.i]
            largest_NI = torch.maximum(max_NI, scores_NIJ.amax(-1))
            weights_NIJ = scores_NIJ.sub_(largest_NI[..., None]).exp_()
            fading_NI = (max_NI - largest_NI).exp_()
            sum_NI.mul_(fading_NI).add_(weights_NIJ.sum(-1))
            values_NIE = torch.bmm(weights_NIJ.to(v_NSE.dtype), v_NSE[:, tile.j])
            self.out_NTE[:, tile.i].mul_(fading_NI[..., None]).add_(values_NIE)
            max_NI.copy_(largest_NI)

    def result(self) -> tuple[Tensor, Tensor]:
        """Attended values (N, T, E), and the logarithm of each query's sum of exponentials (N, T)."""
        return self.out_NTE.div_(self.sum_NT[..., None]), self.max_NT + self.sum_NT.log()


class Gradients:
    """What flows back into queries, biases and the projection of distances, summed over keys."""

    def __init__(self, q_HBTE: Tensor, weight_DD: Tensor) -> None:
        self.dtype = wide(q_HBTE.dtype)
        H, _, _, E = q_HBTE.shape
        self.q_HBTE = torch.zeros_like(q_HBTE, dtype=self.dtype)
        self.u_HE, self.v_HE = (q_HBTE.new_zeros((H, E), dtype=self.dtype) for _ in range(2))
        self.weight_DD = torch.zeros_like(weight_DD, dtype=self.dtype)

    def add(
        self,
        queries: Queries,
        keys: Keys,
        positions: Positions,
        weight_DD: Tensor,
        lens_B: Tensor,
        context: Context,
        grad_out_NTE: Tensor,
        log_sum_NT: Tensor,
        delta_NT: Tensor,
    ) -> Tensor:
        """The share of ``keys``; returns their gradient (2, H, B, S, E).

        ``log_sum`` is :meth:`Running.result`'s over all keys, ``delta`` the product of output and its
        gradient, summed over channels.
        """
        kv = keys.kv_2HBSE
        k_NSE, v_NSE = kv.flatten(1, 2)
        _, H, B, _, E = kv.shape
        grad_kv = torch.zeros_like(kv, dtype=self.dtype)
        grad_k_NSE, grad_v_NSE = grad_kv.flatten(1, 2)
        distances = positions.projected(weight_DD, E, kv.dtype)
        grad_r_HPE = torch.zeros_like(distances.r_HPE, dtype=self.dtype)
        for tile in _tiles(queries.span, keys.span, context):
            I, J = tile.queries.count, tile.keys.count  # noqa: E741
            scores_NIJ = _scores(queries, k_NSE, distances, lens_B, context, tile, self.dtype)
            weights_NIJ = scores_NIJ.sub_(log_sum_NT[:, tile.i, None]).exp_()
            grad_NIE = grad_out_NTE[:, tile.i]
            grad_v_NSE[:, tile.j].add_(torch.bmm(weights_NIJ.to(kv.dtype).transpose(1, 2), grad_NIE))
            grad_NIJ = torch.bmm(grad_NIE, v_NSE[:, tile.j].transpose(1, 2)).to(self.dtype)
            grad_NIJ.sub_(delta_NT[:, tile.i, None]).mul_(weights_NIJ).mul_(E**-0.5)
            narrow_NIJ = grad_NIJ.to(kv.dtype)
            content_NIE = queries.content_HBTE[:, :, tile.i].flatten(0, 1)
            grad_k_NSE[:, tile.j].add_(torch.bmm(narrow_NIJ.transpose(1, 2), content_NIE))
            content_HBIE = torch.bmm(narrow_NIJ, k_NSE[:, tile.j]).view(H, B, I, E).to(self.dtype)
            grad_HBIP = narrow_NIJ.new_zeros(H, B, I, I + J - 1)
            by_distance(grad_HBIP).copy_(narrow_NIJ.view(H, B, I, J))
            grad_HXP = grad_HBIP.view(H, B * I, -1)
            rows = distances.rows(tile.queries, tile.keys)
            distance_HXE = torch.bmm(grad_HXP, distances.r_HPE[:, rows]).to(self.dtype)
            query_HXE = queries.distance_HBTE[:, :, tile.i].reshape(H, B * I, E)
            grad_r_HPE[:, rows].add_(torch.bmm(grad_HXP.transpose(1, 2), query_HXE))
            self.q_HBTE[:, :, tile.i].add_(content_HBIE).add_(distance_HXE.view(H, B, I, E))
            self.u_HE.add_(content_HBIE.sum((1, 2)))
            self.v_HE.add_(distance_HXE.sum(1))
        grad_r_PD = grad_r_HPE.transpose(0, 1).flatten(1)
        self.weight_DD.addmm_(grad_r_PD.t(), positions.table_PD.to(self.dtype))
        return grad_kv


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of sums over values of ``dtype``."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _tiles(queries: Span, keys: Span, context: Context) -> Iterator[_Tile]:
    """The tiles in which some query sees some key."""
    size = context.block
    for i in range(0, queries.count, size):
        rows = queries.part(i, size)
        for j in range(0, keys.count, size):
            columns = keys.part(j, size)
            if context.sees(rows, columns):
                masked = not context.sees_all(rows, columns)
                yield _Tile(rows, columns, slice(i, i + rows.count), slice(j, j + columns.count), masked)


def _scores(
    queries: Queries,
    k_NSE: Tensor,
    distances: Distances,
    lens_B: Tensor,
    context: Context,
    tile: _Tile,
    dtype: torch.dtype,
) -> Tensor:
    """Scores (N, I, J) of a tile, scaled, with padding and what is out of the window masked."""
    query_HBIE = queries.distance_HBTE[:, :, tile.i]
    H, B, I, E = query_HBIE.shape  # noqa: E741
    r_HPE = distances.r_HPE[:, distances.rows(tile.queries, tile.keys)]
    products_HBIP = torch.bmm(query_HBIE.reshape(H, B * I, E), r_HPE.transpose(1, 2)).view(H, B, I, -1)
    bias_BJ = key_bias(lens_B, tile.keys, dtype)
    scores_NIJ = torch.add(bias_BJ[:, None], by_distance(products_HBIP), alpha=E**-0.5).flatten(0, 1)
    content_NIE, k_NJE = queries.content_HBTE[:, :, tile.i].flatten(0, 1), k_NSE[:, tile.j]
    if dtype == k_NJE.dtype:
        scores_NIJ.baddbmm_(content_NIE, k_NJE.transpose(1, 2), alpha=E**-0.5)
    else:
        scores_NIJ.add_(torch.bmm(content_NIE, k_NJE.transpose(1, 2)), alpha=E**-0.5)
    if tile.masked:
        scores_NIJ.add_(context.window_bias(tile.queries, tile.keys, scores_NIJ))
    return scores_NIJ

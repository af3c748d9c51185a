"""Gradients of matrices as products of two thin ones.

Vogels, Karimireddy & Jaggi, "PowerSGD: practical low-rank gradient compression for distributed
optimization", NeurIPS 2019: one step of power iteration, warm with the last round's, and two plain
sums. Legend: M matrix (n, m), P left factor (n, r), Q right factor (m, r).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from hocket.comms.communicator import Communicator, Handle
from hocket.core.errors import CheckpointError
from hocket.core.protocols import GradBucket
from hocket.sync.residuals import load_residuals, store_residuals
from hocket.sync.staging import Staging
from hocket.sync.state import expect


@dataclass
class _Matrix:
    """One matrix of a bucket; all are views."""

    sent: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    own_right: torch.Tensor
    start: torch.Tensor
    agreed: torch.Tensor


class _Factors:
    """The factors of a bucket's matrices, side by side, and what goes with them."""

    def __init__(self, bucket: GradBucket, rank: int) -> None:
        shapes = [_matrix_shape(parameter) for parameter in bucket.parameters]
        low = [p for p, (n, m) in enumerate(shapes) if min(n, m) > 1 and _rank(n, m, rank) * (n + m) < n * m]
        dense = [p for p in range(len(shapes)) if p not in low]
        flat = bucket.flat
        self.bucket = bucket
        self.staging = Staging(bucket, low, group=1, num_shards=1)
        self.dense = Staging(bucket, dense, group=1, num_shards=1)
        self.sent, self.residual, self.agreed = (self.staging.buffer(flat) for _ in range(3))
        self.dense_values = self.dense.buffer(flat)
        ranks = [_rank(*shapes[p], rank) for p in low]
        left_sizes = [shapes[p][0] * r for p, r in zip(low, ranks, strict=True)]
        right_sizes = [shapes[p][1] * r for p, r in zip(low, ranks, strict=True)]
        sizes = [shapes[p][0] * shapes[p][1] for p in low]
        self.left = flat.new_zeros(sum(left_sizes))
        self.right, self.own_right = flat.new_zeros(sum(right_sizes)), flat.new_zeros(sum(right_sizes))
        draw = torch.Generator().manual_seed(bucket.index)
        self.start = torch.randn(sum(right_sizes), generator=draw, dtype=torch.float64).to(flat)
        self.matrices = [
            _Matrix(
                sent.view(shapes[p]),
                left.view(-1, r),
                right.view(-1, r),
                own_right.view(-1, r),
                start.view(-1, r),
                agreed.view(shapes[p]),
            )
            for p, r, sent, left, right, own_right, start, agreed in zip(
                low,
                ranks,
                torch.split(self.sent.view(-1), sizes),
                torch.split(self.left, left_sizes),
                torch.split(self.right, right_sizes),
                torch.split(self.own_right, right_sizes),
                torch.split(self.start, right_sizes),
                torch.split(self.agreed.view(-1), sizes),
                strict=True,
            )
        ]
        most_rows, most_columns = (
            max((m.left.shape[0] for m in self.matrices), default=0),
            max(ranks, default=0),
        )
        self.padded = flat.new_zeros((len(low), most_rows, most_columns))
        self.in_padded = [
            self.padded[k, : m.left.shape[0], : m.left.shape[1]] for k, m in enumerate(self.matrices)
        ]
        self.under_way: list[Handle] = []

    def orthonormalise(self) -> None:
        """All left factors at once: Gram-Schmidt, each column twice, zeros where nothing is left."""
        lefts = [matrix.left for matrix in self.matrices]
        torch._foreach_copy_(self.in_padded, lefts)
        for column in range(self.padded.shape[2]):
            now, before = self.padded[:, :, column : column + 1], self.padded[:, :, :column]
            for _ in range(2 if column else 0):
                now -= before @ (before.transpose(1, 2) @ now)
            tiny = torch.finfo(now.dtype).tiny
            now /= torch.linalg.vector_norm(now, dim=1, keepdim=True).clamp_(min=tiny)
        torch._foreach_copy_(lefts, self.in_padded)


class PowerSgdExchange:
    """Sums the factors of each rank's matrices; what the agreed left factor cannot say is kept.

    Matrices too small to gain, biases and norms are sent as they are.
    """

    def __init__(self, communicator: Communicator, buckets: Sequence[GradBucket], *, rank: int) -> None:
        self._communicator = communicator
        self._factors = [_Factors(bucket, rank) for bucket in buckets]
        self._forwarded = False

    def start(self, bucket: GradBucket, scale: float) -> None:
        """Send the left factor: the matrix times the last round's right factor."""
        factors = self._factors[bucket.index]
        if factors.dense.size:
            factors.dense.fill(factors.dense_values)
            factors.under_way.append(self._communicator.all_reduce(factors.dense_values.mul_(scale)))
        if factors.matrices:
            factors.staging.fill(factors.sent)
            torch.add(factors.residual, factors.sent, alpha=scale, out=factors.sent)
            for matrix in factors.matrices:
                torch.mm(matrix.sent, matrix.start, out=matrix.left)
            factors.under_way.append(self._communicator.all_reduce(factors.left))
        self._forwarded = False

    def forward(self) -> None:
        """Make the agreed left factors orthonormal, and send the right factors that go with them."""
        if self._forwarded:
            return
        self._forwarded = True
        for factors in self._factors:
            _wait(factors)
            if factors.matrices:
                factors.orthonormalise()
                for matrix in factors.matrices:
                    torch.mm(matrix.sent.t(), matrix.left, out=matrix.own_right)
                factors.right.copy_(factors.own_right)
                factors.under_way.append(self._communicator.all_reduce(factors.right))

    def finish(self) -> float:
        """Multiply out what was agreed, and take off what this rank has sent."""
        self.forward()
        for factors in self._factors:
            _wait(factors)
            factors.dense.drain(factors.dense_values)
            for matrix in factors.matrices:
                torch.mm(matrix.left, matrix.right.t(), out=matrix.agreed)
                matrix.sent.addmm_(matrix.left, matrix.own_right.t(), alpha=-1)
            factors.staging.drain(factors.agreed)
        return 1.0

    def settle(self, skipped: torch.Tensor) -> None:
        """Keep what was left and the right factor, or when the sum was thrown away those before."""
        keep = skipped > 0
        for factors in self._factors:
            torch.where(keep, factors.residual, factors.sent, out=factors.residual)
            torch.where(keep, factors.start, factors.right, out=factors.start)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """This rank's residuals, and the right factors to begin with, which all ranks share."""
        state = store_residuals(self._residuals(), self._communicator)
        state["right"] = torch.cat([factors.start for factors in self._factors])
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """The same number of ranks takes up its own; any other shares out the sum of all evenly."""
        expect(state, ["residual.*", "right"])
        load_residuals(self._residuals(), state, self._communicator)
        right, sizes = state["right"], [factors.start.numel() for factors in self._factors]
        if right.numel() != sum(sizes):
            raise CheckpointError(
                "the checkpoint's factors are of another rank", "Keep sync.compression.rank as it was."
            )
        for factors, part in zip(self._factors, torch.split(right, sizes), strict=True):
            factors.start.copy_(part)

    def _residuals(self) -> list[torch.Tensor]:
        return [factors.residual.view(-1) for factors in self._factors]


def _matrix_shape(parameter: torch.Tensor) -> tuple[int, int]:
    """Convolution kernels are matrices of output channels by all the rest."""
    if parameter.dim() < 2:
        return 1, parameter.numel()
    return parameter.shape[0], parameter.numel() // parameter.shape[0]


def _rank(num_rows: int, num_columns: int, wanted: int) -> int:
    return min(wanted, num_rows, num_columns)


def _wait(factors: _Factors) -> None:
    for handle in factors.under_way:
        handle.wait()
    factors.under_way.clear()

"""Fully sharded: every rank keeps a slice of each parameter, of its gradient and its optimiser state.

torch's FSDP2 (``fully_shard``; after ZeRO-3, Rajbhandari et al., SC 2020, arXiv:1910.02054) by block, on
the one-dimensional submesh ``dp_shard``: a block's parameters are gathered just before it runs, let go
afterwards, gathered again for its backward pass, and its gradient is summed and scattered. The last block
keeps its parameters between the passes, since its backward pass comes first; what belongs to no block
(subsampling, head) is gathered once a micro-batch. The next block is asked for while one runs. With
``reshard: step`` everything is gathered once a step, at the price of whole parameters in memory (gradients
and optimiser state stay sharded: ZeRO's second stage).

Gradients are *sums*, in the parameters' own precision, as everywhere in hocket. Weights are gathered as
they are and cast where they are used, so that a sharded model computes what a whole one does, also in
bf16.

A rank's slices are plain tensors to everybody else: the gradient buckets, the optimiser, averages and
checkpoints see rows of the parameters and no mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from hocket.core.held import Place
from hocket.core.layout import Reshard
from hocket.core.protocols import GradBucket
from hocket.model.sharding import blocks
from hocket.parallel.gradients import Rounded, Tell

# torch 2.13 calls it by another name.
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def shard(
    model: nn.Module, mesh: DeviceMesh, places: Mapping[str, Place], reshard: Reshard = "block"
) -> dict[str, Place]:
    """Shard ``model`` in place over a one-dimensional ``mesh``; what of each parameter is then held here.

    ``places`` is what was held before, where that is not all. The model must be run by pieces, as
    ``loss`` and ``evaluate`` do.
    """
    whole = {name: places.get(name) or Place.whole(tensor) for name, tensor in model.named_parameters()}
    buffers = {name: place for name, place in places.items() if name not in whole}
    names = {name for name, _ in model.named_modules()}
    units = [model.get_submodule(name) for name in blocks(model.config) if name in names]  # type: ignore[arg-type]
    for unit in units:
        fully_shard(unit, mesh=mesh, reshard_after_forward=reshard == "block" and unit is not units[-1])
    fully_shard(model, mesh=mesh)
    model.set_reshard_after_backward(reshard == "block")  # type: ignore[operator]
    for before, after in pairwise(units):
        before.set_modules_to_forward_prefetch([after])  # type: ignore[operator]
        after.set_modules_to_backward_prefetch([before])  # type: ignore[operator]
    for entry in ("run_pieces", "evaluate_pieces"):
        register_fsdp_forward_method(model, entry)
    rank, num_ranks = mesh.get_local_rank(), mesh.size()
    return buffers | {
        name: place.rows(*_rows(sum(box.sizes[0] for box in place.boxes), rank, num_ranks))
        for name, place in whole.items()
    }


def _rows(num_rows: int, rank: int, num_ranks: int) -> tuple[int, int]:
    """As ``torch.chunk`` cuts: all slices but the last ones are equally long."""
    size = -(-num_rows // num_ranks)
    return min(rank * size, num_rows), min((rank + 1) * size, num_rows)


class ShardedGradients:
    """One bucket for each unit of sharding, filled by its scattered sums; see :class:`Gradients`.

    Buckets are told of as the backward pass goes, each when the next one has been summed, in the order
    from the last block to the first, then the rest.
    """

    def __init__(self, model: nn.Module, copied: Collection[str] = ()) -> None:
        found = {name: unit for name, unit in model.named_modules() if isinstance(unit, FSDPModule)}
        self._modules = list(found.values())
        self._units: list[_Unit] = []
        self.buckets: list[GradBucket] = []
        for name in [*reversed([name for name in found if name]), ""]:
            unit = _Unit(name, found[name], copied)
            if unit.slices:
                found[name].set_all_reduce_hook(self._reduced(len(self._units)))
                self._units.append(unit)
                self.buckets += [each.bucket for each in unit.slices]
        for index, bucket in enumerate(self.buckets):
            bucket.index = index
        self._tell: Tell | None = None
        self._reached, self._told = [False] * len(self._units), 0

    def discard(self) -> None:
        """See :class:`Gradients`: sums are added to what is there."""
        for unit in self._units:
            unit.clear()

    def leave_out(self, out: bool) -> None:
        """See :class:`Gradients`: zeros are sent in place of what the backward pass finds."""
        for unit in self._units:
            unit.scatter.leaves_out = out

    def complete(self) -> None:
        """See :class:`Gradients`."""
        for unit in self._units:
            unit.collect_integers()

    def watch(self, tell: Tell) -> None:
        """See :class:`Gradients`."""
        self._tell, self._told = tell, 0
        self._reached = [False] * len(self._units)

    def finish(self) -> None:
        """See :class:`Gradients`."""
        self._hand_out(len(self._units))
        self._tell = None
        self.let_go()

    def add_up(self) -> None:
        """See :class:`Gradients`: sums are scattered as the backward pass goes."""

    def abandon(self) -> None:
        """See :class:`Gradients`: the ranks of this pass cannot go on without each other."""
        self._tell = None

    def let_go(self) -> None:
        """See :class:`Gradients`: whole parameters that are still there."""
        for module in self._modules:
            module.reshard()

    def add_as_integers(self, rounded: Rounded) -> None:
        """See :class:`Gradients`: each rank rounds its own gradient before it is summed."""
        for unit in self._units:
            unit.scatter.rounded = rounded
        for bucket in self.buckets:
            bucket.integers = torch.zeros_like(bucket.flat, dtype=torch.int64)

    def _reduced(self, number: int) -> Callable[[torch.Tensor], None]:
        """A unit's sum is there, and about to be added to its bucket: those of units before it are whole."""

        def hook(_summed: torch.Tensor) -> None:
            if self._tell is None:
                return
            whole = 0
            while whole < number and self._reached[whole]:
                whole += 1
            self._reached[number] = True
            self._hand_out(whole)

        return hook

    def _hand_out(self, stop: int) -> None:
        while self._tell is not None and self._told < stop:
            self._told += 1
            for each in self._units[self._told - 1].slices:
                self._tell(each.bucket)


@dataclass(frozen=True)
class _Slice:
    """A parameter's: where it lies in the bucket, and in what FSDP2 sums (padded)."""

    start: int
    size: int
    padded_start: int


@dataclass
class _Slices:
    """Slices of some parameters of a unit, and their bucket."""

    bucket: GradBucket
    slices: list[_Slice]


class _Unit:
    """A module that is gathered as one, and the buckets of its trained parameters."""

    def __init__(self, name: str, module: FSDPModule, copied: Collection[str]) -> None:
        assert isinstance(module, nn.Module)
        self.scatter = _Scatter()
        module.set_custom_reduce_scatter(self.scatter)  # type: ignore[arg-type]
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
        padded = 0
        found: tuple[list[tuple[str, DTensor, int]], ...] = ([], [])
        for full, parameter in _gathered_with(module, f"{name}." if name else ""):
            if parameter.requires_grad:
                assert isinstance(parameter, DTensor)
                found[full in copied].append((full, parameter, padded))
                padded += -(-parameter.shape[0] // parameter.device_mesh.size()) * prod(parameter.shape[1:])
        self._checked = False
        self.slices = [_lay_out(some) for some in found if some]

    def clear(self) -> None:
        """Forget the gradient."""
        for each in self.slices:
            each.bucket.flat.zero_()
            if each.bucket.integers is not None:
                each.bucket.integers.zero_()

    def collect_integers(self) -> None:
        """Lay the integers that were summed where the buckets have their parameters."""
        summed, self.scatter.integers = self.scatter.integers, None
        if summed is None:
            return
        for each in self.slices:
            assert each.bucket.integers is not None
            for piece in each.slices:
                source = summed[piece.padded_start : piece.padded_start + piece.size]
                each.bucket.integers[piece.start : piece.start + piece.size].copy_(source)
            if not self._checked and not torch.equal(
                each.bucket.flat, each.bucket.integers.to(each.bucket.flat)
            ):
                raise RuntimeError("FSDP2 lays out a unit's parameters in another order than is known here")
        self._checked = True


def _gathered_with(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that are gathered and summed with ``module``, in FSDP2's order: children first."""
    for name, child in module.named_children():
        if not isinstance(child, FSDPModule):
            yield from _gathered_with(child, f"{prefix}{name}.")
    for name, parameter in module.named_parameters(recurse=False):
        yield prefix + name, parameter


def _lay_out(found: Sequence[tuple[str, DTensor, int]]) -> _Slices:
    """A bucket for parameters (name, parameter, start in what FSDP2 sums) whose slices it holds.

    The parameters' gradients become views of it, to which FSDP2 adds. Empty slices have no part in it.
    """
    first = found[0][1]._local_tensor
    locals_ = [(name, nn.Parameter(parameter._local_tensor.detach())) for name, parameter, _ in found]
    flat = torch.zeros(sum(local.numel() for _, local in locals_), dtype=first.dtype, device=first.device)
    held = [(name, local) for name, local in locals_ if local.numel()]
    bucket = GradBucket(0, [name for name, _ in held], [local for _, local in held], flat)
    for local, (_, view) in zip(bucket.parameters, bucket.views(flat), strict=True):
        local.grad = view
    slices, start = [], 0
    for (_, parameter, padded_start), (_, local) in zip(found, locals_, strict=True):
        slices.append(_Slice(start, local.numel(), padded_start))
        view = flat[start : start + local.numel()].view_as(local)
        start += local.numel()
        parameter.grad = DTensor.from_local(
            view,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
    return _Slices(bucket, slices)


class _Scatter:
    """The sum over ranks of which each gets its slice, in place of FSDP2's own."""

    def __init__(self) -> None:
        self.leaves_out = False
        """This rank has nothing to add."""
        self.rounded: Rounded | None = None
        self.integers: torch.Tensor | None = None
        """The last sum, where integers are added."""

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Room for what is sent and what comes."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        group: dist.ProcessGroup,
        op: Any,
        async_op: bool = False,
    ) -> Any:
        """Sum ``input_tensor`` over ranks into ``output_tensor``."""
        if self.leaves_out:
            input_tensor.zero_()
        if self.rounded is None:
            return _reduce_scatter(output_tensor, input_tensor, group=group, async_op=async_op)
        whole = self.rounded(input_tensor)
        self.integers = whole.new_empty(output_tensor.shape)
        _reduce_scatter(self.integers, whole, group=group)
        output_tensor.copy_(self.integers)
        return None

"""Parts that keep no activations: their forward pass is run again when the backward pass comes.

Chen et al., "Training deep nets with sublinear memory cost", 2016 (arXiv:1604.06174), by block: what is
kept of such a block is its input. The subsampling does it where all blocks do. Dropout masks are keyed by
where they fall, so that the second run draws the same; collectives within a block run twice, on all ranks
alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hocket.core.layout import Recompute, target_bytes
from hocket.model.sharding import FRONT, blocks


class Recomputing:
    """The blocks of a model, of which the first so many recompute: what they keep lives longest.

    After all blocks comes the subsampling. What this rank does not hold of them is passed over.
    """

    def __init__(self, model: nn.Module, wanted: Recompute) -> None:
        self._model = model
        names = {name for name, _ in model.named_modules()}
        every = blocks(model.config) if wanted not in ("none", 0) else ()  # type: ignore[arg-type]
        held = [name for name in every if name in names]
        self._num_blocks = len(held)
        if every and FRONT in names:
            held.append(FRONT)
        self._parts = [_Part(model.get_submodule(name)) for name in held]
        self.target = target_bytes(wanted)
        """Bytes of activations to stay below; None when the number of parts is known."""
        if wanted == "none":
            self.use(0)
        else:
            self.use(min(wanted, self._num_blocks) if isinstance(wanted, int) else len(self._parts))

    def use(self, number: int) -> None:
        """Recompute the first ``number`` parts: blocks, and then the subsampling."""
        self.number = min(number, len(self._parts))
        for place, part in enumerate(self._parts):
            part.active = place < self.number

    @property
    def input_bytes(self) -> int:
        """What the recomputed parts kept of the last forward pass: their inputs."""
        return sum(part.input_bytes for part in self._parts if part.active)

    def fit(self, runs: Sequence[Callable[[], torch.Tensor]]) -> None:
        """Recompute as few parts as keep what each of ``runs`` (forward passes) leaves below the target.

        Two forward passes of each are measured: with one block kept, and with none. All ranks of a
        replica must call. Where even recomputing all blocks takes more than the target, all parts are.
        """
        if self.target is None:
            return
        num_blocks, needed = self._num_blocks, 0
        for run in runs:
            self.use(num_blocks)
            least = kept_bytes(self._model, run) + self.input_bytes
            if least > self.target:
                needed = len(self._parts)
                break
            self.use(num_blocks - 1)
            each = max(1, kept_bytes(self._model, run) + self.input_bytes - least)
            needed = max(needed, num_blocks - min((self.target - least) // each, num_blocks))
        self.use(needed)


def kept_bytes(model: nn.Module, run: Callable[[], torch.Tensor]) -> int:
    """Bytes of storage that a forward pass keeps for its backward pass (which follows), beside parameters.

    What recomputed parts keep, their inputs, is not seen.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known and not isinstance(tensor, nn.Parameter):
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    total = sum(storage.nbytes() for storage in kept.values())
    result.backward()  # type: ignore[no-untyped-call]
    return total


class _Part:
    """A module whose forward pass is run as it is, or kept by its input alone."""

    def __init__(self, module: nn.Module) -> None:
        self.active, self.input_bytes = False, 0
        self._forward = module.forward
        module.forward = self._run

    def _run(self, x: torch.Tensor, *more: Any) -> Any:
        self.input_bytes = x.numel() * x.element_size()
        if not self.active or not torch.is_grad_enabled():
            return self._forward(x, *more)
        return checkpoint(self._forward, x, *more, use_reentrant=False, preserve_rng_state=False)

"""Live tensor storage: how many bytes tensors hold, now and at most, as operations make and free them."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Live(TorchDispatchMode):
    """Counts the storages that operations under it make, each once, until it is freed.

    What was there before counts nothing, also when an operation returns a view of it.
    """

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, int] = {tensor.untyped_storage().data_ptr(): 0 for tensor in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it made."""
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, torch.Tensor):
                self._count(each.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        where, size = storage.data_ptr(), storage.nbytes()
        if where in self._seen or not size:
            return
        self._seen[where] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, where)

    def _free(self, where: int) -> None:
        self.now -= self._seen.pop(where, 0)

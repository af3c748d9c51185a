"""How this process gets and gives back memory.

glibc hands large blocks back to the system as soon as they are freed, and asks for them again a
moment later; the system then clears every page anew. A train step frees and asks for the same
blocks hundreds of times. It pays where batches have few shapes; where they have many, another
allocator does (:mod:`hocket.hardware.libraries`).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hocket.core.errors import UsageError

_STATM, _STATM_BYTES = Path("/proc/self/statm"), 256
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of parameters in glibc's ``malloc.h``."""
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""More is refused on 64-bit systems (mallopt(3))."""
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what this process frees; False where that cannot be set (not glibc)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), (_TRIM_THRESHOLD, _NEVER_TRIM))
    return all(mallopt(name, value) == 1 for name, value in wanted)


_SIGNS = ("can't allocate memory", "not enough memory", "std::bad_alloc", "could not create a memory object")
"""In texts of plain RuntimeErrors: of torch's allocator on CPUs, of C++ and of oneDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for what libraries raise when an allocation failed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def give_back_memory(device: torch.device) -> None:
    """Hand freed memory back to the system, so that what was kept in small parts can be had as large ones."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    loaded = ctypes.CDLL(None)
    if hasattr(loaded, "MallocExtension_ReleaseFreeMemory"):  # tcmalloc
        loaded.MallocExtension_ReleaseFreeMemory()
    elif platform.libc_ver()[0] == "glibc":
        loaded.malloc_trim(0)


class MemoryLimit:
    """Keeps what this process holds for itself below ``limit_mb`` MiB while a model computes.

    What is held is the memory that no file stands behind and that the system has given it pages for
    (``RssAnon``, by ``/proc/self/statm``): what counts when the system runs out. It is looked at whenever
    autograd keeps a tensor for the backward pass or takes one up again, that is at every operation: the
    first that finds it grown, with less room left below the limit than the largest growth so far, raises
    :class:`torch.OutOfMemoryError`. No allocation is made to fail, so that no library is left in the middle
    of something. Linux only; raises :class:`UsageError` elsewhere.

    It is kept by watching, so an operation that takes more than all before it while watching may pass it: by
    no more than it takes beyond the largest of them. What is taken where no graph is built (reading ahead,
    the optimiser's first step) is seen at the next operation.
    """

    def __init__(self, limit_mb: int) -> None:
        if not _STATM.exists():
            raise UsageError("memory.limit_mb: only Linux tells what a process holds", "Leave it out.")
        self.limit_mb = limit_mb
        self.peak_mb = 0.0
        """The most that was held at any look."""
        self.reach_mb = 0.0
        """The most that had to be below the limit: what was held and the largest growth so far."""
        self._page_mb = os.sysconf("SC_PAGE_SIZE") / 2**20
        self._statm = os.open(_STATM, os.O_RDONLY)  # of the process that opens it: not for use after a fork
        self._began = False

    def __del__(self) -> None:
        if hasattr(self, "_statm"):
            os.close(self._statm)

    def held_mb(self) -> float:
        """MiB that the process holds for itself now."""
        _size, resident, of_files, *_ = os.pread(self._statm, _STATM_BYTES, 0).split()
        return (int(resident) - int(of_files)) * self._page_mb

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While inside, graphs that are built are watched, also in their backward pass.

        Raises :class:`UsageError` when more than the limit is held before the first of them. Later what an
        allocator keeps from the last time is there to be used again.
        """
        self._seen, self._growth = self.held_mb(), 0.0
        if self._seen > self.limit_mb and not self._began:
            raise UsageError(
                f"memory.limit_mb: {self.limit_mb}: a worker holds {self._seen:.0f} MiB before it computes",
                "Raise it, or lower loading.cache_mb.",
            )
        self._began = True
        with torch.autograd.graph.saved_tensors_hooks(self._keep, self._take_up):
            yield
        self.peak_mb = max(self.peak_mb, self.held_mb())

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        self._look()
        # As it is it would hold the graph that holds it: an output knows the operation that it came from.
        return tensor.detach()

    def _take_up(self, tensor: torch.Tensor) -> torch.Tensor:
        self._look()
        return tensor

    def _look(self) -> None:
        held = self.held_mb()
        self.peak_mb = max(self.peak_mb, held)
        if held > self._seen:
            self._growth = max(self._growth, held - self._seen)
            self._seen = held
            self.reach_mb = max(self.reach_mb, held + self._growth)
            if held + self._growth > self.limit_mb:
                raise torch.OutOfMemoryError(f"{held:.0f} MiB are held, memory.limit_mb is {self.limit_mb}")

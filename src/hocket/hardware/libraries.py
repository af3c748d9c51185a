"""What a worker's libraries read from the environment when they are loaded: allocator, kernel cache, threads.

Two costs of a train step on CPUs are no arithmetic at all (``benchmarks/worker_environment.py``). The C
library's allocator searches its lists of freed blocks whenever torch asks for aligned memory, and oneDNN
prepares its kernels anew for shapes that its cache of 1,024 has forgotten. And torch keeps up to 1,024
products of each kind once more beside oneDNN, in bf16, each with memory of its own. None of it can be
changed in a process that runs; so workers are started with all set. No result depends on it.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_PRELOAD = "LD_PRELOAD"
_KERNEL_CACHE, _ITS_OLD_NAME = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"
_KERNELS = "16384"
"""Enough for some hundred shapes of utterances. A worker that meets as many holds more than a gigabyte of
kernels in the end."""
_SECOND_CACHE = "LRU_CACHE_CAPACITY"
"""Of ideep, torch's layer over oneDNN. What it finds there costs more than what oneDNN finds by itself."""

_ALLOCATORS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "tcmalloc": (("libtcmalloc_minimal.so.4",), {}),
    "jemalloc": (
        ("libjemalloc.so.2",),
        {"MALLOC_CONF": "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1"},
    ),
    # The proxy does not say where its library lies: both are named.
    "tbb": (("libtbbmalloc.so.2", "libtbbmalloc_proxy.so.2"), {}),
}
"""Libraries and variables of each, the fastest first. jemalloc is told to keep what is freed."""


def environment(
    threads: int, given: Mapping[str, str] = os.environ, *, sparing: bool = False
) -> dict[str, str]:
    """Variables to add to those ``given`` for a worker that computes with ``threads`` threads.

    A ``sparing`` one keeps as many kernels as oneDNN does by itself: for where memory is short, or where
    shapes do not come again.
    What the user has set stays: ``LD_PRELOAD``, even if it is empty, and the sizes of both caches.
    """
    number = str(threads)
    # OpenBLAS (numpy's, scipy's) would start its threads when it is imported, before workers are forked.
    found = {"OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": "1"}
    if not sparing and _KERNEL_CACHE not in given and _ITS_OLD_NAME not in given:
        found[_KERNEL_CACHE] = _KERNELS
    if _SECOND_CACHE not in given:
        found[_SECOND_CACHE] = "1"
    if _PRELOAD not in given:
        for name in available()[:1]:
            found |= preloading(name)
    return found


def allocator() -> str:
    """Which allocator serves this process: ``tcmalloc``, ``jemalloc``, ``tbb``, or ``system``."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "system"
    for name, (libraries, _) in _ALLOCATORS.items():
        if all(library in maps for library in libraries):
            return name
    return "system"


def available() -> list[str]:
    """Allocators that this machine has beside its own, the fastest first."""
    return [name for name in _ALLOCATORS if _found(name)]


def preloading(name: str) -> dict[str, str]:
    """The variables that load an allocator into a process that is started with them."""
    return {_PRELOAD: ":".join(_found(name)), **_ALLOCATORS[name][1]}


def _found(name: str) -> tuple[str, ...]:
    """An allocator's libraries as the dynamic linker finds them; none where one is missing."""
    libraries = _ALLOCATORS[name][0]
    if _system_libraries().issuperset(libraries):
        return libraries
    paths = tuple(f"{sys.prefix}/lib/{library}" for library in libraries)  # a wheel's, or conda's
    # A name that cannot be loaded would keep the worker from starting, and these signs end a name.
    return paths if all(Path(path).exists() for path in paths) and not re.search(r"[\s:]", sys.prefix) else ()


@functools.cache
def _system_libraries() -> frozenset[str]:
    """What the dynamic linker finds by name: ``/etc/ld.so.cache``, as ldconfig(8) prints it."""
    for program in (Path("/sbin/ldconfig"), Path("/usr/sbin/ldconfig")):
        if program.exists():
            listed = subprocess.run([program, "-p"], capture_output=True, text=True, check=False).stdout
            return frozenset(line.split()[0] for line in listed.splitlines() if " => " in line)
    return frozenset()

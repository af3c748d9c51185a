"""What the system says of its processor and memory: Linux's /proc and /sys, and little elsewhere."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from hocket.hardware.device import cpu_name
from hocket.hardware.libraries import allocator
from hocket.hardware.profile import Cache, Host, NumaNode

VECTOR_UNITS = (
    *("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "sve", "sve2", "i8mm", "bf16"),
)
"""Flags of the kernel's list that say how fast products can be, x86 and Arm."""

_ROOT = Path("/")
_KINDS = {"Data": "data", "Instruction": "instruction", "Unified": "unified"}
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def usable_cores() -> tuple[int, ...]:
    """Numbers of the logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def describe(root: Path = _ROOT) -> Host:
    """The host, as far as it tells; ``root`` is where /proc and /sys lie."""
    cores = usable_cores()
    return Host(
        cpu=cpu_name(),
        cores=len(cores),
        threads_per_core=threads_per_core(cores, root),
        numa_nodes=numa_nodes(cores, root),
        caches=caches(cores, root),
        vector_units=vector_units(root),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        allocator=allocator(),
    )


def memory_bytes(root: Path = _ROOT) -> int:
    """Of this machine, or of the control group that this process is confined to, if that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _text(root / "sys/fs/cgroup/memory.max")
    return min(whole, int(limit)) if limit.isdecimal() else whole


def caches(cores: Iterable[int], root: Path = _ROOT) -> tuple[Cache, ...]:
    """The caches of ``cores``, smallest level first; those that cores share are counted once."""
    found: dict[tuple[int, str, int], set[str]] = {}
    for core in cores:
        for index in sorted((root / f"sys/devices/system/cpu/cpu{core}/cache").glob("index*")):
            level, size = _text(index / "level"), re.fullmatch(r"(\d+)([KMG])", _text(index / "size"))
            kind = _KINDS.get(_text(index / "type"))
            if not level.isdecimal() or size is None or kind is None:
                continue
            key = (int(level), kind, int(size[1]) * _UNITS[size[2]])
            found.setdefault(key, set()).add(_text(index / "shared_cpu_list"))
    return tuple(Cache(*key, count=len(sharing)) for key, sharing in sorted(found.items()))


def numa_nodes(cores: Iterable[int], root: Path = _ROOT) -> tuple[NumaNode, ...]:
    """Nodes that have some of ``cores``; one with all of them where the system does not say."""
    usable = set(cores)
    nodes = []
    for folder in sorted(
        (root / "sys/devices/system/node").glob("node[0-9]*"), key=lambda folder: int(folder.name[4:])
    ):
        own = tuple(sorted(usable & set(_numbers(_text(folder / "cpulist")))))
        told = re.search(r"MemTotal:\s+(\d+) kB", _text(folder / "meminfo"))
        if own:
            nodes.append(NumaNode(own, 1024 * int(told[1]) if told else 0))
    return tuple(nodes) or (NumaNode(tuple(sorted(usable)), memory_bytes(root)),)


def threads_per_core(cores: Iterable[int], root: Path = _ROOT) -> int:
    """Logical processors that share one core."""
    first = min(cores)
    siblings = _text(root / f"sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    return max(1, len(_numbers(siblings)))


def vector_units(root: Path = _ROOT) -> tuple[str, ...]:
    """Those of :data:`VECTOR_UNITS` that the processor has."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            has = set(value.split())
            return tuple(unit for unit in VECTOR_UNITS if unit in has)
    return ()


def file_system(folder: Path, root: Path = _ROOT) -> str:
    """The type of the file system that holds ``folder``: ``ext4``, ``nfs4``; ``unknown`` if not told."""
    path = str(folder.resolve())
    best, kind = "", "unknown"
    for line in _text(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        mount = left.split()[4].encode().decode("unicode_escape")
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind


def _numbers(text: str) -> list[int]:
    """``0-2,8`` as 0, 1, 2, 8."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

"""The device a rank computes on, and the words a record uses for it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from hocket.core.errors import UsageError
from hocket.hardware.libraries import allocator


def choose_device(wanted: str, local_rank: int = 0) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` as a device of this rank; raises when it is not there."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device: {wanted!r} is not known", "Known: auto, cpu, cuda.")
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(
            "device: cuda was asked for, and this machine has no usable GPU", "Use device: auto or cpu."
        )
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def backend() -> str:
    """The process-group backend of this host: nccl for tensors on GPUs, gloo for all others."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def fix_arithmetic(num_threads: int) -> None:
    """One thread count for the whole life of this process, and no reduced-precision matrix products.

    Must come before the first parallel region.
    """
    torch.set_num_threads(num_threads)
    torch.set_num_interop_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def describe() -> dict[str, object]:
    """What a result must carry about the machine: processor, cores, accelerators, versions."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "accelerators": devices,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "allocator": allocator(),
        "system": f"{platform.system()} {platform.release()}",
    }


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""Where the workers of a job run: processes on this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from hocket.core.errors import UsageError
from hocket.hardware.device import choose_device
from hocket.hardware.host import usable_cores
from hocket.recognition import ray_engine
from hocket.recognition.messages import Start
from hocket.recognition.process import Worker, WorkerProcess

EngineName = Literal["processes", "ray"]


@dataclass(frozen=True)
class Hosts:
    """A place for workers. Nothing in it can change an answer."""

    launch: Callable[[Start], Worker]
    device: str
    """``cpu`` or ``cuda``."""
    most: int
    """Workers that can run without sharing a core or a GPU."""
    cores: tuple[int, ...]
    """Numbers of this machine's cores that workers may use; empty elsewhere."""

    def pinned(self, slot: int, workers: int, threads: int) -> tuple[int, ...]:
        """The cores of a worker's own, where workers take up all of them; none where a GPU does the work.

        Fewer workers leave room for another job, which would choose the same cores: the system deals them.
        """
        if self.device != "cpu" or workers * threads != len(self.cores):
            return ()
        return self.cores[slot * threads : (slot + 1) * threads]

    def readers(self, workers: int) -> int:
        """Threads that a worker may read with: one beside a computing core, its share beside a GPU."""
        return 1 if self.device == "cpu" else max(1, len(self.cores) // workers)


@contextmanager
def open_hosts(engine: str, device: str, threads: int, sp: int = 1) -> Iterator[Hosts]:
    """The place that ``engine`` names, for as long as the block runs.

    A worker is ``sp`` processes of ``threads`` each.

    Raises :class:`UsageError` for an engine or a device that is not there.
    """
    if engine not in get_args(EngineName):
        raise UsageError(f"engine: {engine!r} is not known", f"Known: {', '.join(get_args(EngineName))}.")
    if engine == "processes":
        kind, cores = choose_device(device).type, usable_cores()
        most = torch.cuda.device_count() // sp if kind == "cuda" else len(cores) // (threads * sp)
        yield Hosts(WorkerProcess, kind, max(1, most), cores)
        return
    if sp > 1:
        raise UsageError("layout: a worker of several processes runs with --engine processes")
    with ray_engine.cluster() as (launch, cpus, gpus):
        if device == "cuda" and not gpus:
            raise UsageError("device: cuda was asked for, and the Ray cluster has no GPU")
        kind = "cuda" if gpus and device != "cpu" else "cpu"
        yield Hosts(launch, kind, gpus if kind == "cuda" else max(1, cpus // threads), ())

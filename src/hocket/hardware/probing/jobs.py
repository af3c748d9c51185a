"""The list of what one rank measures in a round, in an order that is the same on every rank.

A key says what a sample is, in parts between slashes; :mod:`hocket.hardware.probing.summary` reads them:
``product/DEVICE/DTYPE/SHAPE/alone``, ``memory/one``, ``message/all_reduce/2/4096``, ``read/random/cold/2``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from hocket.comms.communicator import Communicator
from hocket.hardware import host
from hocket.hardware.matrix_rate import Shape, product_rate
from hocket.hardware.probing import messages, reading
from hocket.hardware.probing.kernels import HostCopy, Triad, array_bytes
from hocket.hardware.probing.settings import ProbeSettings

CPU = torch.device("cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32}
ON_CPU = ("fp32", "bf16")
ON_GPU = ("fp32", "tf32", "bf16", "fp16")
_RUNS_OF_A_PRODUCT = 4


@dataclass(frozen=True)
class Job:
    """One measurement: the number it gives (a rate or seconds), or None on a rank that only waits."""

    key: str
    run: Callable[[float], float] | None
    """Called with the seconds it may take, about."""


@dataclass(frozen=True)
class Place:
    """Where this rank is."""

    world: Communicator
    pair: Communicator | None
    """Ranks 0 and 1, if this is one of them."""
    device: torch.device
    leads: bool
    """The first rank with a device of this name."""
    name: str
    """Of the device."""

    @property
    def rank(self) -> int:
        """Among all."""
        return self.world.rank


def of_round(settings: ProbeSettings, place: Place, file: Path, how: reading.ColdBy) -> list[Job]:
    """All jobs of a round; they allocate what they need now, and keep it."""
    jobs = _memory(place)
    jobs += _products(place, CPU, "cpu", settings.all_shapes(), ON_CPU, place.rank == 0)
    if place.device.type == "cuda":
        shapes = {name: larger(shape) for name, shape in settings.all_shapes().items()}
        jobs += _products(place, place.device, place.name, shapes, ON_GPU, place.leads)
        jobs += _accelerator(place)
    jobs += _messages(settings, place)
    jobs += _reads(place, file, how)
    return jobs


def larger(shape: Shape) -> Shape:
    """The same product over eight times as many rows: what an accelerator is given at once."""
    rows, inner, columns = shape
    return (8 * rows, inner, columns) if inner != columns else (8 * rows, 8 * inner, 8 * columns)


def _memory(place: Place) -> list[Job]:
    last = max((cache.num_bytes for cache in host.caches(host.usable_cores())), default=0)
    triad = Triad(CPU, array_bytes(CPU, last, place.world.world_size, host.memory_bytes()))
    return [Job("memory/one", triad.rate if place.rank == 0 else None), Job("memory/all", triad.rate)]


def _products(
    place: Place,
    device: torch.device,
    name: str,
    shapes: dict[str, Shape],
    dtypes: tuple[str, ...],
    leads: bool,
) -> list[Job]:
    jobs = []
    for dtype in dtypes:
        for shape_name, shape in shapes.items():
            key = f"product/{name}/{dtype}/{shape_name}"
            run = partial(_product, device, dtype, shape)
            jobs.append(Job(f"{key}/alone", run if leads else None))
            if place.world.world_size > 1:
                jobs.append(Job(f"{key}/together", run))
    return jobs


def _product(device: torch.device, dtype: str, shape: Shape, seconds: float) -> float:
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    try:
        return product_rate(device, DTYPES[dtype], shape, seconds / _RUNS_OF_A_PRODUCT)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def _accelerator(place: Place) -> list[Job]:
    free, _ = torch.cuda.mem_get_info(place.device)
    triad = Triad(place.device, array_bytes(place.device, 0, 1, free))
    copy = HostCopy(place.device)
    return [
        Job(f"memory/{place.name}", triad.rate if place.leads else None),
        Job(f"copy/{place.name}", copy.rate if place.leads else None),
    ]


def _messages(settings: ProbeSettings, place: Place) -> list[Job]:
    jobs = []
    groups: list[tuple[int, Communicator | None]] = []
    if place.world.world_size > 1:
        groups.append((2, place.pair))
    if place.world.world_size > 2:
        groups.append((place.world.world_size, place.world))
    for size, ranks in groups:
        for operation in messages.OPERATIONS:
            if operation == "p2p" and size > 2:
                continue
            for num_bytes in settings.message_sizes():
                run = None
                if ranks is not None:
                    run = partial(messages.seconds_per_call, ranks, operation, num_bytes, place.device)
                jobs.append(Job(f"message/{operation}/{size}/{num_bytes}", run))
    return jobs


def _reads(place: Place, file: Path, how: reading.ColdBy) -> list[Job]:
    jobs = []
    for readers in dict.fromkeys((1, place.world.world_size)):
        reader = reading.Reader(file, place.rank, readers, how) if place.rank < readers else None
        for cache in reading.CACHES:
            for pattern in reading.PATTERNS:
                run = None if reader is None else partial(reader.rate, pattern, cache == "warm")
                jobs.append(Job(f"read/{pattern}/{cache}/{readers}", run))
    return jobs

"""The profile of a machine, put together from what the ranks of a probe measured and the system says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch

from hocket import __version__
from hocket.core import clock
from hocket.core.errors import RunError
from hocket.hardware import accelerators, catalogue, host, libraries
from hocket.hardware.matrix_rate import Shape
from hocket.hardware.probing import messages, reading, summary
from hocket.hardware.probing.jobs import ON_CPU, ON_GPU, larger
from hocket.hardware.probing.settings import ProbeSettings
from hocket.hardware.probing.summary import Measured
from hocket.hardware.profile import (
    VERSION,
    Collective,
    Device,
    Figure,
    MachineProfile,
    Memory,
    Noise,
    Price,
    ProductRate,
    ReadRate,
    StorageRates,
)

_IN_MEMORY = ("tmpfs", "ramfs")


def profile(
    settings: ProbeSettings,
    ranks: Sequence[Measured],
    *,
    took: float,
    load: float,
    file_bytes: int,
    cold_by: reading.ColdBy,
) -> MachineProfile:
    """All of it; ``took`` seconds, after a minute in which ``load`` processes wanted a core."""
    own = host.describe()
    reference, noisy = summary.steadiness([seconds for rank in ranks for seconds in rank.reference])
    devices, notes_of_devices = _devices(settings, ranks)
    file_system = host.file_system(settings.folder)
    return MachineProfile(
        version=VERSION,
        date=datetime.fromtimestamp(clock.wall(), UTC).isoformat(timespec="seconds"),
        hocket=__version__,
        took_seconds=took,
        rounds=ranks[0].rounds,
        workers=settings.workers,
        # The workers' allocator, not this process's.
        host=replace(own, allocator=next(iter(libraries.available()), own.allocator)),
        memory=Memory(
            host.memory_bytes(), _needed(ranks, "memory/one"), _needed(ranks, "memory/all"), settings.workers
        ),
        devices=devices,
        collectives=_collectives(settings, ranks),
        storage=_storage(ranks, file_system, file_bytes, cold_by),
        noise=Noise(reference, noisy, load),
        notes=(*notes_of_devices, *notes(settings, noisy, reference, file_system)),
    )


def _needed(ranks: Sequence[Measured], key: str) -> Figure:
    found = summary.figure(ranks, key)
    if found is None:
        raise RunError(f"the probe brought no {key}")
    return found


def _devices(settings: ProbeSettings, ranks: Sequence[Measured]) -> tuple[tuple[Device, ...], list[str]]:
    own = host.describe()
    card = catalogue.recognise(own.cpu)
    shapes = settings.all_shapes()
    found = [
        Device(
            kind="cpu",
            name=own.cpu,
            count=own.cores,
            memory_bytes=host.memory_bytes(),
            memory_bandwidth=None,
            host_bandwidth=None,
            products=_products(ranks, "cpu", shapes, ON_CPU),
            links=(),
            power_watts=None,
            price=None if card is None else _price(card),
            catalogue=None if card is None else card.name,
        )
    ]
    lacking: list[str] = []
    larger_shapes = {name: larger(shape) for name, shape in shapes.items()}
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    for name in dict.fromkeys(names):
        index = names.index(name)
        key = name.replace("/", "-")
        if all(rank.device != key for rank in ranks):
            lacking.append(f"{name}: not measured, since there are fewer workers than accelerators")
            continue
        told, why_not = accelerators.ask(index)
        lacking += [] if why_not is None else [f"{name}: {why_not}"]
        card = catalogue.recognise(name)
        found.append(
            Device(
                kind="gpu",
                name=name,
                count=names.count(name),
                memory_bytes=torch.cuda.get_device_properties(index).total_memory,
                memory_bandwidth=summary.figure(ranks, f"memory/{key}"),
                host_bandwidth=summary.figure(ranks, f"copy/{key}"),
                products=_products(ranks, key, larger_shapes, ON_GPU),
                links=told.links,
                power_watts=told.power_watts,
                price=None if card is None else _price(card),
                catalogue=None if card is None else card.name,
            )
        )
    return tuple(found), lacking


def _products(
    ranks: Sequence[Measured], device: str, shapes: dict[str, Shape], dtypes: Sequence[str]
) -> tuple[ProductRate, ...]:
    rates = []
    for dtype in dtypes:
        for name, shape in shapes.items():
            alone = _needed(ranks, f"product/{device}/{dtype}/{name}/alone")
            together = summary.figure(ranks, f"product/{device}/{dtype}/{name}/together") or alone
            rates.append(ProductRate(name, shape, dtype, alone, together))
    return tuple(rates)


def _price(card: catalogue.Card) -> Price | None:
    return Price(card.prices[0].usd, card.prices[0].per) if card.prices else None


def _collectives(settings: ProbeSettings, ranks: Sequence[Measured]) -> tuple[Collective, ...]:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    tables = []
    for world_size in dict.fromkeys((2, settings.workers)):
        for operation in messages.OPERATIONS:
            keys = [(size, f"message/{operation}/{world_size}/{size}") for size in settings.message_sizes()]
            rows = [(size, figure) for size, key in keys if (figure := summary.figure(ranks, key))]
            if rows:
                tables.append(messages.collective(operation, world_size, backend, rows))
    return tuple(tables)


def _storage(ranks: Sequence[Measured], kind: str, file_bytes: int, how: reading.ColdBy) -> StorageRates:
    rates = []
    for readers in dict.fromkeys((1, len(ranks))):
        for cache in reading.CACHES:
            for pattern in reading.PATTERNS:
                rate = _needed(ranks, f"read/{pattern}/{cache}/{readers}")
                rates.append(ReadRate(pattern, cache, readers, reading.REQUEST[pattern], rate))
    return StorageRates(kind, file_bytes, how, tuple(rates))


def notes(settings: ProbeSettings, noisy: bool, reference: Figure, file_system: str) -> Iterator[str]:
    """What a reader of the profile should know: noise, and what was not measured."""
    cores = len(host.usable_cores())
    if noisy:
        yield (
            f"the machine is noisy: the same product took {reference.low / reference.median:.2f} to "
            f"{reference.high / reference.median:.2f} of its median; end other work and measure again"
        )
    if settings.workers == 1:
        yield "one worker: no messages between workers were measured; --workers 2 does"
    if settings.workers > cores:
        yield f"{settings.workers} workers on {cores} cores: they waited for each other"
    elif settings.workers < cores and not torch.cuda.is_available():
        yield f"{settings.workers} of {cores} cores were measured at once; --workers {cores} takes all"
    if file_system in _IN_MEMORY:
        yield f"the folder is in memory ({file_system}): its cold reads are not those of a disk"
    yield "fp16 on the CPU and int8 were not measured: hocket computes neither in torch there"

"""A machine's profile of round numbers."""

from __future__ import annotations

from hocket.hardware.profile import (
    VERSION,
    Cache,
    Collective,
    Device,
    Figure,
    Host,
    MachineProfile,
    Memory,
    Noise,
    NumaNode,
    ProductRate,
    ReadRate,
    StorageRates,
    Timing,
)


def exactly(value: float) -> Figure:
    return Figure(value, value, value, 1)


def machine() -> MachineProfile:
    rate = Figure.of([90e9, 80e9, 95e9])
    table = tuple(
        Timing(size, exactly(seconds)) for size, seconds in ((1024, 1e-4), (2**20, 1e-3), (2**24, 8e-3))
    )
    products = (
        ProductRate("square", (1024, 1024, 1024), "fp32", rate, rate),
        ProductRate("tiny", (1024, 128, 256), "fp32", exactly(40e9), exactly(30e9)),
    )
    return MachineProfile(
        version=VERSION,
        date="2026-01-02T03:04:05+00:00",
        hocket="1.0",
        took_seconds=60.0,
        rounds=3,
        workers=2,
        host=Host(
            "EPYC",
            2,
            1,
            (NumaNode((0, 1), 2**34),),
            (Cache(3, "unified", 2**25, 1),),
            ("avx2",),
            "L",
            "3",
            "2",
            "tbb",
        ),
        memory=Memory(2**34, exactly(12e9), exactly(20e9), 2),
        devices=(Device("cpu", "EPYC", 2, 2**34, None, None, products, (), None, None, None),),
        collectives=(Collective("all_reduce", 2, "gloo", table, 1e-4, 5e-10, 0.3),),
        storage=StorageRates(
            "ext4", 2**28, "O_DIRECT", (ReadRate("random", "cold", 1, 65536, exactly(1e8)),)
        ),
        noise=Noise(exactly(1e-3), False, 0.1),
        notes=("no accelerator",),
    )

"""A machine's profile: what ``hocket probe`` measured, as frozen facts, and the file that holds them.

Units throughout: bytes, seconds, bytes a second, FLOP a second (a multiply-add is two), watts. A
:class:`Figure` is measured; plain numbers are what the system or the maker says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from hocket.core import files
from hocket.core.errors import UsageError

VERSION = 1
"""Of the file. Another version is refused, since its figures may mean something else."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Kind = Literal["cpu", "gpu", "tpu", "asic", "fpga"]
Operation = Literal["all_reduce", "all_gather", "p2p"]


class _Closed:
    """Reading refuses keys that are not known."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Figure(_Closed):
    """A measured quantity: median of ``count`` samples, one a round, and the range they lie in."""

    median: Positive
    low: Positive
    high: Positive
    count: Count

    @classmethod
    def of(cls, samples: Sequence[float]) -> Figure:
        """Of at least one sample, all above 0."""
        return cls(statistics.median(samples), min(samples), max(samples), len(samples))

    @property
    def spread(self) -> float:
        """Half the range over the median: 0.05 reads as plus or minus 5 %."""
        return (self.high - self.low) / 2 / self.median

    def agrees(self, other: Figure) -> bool:
        """Whether two measurements of one thing agree within what they state: their ranges meet."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Cache(_Closed):
    """One kind of cache of the processor."""

    level: Count
    kind: str
    """``data``, ``instruction`` or ``unified``."""
    num_bytes: Count
    count: Count
    """How many of them the usable cores have."""


@dataclass(frozen=True)
class NumaNode(_Closed):
    """Cores that share a memory controller."""

    cores: tuple[int, ...]
    """Numbers of the usable ones."""
    memory_bytes: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Host(_Closed):
    """The processor and what runs on it."""

    cpu: str
    cores: Count
    """Logical processors that this process may use."""
    threads_per_core: Count
    numa_nodes: tuple[NumaNode, ...]
    caches: tuple[Cache, ...]
    vector_units: tuple[str, ...]
    """Instruction sets that matter to products, the kernel's names: ``avx2``, ``avx512_bf16``, ``sve``."""
    system: str
    python: str
    torch: str
    allocator: str


@dataclass(frozen=True)
class Memory(_Closed):
    """The host's memory; bandwidth by a triad, ``a = b + s*c``, 12 bytes an element counted."""

    num_bytes: Count
    bandwidth_one: Figure
    """One process with one thread."""
    bandwidth_all: Figure
    """Of ``workers`` such processes at once, together."""
    workers: Count


@dataclass(frozen=True)
class ProductRate(_Closed):
    """FLOP a second of one device in products of one shape."""

    name: str
    """Whose shape it is: ``square``, or ``base`` for the feed-forward of the preset base."""
    shape: tuple[int, int, int]
    """(M, K, N): an (M, K) matrix times a (K, N) one."""
    dtype: str
    """``fp32``, ``tf32``, ``bf16``, ``fp16`` or ``int8`` (then integer operations)."""
    alone: Figure
    """The other devices idle. On the CPU a device is one process with one thread."""
    together: Figure
    """Each of them, when all workers compute at once: the mean over them."""


@dataclass(frozen=True)
class Link(_Closed):
    """A way out of a device."""

    name: str
    bytes_per_second: Positive
    """One direction, all lanes or cables of this kind together."""


@dataclass(frozen=True)
class Price(_Closed):
    """What a device costs where that is published."""

    usd: Positive
    per: Literal["unit", "hour"]


@dataclass(frozen=True)
class Device(_Closed):
    """A kind of device of this machine, ``count`` of them alike."""

    kind: Kind
    name: str
    count: Count
    """Of the CPU: usable logical processors, each of which is one worker's device."""
    memory_bytes: Count
    """Of each; the CPU's is the host's, shared."""
    memory_bandwidth: Figure | None
    """Of each, alone; None for the CPU, see :class:`Memory`."""
    host_bandwidth: Figure | None
    """From the host's (pinned) memory to the device; None for the CPU."""
    products: tuple[ProductRate, ...]
    links: tuple[Link, ...]
    power_watts: NotNegative | None
    """The limit of each; None where the system does not say."""
    price: Price | None
    """From the catalogue, where that has one."""
    catalogue: str | None
    """Its name in the catalogue, where it is there."""

    def rate(self, dtype: str, shape: tuple[int, int, int] | None = None) -> ProductRate | None:
        """The measured shape of ``dtype`` that is nearest to ``shape`` in size; the fastest without one."""
        of_dtype = [product for product in self.products if product.dtype == dtype]
        if shape is None:
            return max(of_dtype, key=lambda product: product.alone.median, default=None)
        size = math.log(math.prod(shape))
        return min(of_dtype, key=lambda product: abs(math.log(math.prod(product.shape)) - size), default=None)


@dataclass(frozen=True)
class Timing(_Closed):
    """Seconds of one call with a message of so many bytes."""

    num_bytes: Count
    seconds: Figure


@dataclass(frozen=True)
class Collective(_Closed):
    """One operation among workers of this machine: a table over sizes, and a line through it.

    ``num_bytes`` are those of the tensor that is summed (``all_reduce``), that each rank brings
    (``all_gather``), or of the message (``p2p``: one way, half a round trip). The line is
    ``alpha + beta * num_bytes``, fitted to relative errors; the table is what was measured.
    """

    operation: Operation
    world_size: Annotated[int, Field(ge=2)]
    backend: str
    """``gloo`` or ``nccl``."""
    timings: tuple[Timing, ...]
    """Sizes ascending."""
    alpha: NotNegative
    """Seconds, however little is sent."""
    beta: NotNegative
    """Seconds a byte."""
    worst_error: NotNegative
    """Of the line, over the table: 0.3 is 30 %."""

    def seconds(self, num_bytes: float) -> float:
        """Read off the table, between sizes on a log-log scale; beyond its ends by the end's slope or rate.

        Smaller messages take as long as the smallest, larger ones run at the rate of the largest.
        """
        first, last = self.timings[0], self.timings[-1]
        if num_bytes <= first.num_bytes:
            return first.seconds.median
        if num_bytes >= last.num_bytes:
            return last.seconds.median * num_bytes / last.num_bytes
        above = next(number for number, each in enumerate(self.timings) if num_bytes <= each.num_bytes)
        low, high = self.timings[above - 1], self.timings[above]
        share = math.log(num_bytes / low.num_bytes) / math.log(high.num_bytes / low.num_bytes)
        return float(low.seconds.median * (high.seconds.median / low.seconds.median) ** share)


@dataclass(frozen=True)
class ReadRate(_Closed):
    """How fast a file's bytes come."""

    pattern: Literal["sequential", "random"]
    cache: Literal["cold", "warm"]
    """``warm``: the system's memory of files holds them."""
    readers: Count
    """Processes that read at once, each its own part."""
    request_bytes: Count
    bytes_per_second: Figure
    """Of all readers together."""


@dataclass(frozen=True)
class StorageRates(_Closed):
    """Reads from the folder that was named, in one file of random bytes."""

    file_system: str
    file_bytes: Count
    cold_by: Literal["O_DIRECT", "posix_fadvise"]
    """How the system's memory of files was kept out of cold reads; not that of a disk or a hypervisor."""
    rates: tuple[ReadRate, ...]


@dataclass(frozen=True)
class Noise(_Closed):
    """How steady the machine was: a small product, timed again and again between all measurements."""

    reference: Figure
    """Seconds of it; ``low`` and ``high`` hold the middle eight tenths of the samples."""
    noisy: bool
    """The spread of the reference is above a twentieth."""
    load_before: NotNegative
    """Processes that wanted a core in the minute before, as the system counts them."""


@dataclass(frozen=True)
class MachineProfile(_Closed):
    """All that was measured of one machine."""

    version: int
    date: str
    """ISO 8601, UTC."""
    hocket: str
    """Version that measured."""
    took_seconds: NotNegative
    rounds: Count
    """Every figure was measured once in each round."""
    workers: Count
    """Processes, each with one thread, and one accelerator where there are any."""
    host: Host
    memory: Memory
    devices: tuple[Device, ...]
    """The CPU first."""
    collectives: tuple[Collective, ...]
    storage: StorageRates
    noise: Noise
    notes: tuple[str, ...]
    """What was not measured, and why."""

    @property
    def device(self) -> Device:
        """The one that training would take: the accelerator, else the CPU."""
        return self.devices[-1]

    def collective(self, operation: Operation, world_size: int) -> Collective | None:
        """The table of an operation, of the measured number of workers nearest to ``world_size``."""
        of_it = [each for each in self.collectives if each.operation == operation]
        return min(of_it, key=lambda each: abs(each.world_size - world_size), default=None)

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        files.write_json(path, asdict(self))


def read(path: Path) -> MachineProfile:
    """What :meth:`MachineProfile.write` wrote.

    Raises :class:`UsageError` for a file that is not there, is of another version, or is malformed,
    naming the field.
    """
    again = f"Measure again: hocket probe --out {path}"
    given = files.read_versioned(path, "a machine's profile", VERSION, again)
    try:
        return _ADAPTER.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        got = "" if first["type"] == "missing" else f" (got {first['input']!r})"
        more = "" if error.error_count() == 1 else f"; {error.error_count() - 1} more such fields"
        raise UsageError(f"{path}: the field {field}: {first['msg']}{got}{more}", again) from None


_ADAPTER = TypeAdapter(MachineProfile)

"""What is predicted: a way to run a recipe, and what is to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hocket.core.layout import Layout
from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision
from hocket.planning.demand import Shape
from hocket.planning.fabric import Fabric
from hocket.planning.rates import Rates
from hocket.sync import AllReduceSettings, SyncBase
from hocket.sync.leased import LeasedSettings


@dataclass(frozen=True)
class Candidate:
    """A way of being parallel."""

    layout: Layout
    sync: SyncBase | LeasedSettings = field(default_factory=AllReduceSettings)
    precision: Precision = "fp32"
    micro_batches_per_step: int = 8

    def __str__(self) -> str:
        """In one line."""
        return f"{self.layout}, {self.sync_name}, {self.precision}"

    @property
    def sync_name(self) -> str:
        """The strategy and what of it was chosen."""
        sync = self.sync
        compression = getattr(getattr(sync, "compression", None), "name", "none")
        more = [] if compression == "none" else [compression]
        if hasattr(sync, "sync_every"):
            more.append(f"every {sync.sync_every}")
        name = str(sync.model_dump()["name"])
        return f"{name} ({', '.join(more)})" if more else name


@dataclass(frozen=True)
class PlannedMicroBatch:
    """A micro-batch of the real plan: its size, and what the plan thinks it costs, by which it is dealt."""

    shape: Shape
    cost: float
    audio_seconds: float


@dataclass(frozen=True)
class Job:
    """What is to be run, whatever it runs on."""

    config: ModelConfig
    steps: Sequence[Sequence[PlannedMicroBatch]]
    """Some steps as the plan of batches has them: a sample of all."""
    steps_per_epoch: int
    num_steps: int
    """Of the whole run."""
    keeps_average: bool = False
    exact: bool = False
    largest: Sequence[PlannedMicroBatch] = ()
    """The micro-batches that memory must hold: the largest of the sample."""

    @property
    def audio_per_step(self) -> float:
        """Seconds of speech of a step, in the mean over the sample."""
        return sum(batch.audio_seconds for step in self.steps for batch in step) / len(self.steps)

    @property
    def typical_shape(self) -> Shape:
        """The micro-batch in the middle of the sample, by padded frames."""
        shapes = [batch.shape for step in self.steps for batch in step]
        return sorted(shapes, key=lambda shape: shape.num_rows * shape.num_frames)[len(shapes) // 2]

    @property
    def micro_batches_per_step(self) -> int:
        """Of every step."""
        return len(self.steps[0])


@dataclass(frozen=True)
class Crowding:
    """How much slower a device is when all workers of its host compute at once: 1.0 is not at all."""

    arithmetic: float = 1.0
    memory: float = 1.0


@dataclass(frozen=True)
class Cluster:
    """What it runs on: hosts that are alike, with devices that are alike."""

    name: str
    rates: Rates
    fabric: Fabric
    per_host: int
    """Devices of a host; of processors, usable cores."""
    num_hosts: int
    device: str
    """``cpu`` or ``cuda``."""
    memory_bytes: float
    """Of a device; of processors, the share of the host's memory that falls to a core."""
    base_bytes: float = 0.0
    """What a worker takes beside its tensors: the interpreter, libraries, kernels."""
    crowding: Crowding = Crowding()
    """When a host is full."""
    host_bytes_per_second: float | None = None
    """What a core gets through when it sends or receives for itself, as on processors with gloo; None where
    devices send beside computing."""
    watts: float | None = None
    """Of a device and its share of the host, under load."""
    price_per_hour: float | None = None
    """Of a device, in dollars."""
    peaks: Mapping[str, float] = field(default_factory=dict)
    """For a roofline: operations a second by precision, and ``memory`` in bytes a second."""

    @property
    def num_devices(self) -> int:
        """Devices of all hosts."""
        return self.per_host * self.num_hosts

    @property
    def unit(self) -> str:
        """What a worker runs on, in words."""
        return "core" if self.device == "cpu" else "device"

    def hosts_of(self, workers: int) -> int:
        """Hosts that so many workers fill, one to a device."""
        return -(-workers // self.per_host)

"""Jobs and clusters for the planner, made of round numbers."""

from __future__ import annotations

from typing import Any

from hocket.model import workload
from hocket.model.config import ModelConfig
from hocket.planning.candidate import Cluster, Job, PlannedMicroBatch
from hocket.planning.demand import Shape
from hocket.planning.enumerate import Asked
from hocket.planning.fabric import AlphaBeta, Line, NoNetwork
from hocket.planning.nominal import rates_of
from hocket.planning.rates import Rates, StepRates
from hocket.sync import AllReduceSettings

FLOPS, BANDWIDTH = 1e12, 1e11


def config(**changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"preset": "tiny", "vocab_size": 64, **changes})


def job(
    model: ModelConfig | None = None,
    micro_batches: int = 16,
    rows: int = 4,
    frames: int = 400,
    steps: int = 2,
) -> Job:
    """Steps of equal micro-batches."""
    model = model or config()
    shape = Shape(rows, frames, frames // 20)
    cost = float(workload.cost(model).micro_batch(rows, frames, frames // 20))
    one = PlannedMicroBatch(shape, cost, rows * frames / 100)
    return Job(model, [[one] * micro_batches] * steps, steps, 100, largest=[one])


def rates() -> Rates:
    """A device without anything that is paid once a step."""
    found = rates_of({"fp32": FLOPS, "bf16": 4 * FLOPS}, BANDWIDTH)
    free = StepRates(0.0, 0.0)
    return Rates(found.passes, free, found.coding, free)


def cluster(num_hosts: int = 1, per_host: int = 8, **changes: Any) -> Cluster:
    """Devices that send beside computing, without a network unless one is given."""
    given: dict[str, Any] = {
        "name": "paper",
        "rates": rates(),
        "fabric": NoNetwork(),
        "per_host": per_host,
        "num_hosts": num_hosts,
        "device": "cuda",
        "memory_bytes": 16e9,
    }
    return Cluster(**{**given, **changes})


def ring(per_host: int, bandwidth: float, latency: float = 0.0) -> AlphaBeta:
    """Hosts on such links, with nothing lost inside them."""
    return AlphaBeta("ring", per_host, Line(0.0, 1e15), Line(latency, bandwidth))


def asked(**changes: Any) -> Asked:
    given: dict[str, Any] = {
        "precision": "fp32",
        "sync": AllReduceSettings(),
        "micro_batches_per_step": 16,
    }
    return Asked(**{**given, **changes})

"""How near a run comes to what the machine's matrix products reach."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch

from hocket.comms.communicator import Communicator
from hocket.core.events import Event
from hocket.core.work import GlobalBatch
from hocket.hardware.matrix_rate import matrix_rate
from hocket.model import ModelConfig, workload
from hocket.model.workload import Polynomial
from hocket.parallel.precision import Precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Ceiling:
    """What a step asks for, and what the workers' devices could do at most."""

    of_micro_batch: Polynomial
    """Operations of a train step over (B, T)."""
    matrix_rate: float
    """Operations a second of plain matrix products, all workers together, measured at the same time."""

    def flops(self, batch: GlobalBatch) -> float:
        """Operations of a step on all workers, padding included."""
        return sum(self.of_micro_batch(m.num_utterances, m.num_frames) for m in batch.micro_batches)


def find_ceiling(
    trained: Collection[str],
    config: ModelConfig,
    precision: Precision,
    device: torch.device,
    ranks: Communicator,
    before: float | None,
) -> Ceiling:
    """Measure the matrix rate on all ranks at once, unless the leader knows it from ``before``.

    ``trained`` are the names of the parameters that learn.
    """
    rate = torch.tensor([before or 0.0], dtype=torch.float64, device=device)
    ranks.broadcast(rate, 0)
    if float(rate) == 0.0:
        ranks.barrier()
        rate[0] = matrix_rate(device, _DTYPES[precision], workload.typical_products(config))
        ranks.all_reduce(rate).wait()
    return Ceiling(workload.step_flops(config, trained), float(rate))


def measured_before(events: Iterable[Event], like: Event) -> float | None:
    """The matrix rate that an earlier start of this run measured on the same machine, in the same way.

    ``like`` holds the fields of a ``start`` event that must agree.
    """
    found = None
    for event in events:
        if event.get("event") == "start" and all(event.get(name) == value for name, value in like.items()):
            found = event.get("matrix_rate", found)
    return found

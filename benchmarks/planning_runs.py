"""Steps of any layout and strategy in processes of this machine, timed beside a reference: for the planner.

Used by ``benchmarks/long/plan_accuracy.py`` and ``benchmarks/long/plan_choice.py``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hocket.core import seeds
from hocket.core.layout import LayoutSettings
from hocket.hardware.libraries import environment
from hocket.model.config import ModelConfig
from hocket.planning.candidate import Candidate, Job, PlannedMicroBatch
from hocket.planning.demand import Shape
from hocket.sync import AllReduceSettings
from hocket.sync.local_sgd import LocalSgdSettings

NUM_STEPS = 3
"""Steps with shapes of their own; they are gone through again and again."""


@dataclass(frozen=True)
class Config:
    """One thing to predict and to run."""

    name: str
    model: dict[str, Any]
    layout: dict[str, Any] = field(default_factory=dict)
    sync: dict[str, Any] = field(default_factory=lambda: {"name": "all_reduce"})
    precision: str = "fp32"
    seconds: float = 40.0
    """Padded audio of a step."""
    utterance: float = 6.0
    """Seconds of a middling utterance."""
    micro_batches: int = 4

    @property
    def workers(self) -> int:
        """Processes."""
        return LayoutSettings.model_validate(self.layout).least_workers

    def candidate(self) -> Candidate:
        """For the planner."""
        layout = LayoutSettings.model_validate(self.layout).fill(self.workers)
        settings = LocalSgdSettings if self.sync["name"] == "local_sgd" else AllReduceSettings
        return Candidate(layout, settings.model_validate(self.sync), self.precision, self.micro_batches)  # type: ignore[arg-type]

    def job(self) -> Job:
        """Steps of micro-batches of uneven lengths, as a plan would cut them."""
        from hocket.model import workload

        config = ModelConfig.model_validate({"vocab_size": 257, **self.model})
        cost = workload.cost(config)
        steps = []
        for number in range(NUM_STEPS):
            draw = seeds.generator("planning runs", self.name, number)
            step = []
            for _ in range(self.micro_batches):
                length = self.utterance * float(np.exp(0.5 * draw.standard_normal()))
                num_frames = max(64, min(3000, 8 * round(100 * length / 8)))
                rows = max(1, round(100 * self.seconds / self.micro_batches / num_frames))
                shape = Shape(rows, num_frames, max(1, num_frames // 12))
                planned = float(cost.micro_batch(rows, num_frames, shape.num_tokens))
                step.append(PlannedMicroBatch(shape, planned, rows * num_frames / 100))
            steps.append(step)
        flat = [batch for step in steps for batch in step]
        largest = [
            max(flat, key=lambda batch: batch.cost),
            max(flat, key=lambda batch: batch.shape.num_rows * batch.shape.num_frames),
        ]
        return Job(config, steps, NUM_STEPS, NUM_STEPS, largest=largest)


@dataclass(frozen=True)
class Measured:
    """What came out."""

    ratio: float
    """Seconds of a step over those of the reference beside it: the median over rounds, the slowest rank."""
    low: float
    high: float
    """Quartiles."""
    peak_bytes: float
    """Storage of tensors at the fullest moment of a step, the fullest rank."""
    reference: float
    """Seconds of the reference, the least of all."""


def measure(config: Config, rounds: int) -> Measured:
    """Run the steps of ``config`` so many times in processes of their own, started as workers are."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(asdict(config)))
        started = [
            subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), folder, str(rank), str(rounds)],
                env=os.environ | environment(1),
            )
            for rank in range(config.workers)
        ]
        if sum(process.wait() != 0 for process in started):
            raise RuntimeError(f"{config.name}: a process failed")
        ranks = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(config.workers)]
    slowest = [max(ratios) for ratios in zip(*(rank["ratios"] for rank in ranks), strict=True)]
    low, _, high = statistics.quantiles(slowest, n=4) if len(slowest) > 1 else (slowest[0],) * 3
    return Measured(
        statistics.median(slowest),
        low,
        high,
        max(rank["peak"] for rank in ranks),
        min(rank["reference"] for rank in ranks),
    )


def run_rank(folder: Path, rank: int, rounds: int) -> None:
    """Be one process: warm up, then time every round of all steps beside the reference."""
    import torch
    import torch.distributed as dist

    from hocket.batching import deal
    from hocket.comms.communicator import Alone
    from hocket.comms.mesh import Mesh
    from hocket.core import clock
    from hocket.core.protocols import RankPart
    from hocket.core.work import GlobalBatch, MicroBatchSpec
    from hocket.hardware.memory import keep_freed_memory
    from hocket.model import build
    from hocket.parallel import apply
    from hocket.planning.reference import Reference
    from hocket.planning.trials import random_batch
    from hocket.sync import SyncBase, SyncContext, make_strategy

    config = Config(**json.loads((folder / "config.json").read_text()))
    torch.set_num_threads(1)
    keep_freed_memory()
    device = torch.device("cpu")
    job, candidate, layout = config.job(), config.candidate(), config.candidate().layout
    mesh = None
    if config.workers > 1:
        store = f"file://{folder / 'store'}"
        dist.init_process_group("gloo", store, rank=rank, world_size=config.workers)
        mesh = Mesh(layout, device)
    replica = apply(
        build(job.config, seed=0).train(), layout, device, mesh=mesh, precision=candidate.precision
    )
    assert isinstance(candidate.sync, SyncBase)
    context = SyncContext(mesh.along("dp_replicate") if mesh else Alone(), 1.0, 10**9)
    sync = make_strategy(candidate.sync, context, exact=False)
    sync.attach(replica)
    optimiser = torch.optim.AdamW([each.tensor for each in replica.held if each.trained], lr=1e-5, fused=True)
    replica_number, group = mesh.group if mesh else (0, 0)
    nobody = np.zeros(0, np.int64)
    prepared = []
    for step in job.steps:
        dealt = deal([batch.cost for batch in step], layout.dp_replicate, layout.dp_shard)
        mine = [position for position in dealt.of(replica_number, group) if position is not None]
        shapes = [step[position].shape for position in mine]
        batches = [
            random_batch(job.config, shape.num_rows, shape.num_frames, shape.num_tokens) for shape in shapes
        ]
        specs = tuple(
            MicroBatchSpec(n, nobody, nobody, s.num_frames, s.num_tokens, s.num_frames, s.num_tokens, 1.0)
            for n, s in enumerate(batch.shape for batch in step)
        )
        prepared.append((batches, specs))
    number, last = 0, []

    def one_round() -> None:
        nonlocal number
        for batches, specs in prepared:
            sync.begin_step(GlobalBatch(0, number, specs), settle=False)
            results = replica.forward_backward(batches, on_bucket=sync.on_grad_ready)
            last.append(sync.step(optimiser, RankPart(results)))
            while len(last) > 1 and last[0].ready():
                last.pop(0).result()
            number += 1

    reference = Reference(device, wall=True)
    one_round()
    one_round()
    rest = _live()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        one_round()
    peak = rest + _peak(profile)
    per_round = getattr(candidate.sync, "sync_every", 1)
    ratios = []
    for _ in range(rounds):
        if mesh:
            dist.barrier()
        before = reference()
        start = clock.monotonic()
        for _ in range(per_round):
            one_round()
        taken = (clock.monotonic() - start) / per_round / len(prepared)
        ratios.append(2 * taken / (before + reference()))
    told = {"ratios": ratios, "peak": peak, "reference": reference.least}
    (folder / f"{rank}.json").write_text(json.dumps(told))
    if mesh:
        dist.barrier()
        dist.destroy_process_group()


def _live() -> float:
    """Bytes of storage of all tensors alive."""
    import gc

    import torch

    found: dict[int, int] = {}
    for each in gc.get_objects():
        if issubclass(type(each), torch.Tensor):
            tensor = getattr(each, "_local_tensor", each)
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return float(sum(found.values()))


def _peak(profile: Any) -> float:
    """Bytes above the beginning at the fullest moment, from what was allocated and freed."""
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return float(most)


def predicted(config: Config, cluster: Any) -> tuple[float, float]:
    """(seconds of a step, bytes of the fullest rank), as the planner says."""
    from hocket.planning.memory import rank_memory
    from hocket.planning.predict import predict_step

    job, candidate = config.job(), config.candidate()
    return predict_step(job, candidate, cluster).seconds, rank_memory(job, candidate).total


def layouts_of_two() -> Sequence[dict[str, Any]]:
    """Every axis at two processes."""
    return (
        {"dp_replicate": 2},
        {"dp_shard": 2},
        {"tp": 2},
        {"sp": 2},
        {"pp": 2},
        {"pp": 2, "schedule": "interleaved"},
        {"pp": 2, "schedule": "gpipe"},
    )


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

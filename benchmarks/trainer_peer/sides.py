"""The two sides: ``hocket train``, and ``transformers.Trainer`` under torchrun; and what each did."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import yaml
from corpus import Part
from rank import Job

from hocket.batching import BatchPlan
from hocket.core import events
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.corpus.index import CorpusIndex
from hocket.hardware import libraries
from hocket.model import ModelConfig, workload
from hocket.training.recipe import TrainRecipe

PROCESSES = 2
LR, WARMUP_STEPS, BETAS, WEIGHT_DECAY, MAX_GRAD_NORM, SEED = 5e-4, 20, (0.9, 0.98), 1e-2, 5.0, 1
Shape = tuple[int, int]
"""Utterances and padded feature frames of a micro-batch."""


@dataclass(frozen=True)
class Case:
    """A model, a precision, and how long both sides train."""

    preset: str
    precision: str
    utterances: int
    """Of a process and step: exactly that for the peer, in the mean for hocket."""
    steps: int
    warmup: int
    """Steps that are not counted: an epoch, after which hocket has all features in memory, too."""

    def model(self, vocab_size: int) -> ModelConfig:
        """Without dropout at residual outputs: transformers has none there."""
        return ModelConfig.model_validate(
            {"preset": self.preset, "vocab_size": vocab_size, "dropout": 0.0, "input_dropout": 0.1}
        )


@dataclass(frozen=True)
class Peer:
    """How the other side is run, where that is not as it comes."""

    as_ours: bool
    """Its ranks are started with the allocator and the kernel cache that ours get."""
    norm: str
    """Of its convolution module: ``batch``, or ``layer`` as in ours."""


@dataclass(frozen=True)
class Step:
    """A step of either side, over all processes."""

    end: float
    loss: float
    """Nats a token."""
    num_frames: int
    """Without padding."""
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Result:
    """A training."""

    config: ModelConfig
    begun: float
    steps: tuple[Step, ...]
    warmup: int

    @property
    def startup(self) -> float:
        """Seconds from the command to the end of the first step."""
        return self.steps[0].end - self.begun

    @property
    def seconds(self) -> float:
        """Of steady state."""
        return self.steps[-1].end - self.steps[self.warmup - 1].end

    @property
    def speed(self) -> float:
        """Audio seconds a second in steady state, padding not counted."""
        return self._frames * HOP / SAMPLE_RATE / self.seconds

    @property
    def padding(self) -> float:
        """Part of the computed frames that was padding."""
        return 1 - self._frames / sum(rows * frames for s in self._counted for rows, frames in s.shapes)

    @property
    def flops(self) -> float:
        """Operations a second in products of matrices and convolutions, all processes together."""
        table = workload.parts(self.config)
        done = sum(p.flops(*shape) for step in self._counted for shape in step.shapes for p in table)
        return done / self.seconds

    def loss(self, upto: int, over: int) -> float:
        """Mean of the ``over`` steps before step ``upto``."""
        return statistics.fmean(step.loss for step in self.steps[upto - over : upto])

    @property
    def _counted(self) -> Sequence[Step]:
        return self.steps[self.warmup :]

    @cached_property
    def _frames(self) -> int:
        return sum(step.num_frames for step in self._counted)


def run_hocket(case: Case, part: Part, folder: Path) -> Result:
    """Train with ``hocket train``."""
    folder.mkdir(parents=True)
    config = case.model(part.vocab_size)
    recipe = _recipe(case, part)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    begun = time.time()
    run = folder / "run"
    words = ["train", str(folder / "recipe.yaml"), "--run", str(run), "--workers", str(PROCESSES), "--json"]
    _run([sys.executable, "-m", "hocket", *words], folder)
    settings = TrainRecipe.model_validate(recipe)
    index = CorpusIndex.open(part.folder, "train")
    plan = BatchPlan(
        index,
        settings.batch,
        workload.cost(config),
        seed=settings.seed,
        speed_percents=settings.augment.speed_percents,
    )
    told = events.surviving_steps(run / "events.jsonl")
    # A step is recorded when the next one has been computed; the last one at once.
    ends = [float(event["time"]) for event in told]
    ends = [2 * ends[0] - ends[1], *ends[:-1]]
    steps = []
    for event, end in zip(told, ends, strict=True):
        batch = plan.global_batch(int(event["step"]))
        shapes = tuple((m.num_utterances, m.num_frames) for m in batch.micro_batches)
        if batch.total_frames != event["num_frames"]:
            raise RuntimeError(f"{run}: step {event['step']} is not the one of this plan")
        steps.append(Step(end, float(event["loss"]), batch.total_frames, shapes))
    return Result(config, begun, tuple(steps), case.warmup)


def run_peer(case: Case, part: Part, folder: Path, loader_workers: int, peer: Peer) -> Result:
    """Train with ``transformers.Trainer``."""
    folder.mkdir(parents=True)
    config = case.model(part.vocab_size)
    job = Job(
        data=str(part.features),
        model=config.model_dump(mode="json"),
        seed=SEED,
        steps=case.steps,
        utterances=case.utterances,
        precision=case.precision,
        loader_workers=loader_workers,
        lr=LR,
        warmup_steps=WARMUP_STEPS,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=MAX_GRAD_NORM,
        norm=peer.norm,
    )
    path = folder / "job.json"
    path.write_text(json.dumps(asdict(job)), encoding="utf-8")
    begun = time.time()
    script = str(Path(__file__).with_name("rank.py"))
    words = ["--standalone", "--nproc-per-node", str(PROCESSES), script, str(path)]
    _run(
        [sys.executable, "-m", "torch.distributed.run", *words],
        folder,
        libraries.environment(1) if peer.as_ours else {},
    )
    ranks = [json.loads(Path(f"{path}.{rank}.json").read_text())["steps"] for rank in range(PROCESSES)]
    steps = []
    for rows in zip(*ranks, strict=True):
        tokens = sum(row["num_tokens"] for row in rows)
        steps.append(
            Step(
                end=max(row["end"] for row in rows),
                loss=sum(row["loss_sum"] for row in rows) / tokens,
                num_frames=sum(row["num_frames"] for row in rows),
                shapes=tuple((row["num_utterances"], row["padded_to"]) for row in rows),
            )
        )
    return Result(config, begun, tuple(steps), case.warmup)


def matrix_rate(precision: str) -> float:
    """Operations a second of plain products, on as many processes as train, added up."""
    command = [sys.executable, str(Path(__file__).with_name("rate.py")), precision]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())
        for _ in range(PROCESSES)
    ]
    told = [process.communicate()[0] for process in started]
    if any(process.returncode != 0 for process in started):
        raise RuntimeError("the rate of matrix products could not be measured")
    return sum(float(rate) for rate in told)


def _recipe(case: Case, part: Part) -> dict[str, object]:
    per_step = case.utterances * PROCESSES
    steps_per_epoch = part.num_utterances // per_step
    return {
        "corpus": str(part.folder),
        "seed": SEED,
        "steps": case.steps,
        "precision": case.precision,
        "device": "cpu",
        "model": {"preset": case.preset, "dropout": 0.0, "input_dropout": 0.1},
        "augment": {"speed_percents": [100], "freq_masks": 0, "time_masks": 0},
        "loading": {"cache_mb": 4096},
        "batch": {"seconds": part.seconds / steps_per_epoch, "micro_batches_per_step": PROCESSES},
        "optimiser": {
            "lr": LR,
            "betas": list(BETAS),
            "weight_decay": WEIGHT_DECAY,
            "warmup_steps": WARMUP_STEPS,
            "schedule": "constant",
            "max_grad_norm": MAX_GRAD_NORM,
        },
        "checkpoint": {"every_steps": case.steps},
    }


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def _run(command: list[str], folder: Path, more: Mapping[str, str] | None = None) -> None:
    """Run to the end; what was said is in ``folder/log.txt``, and shown when it failed."""
    environment = {**_environment(), **(more or {})}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    (folder / "log.txt").write_text(done.stdout, encoding="utf-8")
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-4000:]}")

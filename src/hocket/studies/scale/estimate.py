"""How long a cell will take, about: from cells that are finished, or from a few micro-batches run now."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hocket.comms.links import LOOPBACK, Link
from hocket.core.layout import Layout
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.parallel import apply
from hocket.planning.fit import fit_cost
from hocket.reports.scale.facts import Measured
from hocket.studies.scale.cell import Scored
from hocket.studies.scale.grid import Point
from hocket.sync.all_reduce import AllReduceSettings
from hocket.sync.gossip import GossipSettings
from hocket.sync.local_sgd import LocalSgdSettings
from hocket.sync.server import ServerSettings
from hocket.training.parts import make_model, make_plan
from hocket.training.recipe import TrainRecipe

_OVERHEAD_SECONDS, _SCORING_SECONDS = 15.0, 10.0
"""Starting, and scoring, where no cell has told yet."""
_SAMPLED_STEPS = 8


@dataclass(frozen=True)
class Pace:
    """What the time of a cell is made of."""

    compute_per_audio: float
    """Seconds of one worker for a second of audio."""
    overhead: float
    """Seconds of a training before and after its steps."""
    scoring: float
    """Seconds to recognise and score the test part."""
    num_parameters: int


def pace_of(finished: Sequence[Measured], scored: Sequence[Scored], recipe: TrainRecipe) -> Pace:
    """From finished cells; without any, from micro-batches of the recipe's model on random input."""
    told = [score.took_seconds for score in scored if score.took_seconds > 0]
    scoring = statistics.median(told) if told else _SCORING_SECONDS
    if not finished:
        return _try_out(recipe, scoring)
    rates = [
        sum(each.get("compute", 0.0) for each in cell.seconds_by_rank) / max(cell.audio_seconds, 1e-9)
        for cell in finished
    ]
    rest = [max(0.0, cell.took_seconds - cell.wall_seconds) for cell in finished]
    return Pace(statistics.median(rates), statistics.median(rest), scoring, finished[0].num_parameters)


def expected_seconds(point: Point, pace: Pace) -> float:
    """Of a whole cell: computing shared by the workers that have cores, bytes at the link's rate."""
    steps = point.recipe.steps or 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    together = max(1, min(point.workers, cores // point.recipe.threads))
    computing = steps * point.recipe.batch.seconds * pace.compute_per_audio / together
    sending = 0.0
    if point.link != LOOPBACK:
        sent = bytes_of(point, pace.num_parameters)
        sending = steps * 8 * sent / Link.parse(point.link).bits_per_second
        settings = point.strategy.sync
        if isinstance(settings, GossipSettings):
            sending = 0.0  # computing does not wait for exchanges
        elif isinstance(settings, ServerSettings) and settings.mode == "asynchronous":
            sending = min(sending, (together - 1) * computing)  # the worker beside the shards can do it all
    return computing + sending + pace.overhead + (pace.scoring if point.score else 0.0)


def bytes_of(point: Point, num_parameters: int) -> float:
    """Bytes that a worker sends for a step, by the strategy's rule and fp32 weights; about."""
    num, whole, settings = point.workers, 4.0 * num_parameters, point.strategy.sync
    ring = 2 * (num - 1) / num * whole
    if isinstance(settings, AllReduceSettings):
        return ring * _SHARES.get(settings.compression.name, 1.0)
    if isinstance(settings, LocalSgdSettings):
        return ring * _SHARES.get(settings.compression.name, 1.0) / settings.sync_every
    leases = -(-point.recipe.batch.micro_batches_per_step // settings.micro_batches_per_lease)
    if isinstance(settings, ServerSettings | GossipSettings):
        return 2 * whole * leases / num
    return 0.0


_SHARES = {"bf16": 0.5, "fp16": 0.5, "one_bit": 1 / 30, "power_sgd": 0.1, "top_k": 0.04}
"""Of the uncompressed bytes, at the defaults: docs/sync/compression.md."""


def _try_out(recipe: TrainRecipe, scoring: float) -> Pace:
    torch.set_num_threads(recipe.threads)
    tokens = common_tokens(recipe.corpora)
    model, _, _, _ = make_model(recipe, tokens, fresh=True)
    replica = apply(model, Layout(), torch.device("cpu"), precision=recipe.precision)
    cost = fit_cost(replica, recipe.features.num_mel_bins)
    plan = make_plan(recipe, CorpusMixture.open(recipe.corpora, "train"), cost)
    batches = [plan.global_batch(step) for step in range(_SAMPLED_STEPS)]
    seconds = sum(spec.cost for batch in batches for spec in batch.micro_batches)
    audio = 0.01 * sum(batch.total_frames for batch in batches)
    num_parameters = sum(each.numel() for each in model.parameters())
    return Pace(seconds / audio, _OVERHEAD_SECONDS, scoring, num_parameters)

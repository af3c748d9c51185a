"""How much memory a micro-batch takes: a model of few coefficients, fitted to short measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hocket.batching import BatchPlan
from hocket.core.errors import RunError
from hocket.core.work import I64, MicroBatchSpec
from hocket.corpus.audio import perturbed_samples
from hocket.corpus.features import HOP
from hocket.corpus.mixture import CorpusMixture
from hocket.studies.fit_batch import bench
from hocket.studies.fit_batch.apart import Apart
from hocket.studies.fit_batch.bench import Shape
from hocket.training.recipe import TrainRecipe

_QUANTILES = (0.1, 0.5, 0.9, 1.0)
_LENGTHS_WARMED, _TOGETHER_WARMED = 24, 4
_LITTLE_MB = 16.0
_FRAMES_MEASURED = 3000
"""Padded frames of a measured micro-batch, about: some tens of MiB of a small model."""


@dataclass(frozen=True)
class Needs:
    """MiB of a micro-batch: ``fixed + B * (b*T + c*T**2 + d*T*U)``."""

    fixed: float
    b: float
    c: float
    d: float

    def __call__(self, shape: Shape) -> float:
        """Of one shape."""
        t = shape.num_frames
        per_utterance = t * (self.b + self.c * t + self.d * shape.num_tokens)
        return self.fixed + shape.num_utterances * per_utterance

    @staticmethod
    def fit(shapes: Sequence[Shape], measured: Sequence[float]) -> Needs:
        """By non-negative least squares on relative errors, of little needs on absolute ones.

        What is little may find its place in memory that was kept, and then seems to need nothing.
        """
        rows = [
            [1.0, *(s.num_utterances * s.num_frames * each for each in (1.0, s.num_frames, s.num_tokens))]
            for s in shapes
        ]
        scale, needs = np.max(rows, axis=0), np.asarray(measured)
        weights = 1 / np.maximum(needs, _LITTLE_MB)
        fitted, _ = nnls(np.asarray(rows) / scale * weights[:, None], np.maximum(needs, 0.0) * weights)
        return Needs(*(fitted / scale).tolist())


def measure(
    recipe: TrainRecipe, corpora: CorpusMixture, apart: Apart
) -> tuple[Needs, float, list[tuple[Shape, float]]]:
    """The model of a recipe, what a worker holds beside it (MiB), and what was measured.

    The smallest come first: what was kept from one is then no more than the next one takes.
    """
    specs = sorted(samples(recipe, corpora), key=lambda spec: spec.num_utterances * spec.num_frames)
    answer = apart.call(bench.measure, recipe, warming(recipe, corpora), specs)
    if answer is None:
        raise RunError("the process that measured micro-batches ended without an answer")
    held, needs = answer
    found = [(Shape.of(spec), need) for spec, need in zip(specs, needs, strict=True)]
    return Needs.fit([shape for shape, _ in found], needs), held, found


def warming(recipe: TrainRecipe, corpora: CorpusMixture) -> list[MicroBatchSpec]:
    """Small micro-batches of many shapes: utterances of a corpus's shorter half, alone and some together."""
    frames, tokens = lengths(corpora)
    order = np.argsort(frames, kind="stable")
    half = order[: max(1, len(order) // 2)]
    rows = half[np.unique(np.linspace(0, len(half) - 1, _LENGTHS_WARMED).round().astype(np.int64))]
    return [
        spec_of(recipe, np.full(together, row), frames, tokens)
        for together in range(1, _TOGETHER_WARMED + 1)
        for row in rows
    ]


def samples(recipe: TrainRecipe, corpora: CorpusMixture) -> list[MicroBatchSpec]:
    """Micro-batches over the joint distribution of durations and token lengths.

    At each of some durations utterances with few tokens and with many, one alone and some together.
    """
    frames, tokens = lengths(corpora)
    order = np.argsort(frames, kind="stable")
    specs = []
    for quantile in _QUANTILES:
        place = round(quantile * (len(order) - 1))
        near = order[max(0, place - len(order) // 20) : place + 1][-64:]
        by_tokens = near[np.argsort(tokens[near], kind="stable")]
        size = max(1, min(len(near), _FRAMES_MEASURED // max(1, int(frames[near].max()))))
        specs += [spec_of(recipe, rows, frames, tokens) for rows in (by_tokens[:size], by_tokens[-size:])]
        specs.append(spec_of(recipe, by_tokens[-1:], frames, tokens))
    return specs


def spec_of(recipe: TrainRecipe, rows: I64, frames: I64, tokens: I64, percent: int = 100) -> MicroBatchSpec:
    """A micro-batch of these rows of all corpora, all at one speed."""
    lengths = frames[rows] if percent == 100 else frames[rows] * 100 // percent + 2
    multiple = recipe.batch.frame_multiple
    return MicroBatchSpec(
        index=0,
        rows=np.asarray(rows, np.int64),
        speed_percent=np.full(len(rows), percent, np.int64),
        num_frames=-(-int(lengths.max()) // multiple) * multiple,
        num_tokens=int(tokens[rows].max()),
        total_frames=int(lengths.sum()),
        total_tokens=int(tokens[rows].sum()),
        cost=0.0,
    )


def worst(recipe: TrainRecipe, corpora: CorpusMixture, plan: BatchPlan, needs: Needs) -> list[MicroBatchSpec]:
    """The micro-batches of a plan that take most, by prediction, by frames and by tokens; the largest last.

    Of whole pools, which are random samples: enough for the corpus twice where it is small; and one of the
    corpus's longest utterance at the slowest speed, as many times as a micro-batch would hold of it.
    """
    frames, tokens = lengths(corpora)
    enough = 1 + int(50_000 / plan.utterances_per_step)
    num_steps = min(2 * plan.steps_of(1), max(plan.steps_per_pool, enough))
    batches = [plan.global_batch(step) for step in range(num_steps)]
    specs = [spec for batch in batches for spec in batch.micro_batches if len(spec.rows)]
    slowest = min(recipe.augment.speed_percents)
    longest = int(frames.argmax())
    alone = spec_of(recipe, np.array([longest]), frames, tokens, slowest)
    most = max(specs, key=lambda spec: spec.num_frames)
    room = needs(Shape.of(most)) - needs.fixed
    times = max(1, int(room / max(1e-9, needs(Shape.of(alone)) - needs.fixed)))
    specs.append(spec_of(recipe, np.full(times, longest), frames, tokens, slowest))
    chosen = {id(spec): spec for spec in sorted(specs, key=lambda spec: needs(Shape.of(spec)))[-4:]}
    for largest in (
        max(specs, key=lambda spec: spec.num_frames * spec.num_utterances),
        max(specs, key=lambda spec: spec.num_frames**2 * spec.num_utterances),
        max(specs, key=lambda spec: spec.num_tokens * spec.num_frames * spec.num_utterances),
    ):
        chosen[id(largest)] = largest
    return sorted(chosen.values(), key=lambda spec: needs(Shape.of(spec)))


def lengths(corpora: CorpusMixture) -> tuple[I64, I64]:
    """Feature frames and tokens of every row of all corpora."""
    samples = np.concatenate([np.asarray(member.index.num_samples) for member in corpora.members])
    tokens = np.concatenate([np.asarray(member.index.num_tokens) for member in corpora.members])
    return perturbed_samples(samples, 100) // HOP, tokens.astype(np.int64)

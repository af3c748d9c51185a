"""What a run is made of, each by the recipe alone: model, plan of batches, loader, validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.batching import BatchPlan, Part
from hocket.batching.future import Future
from hocket.core.cost import CostModel
from hocket.core.errors import CorpusError
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.loading import Loader
from hocket.corpus.mixture import CorpusMixture
from hocket.corpus.storage.recordings import Storage
from hocket.corpus.tokens import Tokens
from hocket.model import build
from hocket.model.config import ModelConfig
from hocket.model.ctc import FastConformerCTC
from hocket.training.fine_tuning import Source, freeze
from hocket.training.recipe import TrainRecipe
from hocket.training.seat import Seat
from hocket.training.validation import Validation


def make_model(
    recipe: TrainRecipe, tokens: Tokens, *, fresh: bool
) -> tuple[FastConformerCTC, ModelConfig, dict[str, Any] | None, int]:
    """The model, its full settings, what it begins with (when ``fresh``), and how much of it is frozen."""
    config = recipe.model.with_tokens(tokens.vocab_size, recipe.features.num_mel_bins)
    model = build(config, recipe.seed)
    begun_with = None
    if recipe.init is not None and fresh:
        begun_with = Source.find(recipe.init, [Path.cwd()]).take_over(model, tokens)
    return model, config, begun_with, freeze(model, recipe.freeze)


def make_plan(recipe: TrainRecipe, corpora: CorpusMixture, cost: CostModel) -> BatchPlan:
    """Who is learnt from when: the same in every process of a run."""
    return BatchPlan(
        [Part(member.index, member.weight, member.salt) for member in corpora.members],
        recipe.batch,
        cost,
        seed=recipe.seed,
        speed_percents=recipe.augment.speed_percents,
    )


def make_loader(
    recipe: TrainRecipe,
    corpora: CorpusMixture,
    tokens: Tokens,
    config: ModelConfig,
    plan: BatchPlan | None,
) -> Loader:
    """Of the training split, varied as the recipe says; without a plan nothing is read ahead."""
    future = None if plan is None else Future(plan, recipe.num_steps(plan))
    return Loader(
        corpora,
        tokens,
        recipe.features,
        recipe.augment,
        recipe.seed,
        recipe.loading,
        num_views=config.num_views,
        storage=Storage.open(corpora.stored, recipe.loading.storage, future),
    )


def make_validation(
    recipe: TrainRecipe,
    tokens: Tokens,
    cost: CostModel,
    seat: Seat | None,
    device: torch.device,
) -> Validation | None:
    """The validation of a recipe; None when there is nothing to validate on."""
    split = recipe.validation.split
    corpora = CorpusMixture.open(recipe.corpora, split, where_there=True)
    if not len(corpora):
        if recipe.validation.every_steps or recipe.validation.takes_best:
            folders = ", ".join(str(share.path) for share in recipe.corpora)
            raise CorpusError(
                f"{folders}: no split {split!r} to validate on",
                "Prepare the corpus with one, or set validation.every_steps to 0 and take to last.",
            )
        return None
    return Validation(
        corpora,
        tokens,
        Loader(
            corpora,
            tokens,
            recipe.features,
            None,
            recipe.seed,
            recipe.loading,
            storage=Storage.open(corpora.stored, recipe.loading.storage),
        ),
        cost,
        seat,
        batch_seconds=recipe.validation.batch_seconds,
        device=device,
    )


def shares_of(corpora: CorpusMixture) -> dict[str, dict[str, float]]:
    """Of several corpora: how much there is of each, and how much of an epoch it is; nothing of one alone."""
    if len(corpora.members) == 1:
        return {}
    samples = [int(member.index.num_samples.sum(dtype=np.int64)) for member in corpora.members]
    hours = [each / (3600 * SAMPLE_RATE) for each in samples]
    epoch = sum(there * member.weight for there, member in zip(hours, corpora.members, strict=True))
    return {
        member.name: {
            "weight": member.weight,
            "num_utterances": len(member.index),
            "hours": round(there, 4),
            "share": round(there * member.weight / epoch, 4),
        }
        for there, member in zip(hours, corpora.members, strict=True)
    }

"""Everything a training run can be told, in one file of YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    PositiveFloat,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from hocket.batching import BatchSettings
from hocket.core.layout import INSIDE, LayoutField, LayoutSettings
from hocket.core.recipe import Section
from hocket.corpus.augment import AugmentSettings
from hocket.corpus.features import FeatureSettings
from hocket.corpus.loading import LoadingSettings
from hocket.corpus.mixture import CorpusShare
from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision
from hocket.sync import AllReduceSettings, SyncSettings
from hocket.sync.leased import LeasedSettings
from hocket.training.averaging import EmaSettings


def _one_or_several(value: object, validate: ValidatorFunctionWrapHandler) -> Path | tuple[CorpusShare, ...]:
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("give at least one {path, weight}")
        return _SHARES.validate_python(value)
    if not isinstance(value, str | Path):
        raise ValueError("give a folder, or a list of {path, weight}")
    return Path(value)


_SHARES = TypeAdapter(tuple[CorpusShare, ...])
Corpora = Annotated[Path | tuple[CorpusShare, ...], WrapValidator(_one_or_several)]


class OptimiserSettings(Section):
    """AdamW (Loshchilov & Hutter, ICLR 2019) and its learning rate; schedules count steps."""

    lr: float = Field(default=2e-3, gt=0)
    """Largest learning rate, reached at the end of the warm-up."""

    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=1e-2, ge=0)
    """Applied to matrices and kernels, not to biases and norms."""

    warmup_steps: int = Field(default=100, ge=0)
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "cosine"
    """What follows the warm-up: linear and cosine end at ``final_lr`` of ``lr`` at the last step."""

    final_lr: float = Field(default=0.01, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Clipping norm of the gradient of the loss per token; 0 clips nothing."""


class NumericsSettings(Section):
    """How numbers are added, and what happens to those that are none."""

    exact: bool = False
    """Add gradients as integers: bit for bit the same weights for any number of workers."""

    max_skipped: int = Field(default=10, ge=1)
    """So many skipped steps in a row (a loss or gradient not finite) stop the run."""


class ValidationSettings(Section):
    """Looking at held-back speech while training."""

    every_steps: int = Field(default=0, ge=0)
    """0: only at the end."""

    split: str = "dev"
    batch_seconds: float = Field(default=60.0, gt=0)
    """Padded audio of a validation micro-batch."""

    metric: Literal["wer", "loss"] = "wer"
    """What the best is the best by: the word error rate, or the loss per token."""

    patience: int | None = Field(default=None, ge=1)
    """So many validations in a row without a better metric end the run."""

    min_delta: float = Field(default=0.0, ge=0)
    """By more than how much a metric must be better to be waited on: a WER of 0.1 is 10 %."""

    take: Literal["last", "best"] | None = None
    """Whose weights become the model: those of the last step, or of the best validation. Without a word
    the best with ``patience``, else the last."""

    @property
    def takes_best(self) -> bool:
        """True when the model is that of the best validation."""
        return self.take == "best" or (self.take is None and self.patience is not None)

    @model_validator(mode="after")
    def _patience_needs_validations(self) -> ValidationSettings:
        if self.patience is not None and self.every_steps == 0:
            raise ValueError("patience counts validations: give every_steps, too")
        return self


class CheckpointSettings(Section):
    """Points from which a run goes on."""

    every_steps: int = Field(default=500, ge=1)
    keep_last: int = Field(default=2, ge=1)
    keep_best: int = Field(default=1, ge=0)
    """By ``validation.metric``, among the steps that were validated."""


class FaultSettings(Section):
    """When a worker counts as lost, and how often the others start again."""

    silence_seconds: float = Field(default=300.0, gt=0)
    """A rank that works on something for so long without a sign of life is ended and named."""

    max_restarts: int = Field(default=3, ge=0)
    """Restarts in a row without a new checkpoint in between."""

    link_seconds: float = Field(default=10.0, gt=1)
    """Strategies without collectives: a peer that is not heard of for so long is lost."""


class WorkerSettings(Section):
    """Workers that are not alike. None of it changes what is learnt."""

    speeds: Literal["equal", "auto"] | tuple[PositiveFloat, ...] = "equal"
    """Relative speeds of the ranks, by which synchronous strategies deal out micro-batches: known ones,
    or ``auto``: as measured, renewed every few steps. Workers that lease their work need none."""


class DebugSettings(Section):
    """For studies of things that go wrong."""

    slow: dict[int, float] = Field(default_factory=dict)
    """Rank to factor: it sleeps until computing has taken so many times as long."""


class TrainRecipe(Section):
    """A training run. World size is no part of it."""

    corpus: Corpora
    """A folder made by ``hocket prepare``, or several, each with a weight."""

    seed: int = Field(default=0, ge=0)
    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    """Give either ``steps`` or ``epochs``."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "fp32"
    threads: int = Field(default=1, ge=1)
    """Threads of a worker. Workers, not threads, are how hocket uses many cores."""

    init: str | None = None
    """Weights to begin with: the folder of a run or model, or ``hf:`` and a folder in Hugging Face's
    format. Without a ``model`` section the model is theirs."""

    freeze: tuple[str, ...] = ()
    """Patterns of names of parameters that stay as they are."""

    model: ModelConfig = ModelConfig.model_validate({"preset": "tiny"})
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    loading: LoadingSettings = LoadingSettings()
    batch: BatchSettings = BatchSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    ema: EmaSettings = EmaSettings()
    layout: LayoutField = LayoutSettings()
    """How the model is split over workers, as ``tp=2,pp=2`` or a mapping; whole without a word."""

    sync: SyncSettings = AllReduceSettings()
    numerics: NumericsSettings = NumericsSettings()
    validation: ValidationSettings = ValidationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    faults: FaultSettings = FaultSettings()
    workers: WorkerSettings = WorkerSettings()
    debug: DebugSettings = DebugSettings()
    tensorboard: bool = True

    @model_validator(mode="after")
    def _one_length(self) -> TrainRecipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    @model_validator(mode="after")
    def _exact_sums(self) -> TrainRecipe:
        if self.numerics.exact and not self.sync.exact_instead:
            raise ValueError(
                "numerics.exact adds all gradients as integers: it goes with sync.name all_reduce without "
                "compression, and with no other way of synchronising"
            )
        return self

    @model_validator(mode="after")
    def _layout_goes_with_the_rest(self) -> TrainRecipe:
        split = [axis for axis in INSIDE if getattr(self.layout, axis) > 1]
        if split and isinstance(self.sync, LeasedSettings):
            raise ValueError(
                f"layout {split[0]}={getattr(self.layout, split[0])}: with sync.name {self.sync.name} each "
                "worker holds a whole model"
            )
        rounds = [axis for axis in split if axis in ("sp", "tp")]
        if self.numerics.exact and rounds:
            raise ValueError(
                f"numerics.exact does not go with layout {rounds[0]}={getattr(self.layout, rounds[0])}: sums "
                "over the ranks are then part of what is rounded; it goes with dp_replicate, dp_shard and pp"
            )
        return self

    @model_validator(mode="after")
    def _averages_and_best_go_with_steps(self) -> TrainRecipe:
        if self.ema.decay > 0 and not isinstance(self.sync, AllReduceSettings):
            raise ValueError(
                f"ema averages weights that are the same on all workers after every step: with sync.name "
                f"{self.sync.name} they are not"
            )
        if isinstance(self.sync, LeasedSettings) and self.validation.takes_best:
            raise ValueError(
                f"validation.patience and validation.take best need workers that stop together: "
                f"not with sync.name {self.sync.name}"
            )
        return self

    @model_validator(mode="after")
    def _best_is_kept(self) -> TrainRecipe:
        if self.validation.takes_best and self.checkpoint.keep_best == 0:
            raise ValueError(
                "the model of the best validation comes from its checkpoint: keep_best must be 1"
            )
        return self

    @property
    def corpora(self) -> tuple[CorpusShare, ...]:
        """Every corpus, also the only one."""
        return self.corpus if isinstance(self.corpus, tuple) else (CorpusShare(path=self.corpus),)

    def num_steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps of the whole run."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * steps_per_epoch))

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

from hocket.batching import BatchPlan, BatchSettings, probe
from hocket.core.layout import INSIDE, LayoutField, LayoutSettings
from hocket.core.recipe import Section
from hocket.corpus.augment import AugmentSettings
from hocket.corpus.features import FeatureSettings
from hocket.corpus.loading import LoadingSettings
from hocket.corpus.mixture import CorpusShare
from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision
from hocket.sync import AllReduceSettings, SyncBase, SyncSettings
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


LrRule = Literal["none", "linear", "sqrt"]


class OptimiserSettings(Section):
    """AdamW (Loshchilov & Hutter, ICLR 2019) and its learning rate; schedules count steps."""

    lr: float = Field(default=2e-3, gt=0)
    """Largest learning rate, reached at the end of the warm-up."""

    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=1e-2, ge=0)
    """Applied to matrices and kernels, not to biases and norms."""

    lr_rule: LrRule = "none"
    """How ``lr`` follows ``batch.seconds``: it is meant for ``reference_seconds``, and multiplied by the
    ratio (linear), by its root (sqrt), or not at all."""

    reference_seconds: float | None = Field(default=None, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    warmup_utterances: int | None = Field(default=None, ge=0)
    """In place of ``warmup_steps``: as many steps as learn from so many utterances, so that a larger batch
    has fewer."""

    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "cosine"
    """What follows the warm-up: linear and cosine end at ``final_lr`` of ``lr`` at the last step."""

    final_lr: float = Field(default=0.01, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Clipping norm of the gradient of the loss per token; 0 clips nothing."""

    @model_validator(mode="after")
    def _rules_have_a_reference(self) -> OptimiserSettings:
        if self.lr_rule != "none" and self.reference_seconds is None:
            raise ValueError(
                f"lr_rule {self.lr_rule} needs reference_seconds: the batch.seconds that lr is meant for"
            )
        return self


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

    average: int = Field(default=0, ge=0)
    """The model that comes out is the mean of the weights of so many last checkpoints; 0: of one step."""

    @model_validator(mode="after")
    def _what_is_averaged_is_kept(self) -> CheckpointSettings:
        if self.average > self.keep_last:
            raise ValueError(f"average {self.average}: only keep_last {self.keep_last} checkpoints are kept")
        return self


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


class MemorySettings(Section):
    """What a worker may hold, and what happens to a micro-batch that does not fit."""

    limit_mb: int | None = Field(default=None, ge=64)
    """MiB of memory that a worker may hold for itself while it computes, on CPUs under Linux: what it
    allocates, not its code (:class:`hocket.hardware.memory.MemoryLimit`)."""

    when_full: Literal["auto", "split", "stop"] = "auto"
    """``split``: all ranks take the step again, with what did not fit cut into pieces: the same gradient
    but for rounding. ``stop`` ends the run. ``auto`` splits on CPUs, where a replica is one worker and steps
    can be taken again; on GPUs every step would have to wait until all ranks know of all."""


class DebugSettings(Section):
    """For studies of things that go wrong."""

    out_of_memory: dict[int, int] = Field(default_factory=dict)
    """Step to rank: it finds no memory in the middle of the backward pass, the first time it tries."""

    slow: dict[int, float] = Field(default_factory=dict)
    """Rank to factor: it sleeps until computing has taken so many times as long."""

    hold: dict[int, Path] = Field(default_factory=dict)
    """Step to file: nobody begins that step before the file is there. So that what is done to a run in its
    middle is done there, however fast or slow the machine is."""


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
    memory: MemorySettings = MemorySettings()
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
                f"layout {self._split_axis}: with sync.name {self.sync.name} each worker holds a whole model"
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

    @model_validator(mode="after")
    def _one_kind_of_average(self) -> TrainRecipe:
        if self.checkpoint.average:
            if self.ema.decay > 0 or self.validation.takes_best:
                raise ValueError(
                    "checkpoint.average, ema and the best validation each say which weights the model gets: "
                    "take one of them (hocket average makes others of the checkpoints afterwards)"
                )
            if isinstance(self.sync, LeasedSettings):
                raise ValueError(
                    f"checkpoint.average: with sync.name {self.sync.name} use hocket average afterwards"
                )
        return self

    @model_validator(mode="after")
    def _leased_steps_are_alike(self) -> TrainRecipe:
        for name in ("growth", "probe_every"):
            if getattr(self.batch, name) and isinstance(self.sync, LeasedSettings):
                raise ValueError(
                    f"batch.{name}: with sync.name {self.sync.name} all steps have equally many micro-batches"
                )
        return self

    @model_validator(mode="after")
    def _who_can_repeat_a_step(self) -> TrainRecipe:
        if self.memory.when_full == "split" and not self.can_repeat:
            if self.layout.replica_size > 1:
                raise ValueError(
                    f"memory.when_full split: under layout {self._split_axis} no step is taken again: the "
                    "ranks of a replica wait for each other in the midst of it"
                )
            raise ValueError(
                f"memory.when_full split: with sync.name {self.sync.name} no step is taken again"
            )
        if isinstance(self.sync, LeasedSettings) and self.memory.limit_mb is not None:
            raise ValueError(f"memory.limit_mb: not with sync.name {self.sync.name}")
        return self

    @property
    def can_repeat(self) -> bool:
        """True where a step that some rank had no memory for can be taken again by all."""
        return isinstance(self.sync, SyncBase) and self.sync.can_repeat and self.layout.replica_size == 1

    @property
    def no_noise_scale(self) -> str | None:
        """Why the noise of gradients is not measured; None when it is.

        Strategy and layout decide whether probe steps are looked at, never what is learnt when.
        """
        if self.batch.probe_every == 0:
            return "not measured: batch.probe_every is 0"
        if not (isinstance(self.sync, SyncBase) and self.sync.sums_gradients):
            return "unsupported: only sync.name all_reduce, of 16 bits or more, knows a step's gradient"
        if self.layout.dp_shard == 1:
            return None
        if self.numerics.exact:
            return "unsupported: numerics.exact adds up integers over dp_shard, which say no norm of a part"
        if self.layout.dp_shard >= probe.LEAST_UNITS:
            return (
                f"unsupported: under layout dp_shard={self.layout.dp_shard} the gradients of a probe step's "
                "micro-batches may all be added up, and none are left to compare"
            )
        return None

    @property
    def _split_axis(self) -> str:
        """The first along which a replica is split, as ``pp=2``."""
        return next(f"{axis}={degree}" for axis in INSIDE if (degree := getattr(self.layout, axis)) > 1)

    @property
    def corpora(self) -> tuple[CorpusShare, ...]:
        """Every corpus, also the only one."""
        return self.corpus if isinstance(self.corpus, tuple) else (CorpusShare(path=self.corpus),)

    def num_steps(self, plan: BatchPlan) -> int:
        """Optimiser steps of the whole run."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return plan.steps_of(self.epochs)

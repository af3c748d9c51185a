"""Running micro-batches of small models on a device, for their times: whole, or one rank's share of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hocket.comms.communicator import Alone
from hocket.core import seeds
from hocket.core.protocols import RankPart
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.model import ModelConfig, build
from hocket.model.ctc import FastConformerCTC
from hocket.parallel.gradients import WholeGradients
from hocket.parallel.precision import Precision, autocast
from hocket.parallel.sequence import split_sequence
from hocket.parallel.tensor import split_tensor
from hocket.parallel.whole import WholeReplica
from hocket.planning.demand import F64, WHOLE, Cut, Shape, demand
from hocket.planning.rates import StepRates
from hocket.planning.reference import Reference
from hocket.planning.silent import SilentCommunicator
from hocket.sync.all_reduce import AllReduce, AllReduceSettings

FRAMES_PER_TOKEN = 20

_SHAPES = ((1, 160), (4, 160), (16, 160), (1, 480), (6, 480), (1, 1280), (4, 1280))
_FEW_SHAPES = ((4, 160), (1, 640), (6, 480))
_ROUNDS = 3
_BUCKET_MB = AllReduceSettings().bucket_mb


@dataclass(frozen=True)
class Trial:
    """A model that is run in some shapes (rows, frames), and the share of it that is computed."""

    config: ModelConfig
    shapes: Sequence[tuple[int, int]]
    cut: Cut = WHOLE


@dataclass(frozen=True)
class Timing:
    """What one trial in one shape took, in seconds, and what it asked for."""

    counts: F64
    forward: float
    backward: float


def all_trials() -> list[Trial]:
    """Models that differ in what rates belong to: width, heads, channels of the subsampling, tokens."""

    def model(**given: Any) -> ModelConfig:
        return ModelConfig.model_validate({"preset": "tiny", "num_layers": 2, **given})

    narrow = model(hidden_size=128, ff_size=512, vocab_size=32)
    middle = model(hidden_size=256, ff_size=768, num_heads=4, vocab_size=1025, subsampling_channels=64)
    reduced = {"subsampling_factor": 8, "subsampling_channels": 192, "conv_kernel_size": 9}
    wide = model(hidden_size=512, ff_size=2048, num_heads=8, vocab_size=513, **reduced)
    deep = model(hidden_size=160, ff_size=320, num_layers=6, vocab_size=64, subsampling_channels=48)
    uneven = model(hidden_size=224, ff_size=672, num_heads=4, vocab_size=96, subsampling_channels=24)
    return [
        Trial(narrow, _SHAPES),
        Trial(middle, _SHAPES),
        Trial(wide, _SHAPES),
        Trial(deep, _FEW_SHAPES),
        Trial(uneven, _FEW_SHAPES),
        Trial(uneven, _FEW_SHAPES, Cut(tp=4)),
        Trial(middle, _FEW_SHAPES, Cut(tp=2)),
        Trial(wide, _FEW_SHAPES, Cut(tp=4)),
        Trial(narrow, _FEW_SHAPES, Cut(sp=2)),
        Trial(middle, _FEW_SHAPES, Cut(sp=2)),
    ]


def run(trial: Trial, precision: Precision, device: torch.device, reference: Reference) -> list[Timing]:
    """Seconds of every shape: the median over rounds of what it took over the reference, times its least."""
    model = shared_model(trial.config, trial.cut).to(device)
    gradients = WholeGradients(model, _BUCKET_MB)
    batches = [random_batch(trial.config, *shape).to(device) for shape in trial.shapes]
    ratios = [
        [
            reference.beside(partial(_passes, model, gradients, batch, precision, reference))
            for batch in batches
        ]
        for _ in range(1 + _ROUNDS)
    ]
    seconds = np.median(np.array(ratios[1:]), axis=0) * reference.least  # the first round prepares kernels
    return [
        Timing(demand(trial.config, Shape(rows, frames, num_tokens(frames)), trial.cut), forward, backward)
        for (rows, frames), (forward, backward) in zip(trial.shapes, seconds.tolist(), strict=True)
    ]


def shared_model(config: ModelConfig, cut: Cut) -> FastConformerCTC:
    """The model as the first rank of ``cut`` holds it, with the others silent."""
    model = build(config, seed=0).train()
    if cut.tp > 1:
        split_tensor(model, SilentCommunicator(cut.tp))
    if cut.sp > 1:
        split_sequence(model, SilentCommunicator(cut.sp))
    return model


def random_batch(
    config: ModelConfig, num_rows: int, num_frames: int, tokens: int | None = None
) -> MicroBatch:
    """Noise, and so many ``tokens``: one for every 20 frames without a word."""
    draw = seeds.generator("calibration", num_rows, num_frames)
    features_BTF = draw.standard_normal((num_rows, num_frames, config.num_mel_bins), np.float32)
    tokens = tokens or num_tokens(num_frames)
    return MicroBatch(
        index=0,
        ids=[f"calibration-{number}" for number in range(num_rows)],
        features_BTF=torch.from_numpy(features_BTF),
        feature_lens_B=torch.full((num_rows,), num_frames),
        tokens_BU=(torch.arange(tokens) % 2).expand(num_rows, -1).contiguous(),
        token_lens_B=torch.full((num_rows,), tokens),
        dropout_key=seeds.key("calibration"),
    )


def num_tokens(num_frames: int) -> int:
    """Of the utterances of :func:`random_batch`."""
    return max(1, num_frames // FRAMES_PER_TOKEN)


def _passes(
    model: FastConformerCTC,
    gradients: WholeGradients,
    batch: MicroBatch,
    precision: Precision,
    reference: Reference,
) -> tuple[float, float]:
    start = reference.now()
    with autocast(precision, batch.features_BTF.device):
        loss = model.loss(batch)
    between = reference.now()
    gradients.discard()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients.complete()
    return between - start, reference.now() - between


_STEP_SIZES = ((128, 2), (384, 4))
"""(hidden channels, blocks) of two models, a small and a large one, whose steps are timed."""
_CODINGS = ("none", "bf16", "one_bit", "power_sgd", "top_k")


def run_steps(
    device: torch.device, reference: Reference
) -> tuple[StepRates, dict[str, StepRates], StepRates]:
    """What an optimiser step takes, what each compression adds, and an average of the weights."""
    sizes: list[int] = []
    found: list[list[float]] = []
    for hidden, layers in _STEP_SIZES:
        given = {"hidden_size": hidden, "ff_size": 4 * hidden, "num_layers": layers, "vocab_size": 32}
        model = build(ModelConfig.model_validate({"preset": "tiny", **given}), seed=0).train()
        replica = WholeReplica(model.to(device), device, precision="fp32")
        trained = [each.tensor for each in replica.held if each.trained]
        sizes.append(sum(tensor.numel() for tensor in trained))
        seconds = [_step(replica, trained, name, reference) for name in _CODINGS]
        found.append([*seconds, _average(trained, reference)])
    plain, *coded, average = [_line(sizes, seconds) for seconds in zip(*found, strict=True)]
    coding = {
        name: StepRates(
            max(0.0, line.fixed - plain.fixed), max(0.0, line.per_parameter - plain.per_parameter)
        )
        for name, line in zip(_CODINGS[1:], coded, strict=True)
    }
    return plain, {**coding, "fp16": coding["bf16"]}, average


def _step(replica: WholeReplica, trained: list[torch.Tensor], name: str, reference: Reference) -> float:
    settings = AllReduceSettings.model_validate({"compression": name})
    sync = AllReduce(Alone(), max_grad_norm=1.0, compression=settings.compression)
    sync.attach(replica)
    optimiser = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    nobody = np.zeros(0, np.int64)
    batch = GlobalBatch(0, 0, (MicroBatchSpec(0, nobody, nobody, 1, 1, 1, 1, 1.0),))
    for bucket in replica.buckets:
        bucket.flat.normal_()

    def step() -> tuple[float]:
        start = reference.now()
        sync.begin_step(batch, settle=False)
        for bucket in replica.buckets:
            sync.on_grad_ready(bucket)
        sync.step(optimiser, RankPart([])).result()
        return (reference.now() - start,)

    return _median(step, reference)


def _average(trained: list[torch.Tensor], reference: Reference) -> float:
    averages = [tensor.detach().clone() for tensor in trained]

    @torch.no_grad()
    def update() -> tuple[float]:
        start = reference.now()
        torch._foreach_lerp_(averages, trained, 0.001)
        return (reference.now() - start,)

    return _median(update, reference)


def _median(run_once: Callable[[], tuple[float]], reference: Reference) -> float:
    run_once()
    ratios = [reference.beside(run_once)[0] for _ in range(2 * _ROUNDS + 1)]
    return float(np.median(ratios)) * reference.least


def _line(sizes: Sequence[int], seconds: Sequence[float]) -> StepRates:
    """Through two points, neither part below zero."""
    slope = max(0.0, (seconds[1] - seconds[0]) / (sizes[1] - sizes[0]))
    return StepRates(max(0.0, seconds[0] - slope * sizes[0]), slope)

"""What a finished run leaves behind: the model for recognition, and its summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hocket.core import files
from hocket.core.errors import CheckpointError
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.index import CorpusIndex
from hocket.corpus.tokens import Tokens
from hocket.model import store
from hocket.model.config import ModelConfig
from hocket.model.ctc import FastConformerCTC
from hocket.training import averaging, checkpoint_store
from hocket.training.averaging import Average, NoAverage
from hocket.training.checkpoint_average import mean_weights
from hocket.training.folder import RunFolder
from hocket.training.progress import Progress
from hocket.training.recipe import TrainRecipe


@dataclass(frozen=True)
class _Taken:
    """The weights that become the model, by name, and how they did on the validation split."""

    weights: dict[str, torch.Tensor]
    step: int
    wer: float | None
    loss: float | None
    by_corpus: dict[str, dict[str, float]]


def write_result(
    folder: RunFolder,
    recipe: TrainRecipe,
    model: torch.nn.Module | ModelConfig,
    progress: Progress,
    *,
    workers: int,
    num_steps: int,
    average: Average | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Write ``model/`` and ``summary.json``; in one process, after the last step.

    The weights are those of the last step, of the best validation or the mean of the last checkpoints, as
    the recipe takes them, and their average where one is kept. Of a model that no process holds whole, its
    configuration is given, and the weights are read from the last checkpoint. ``num_steps`` is where the
    run was to end; ``more`` are fields of the summary that the strategy adds or knows better. Raises
    :class:`CheckpointError` when a checkpoint cannot be read.
    """
    split = isinstance(model, ModelConfig)
    if isinstance(model, ModelConfig):
        model = FastConformerCTC(model)
    assert isinstance(model, FastConformerCTC)
    if recipe.validation.takes_best:
        taken = _stored(folder, progress.validated.best_step, model)
    elif recipe.checkpoint.average:
        taken = _averaged(folder, recipe.checkpoint.average, progress, model)
    elif split:
        taken = _stored(folder, progress.step, model)
    else:
        taken = _last(progress, model, average or NoAverage())
    model.load_state_dict(taken.weights)
    longest = max(int(CorpusIndex.open(corpus.path, "train").num_samples.max()) for corpus in recipe.corpora)
    extra = {
        "features": recipe.features.model_dump(mode="json"),
        "longest_seconds": round(longest / SAMPLE_RATE, 3),
    }
    store.save(folder.model, model, extra)
    Tokens.load(recipe.corpora[0].path).save(folder.model)
    wall = progress.wall_seconds
    summary = {
        "steps": progress.step,
        "stopped_early": progress.step < num_steps,
        "model_step": taken.step,
        "workers": workers,
        "layout": str(recipe.layout.fill(workers)),
        "precision": recipe.precision,
        "exact": recipe.numerics.exact,
        "sync": recipe.sync.name,
        "bytes_per_step": round(progress.bytes_sent / max(1, progress.step)),
        "ema_decay": recipe.ema.decay,
        "averaged_checkpoints": recipe.checkpoint.average,
        "wall_seconds": round(wall, 3),
        "audio_seconds": round(progress.audio_seconds, 3),
        "audio_seconds_by_corpus": {
            name: round(value, 3) for name, value in progress.audio_seconds_by_corpus.items()
        },
        "audio_per_second": round(progress.audio_seconds / wall, 3) if wall > 0 else 0.0,
        "padding": round(progress.padding, 6),
        "imbalance": round(progress.imbalance, 6),
        "seconds": {kind: round(value, 3) for kind, value in progress.seconds.items()},
        "flops": round(progress.flops),
        "matrix_share": round(progress.matrix_share, 6),
        "num_dropped": progress.num_dropped,
        "num_skipped": progress.num_skipped,
        "dev_wer": taken.wer,
        "dev_loss": taken.loss,
        "dev_by_corpus": taken.by_corpus,
        "weights_sha256": store.weights_sha256(model),
        **more,
    }
    files.write_json(folder.summary, summary)
    return summary


def _last(progress: Progress, model: torch.nn.Module, average: Average) -> _Taken:
    with average.in_place():
        weights = {name: value.clone() for name, value in model.state_dict().items()}
    return _Taken(weights, progress.step, progress.wer, progress.dev_loss, progress.dev_by_corpus)


def _averaged(folder: RunFolder, number: int, progress: Progress, model: torch.nn.Module) -> _Taken:
    last = checkpoint_store.whole_checkpoints(folder.checkpoints)[-number:]
    weights = dict(mean_weights(last, model.state_dict()))
    return _Taken(weights, progress.step, progress.wer, progress.dev_loss, progress.dev_by_corpus)


def _stored(folder: RunFolder, step: int | None, model: torch.nn.Module) -> _Taken:
    root = folder.checkpoints
    best = None if step is None else checkpoint_store.folder_for(root, step)
    if step is None or best is None or not best.is_dir():
        raise CheckpointError(
            f"{best or root}: the checkpoint of the best validation is not there",
            "Go on with --resume and --set validation.take=last: the model is then that of the last step.",
        )
    checkpoint_store.verify(best)
    stored = checkpoint_store.StoredTensors(best)
    kept = stored.read(name for name in stored if name.startswith(("model.", averaging.PREFIX)))
    weights = {name: kept.get(averaging.PREFIX + name, kept[f"model.{name}"]) for name in model.state_dict()}
    then = checkpoint_store.read_progress(best)
    return _Taken(weights, step, then["wer"], then["dev_loss"], then["dev_by_corpus"])

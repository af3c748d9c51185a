"""What a finished run leaves behind: the model for recognition, and its summary."""

from __future__ import annotations

from typing import Any

import torch

from hocket.core import files
from hocket.corpus.tokens import Tokens
from hocket.model import store
from hocket.model.ctc import FastConformerCTC
from hocket.training.folder import RunFolder
from hocket.training.progress import Progress
from hocket.training.recipe import TrainRecipe


def write_result(
    folder: RunFolder,
    recipe: TrainRecipe,
    model: torch.nn.Module,
    progress: Progress,
    workers: int,
    **more: Any,
) -> dict[str, Any]:
    """Write ``model/`` and ``summary.json``; in one process, after the last step.

    ``more`` are fields of the summary that the strategy adds or knows better.
    """
    assert isinstance(model, FastConformerCTC)
    store.save(folder.model, model, {"features": recipe.features.model_dump(mode="json")})
    Tokens.load(recipe.corpus).save(folder.model)
    wall = progress.wall_seconds
    summary = {
        "steps": progress.step,
        "workers": workers,
        "layout": f"dp_replicate={workers}",
        "precision": recipe.precision,
        "exact": recipe.numerics.exact,
        "sync": recipe.sync.name,
        "bytes_per_step": round(progress.bytes_sent / max(1, progress.step)),
        "wall_seconds": round(wall, 3),
        "audio_seconds": round(progress.audio_seconds, 3),
        "audio_per_second": round(progress.audio_seconds / wall, 3) if wall > 0 else 0.0,
        "padding": round(progress.padding, 6),
        "imbalance": round(progress.imbalance, 6),
        "seconds": {kind: round(value, 3) for kind, value in progress.seconds.items()},
        "num_dropped": progress.num_dropped,
        "num_skipped": progress.num_skipped,
        "dev_wer": progress.wer,
        "weights_sha256": store.weights_sha256(model),
        **more,
    }
    files.write_json(folder.summary, summary)
    return summary

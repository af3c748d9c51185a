"""What a finished run leaves behind: the model for recognition, and its summary."""

from __future__ import annotations

from typing import Any

from hocket.core import files
from hocket.corpus.tokens import Tokens
from hocket.model import store
from hocket.model.ctc import FastConformerCTC
from hocket.training.trainer import Trainer


def write_result(trainer: Trainer) -> dict[str, Any]:
    """Write ``model/`` and ``summary.json``; on rank 0, after the last step."""
    recipe, progress, model = trainer.recipe, trainer.progress, trainer.replica.model
    assert isinstance(model, FastConformerCTC)
    store.save(trainer.folder.model, model, {"features": recipe.features.model_dump(mode="json")})
    Tokens.load(recipe.corpus).save(trainer.folder.model)
    wall = progress.wall_seconds
    summary = {
        "steps": progress.step,
        "workers": trainer.communicator.world_size,
        "layout": f"dp_replicate={trainer.communicator.world_size}",
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
    }
    files.write_json(trainer.folder.summary, summary)
    return summary

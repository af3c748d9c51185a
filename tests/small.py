"""A model and a recipe that train in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SMALL_MODEL = {
    "preset": "tiny",
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "ff_size": 64,
    "subsampling_channels": 4,
}


def small_recipe(corpus: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of 16 steps, four checkpoints and a step cut into six; ``changes`` replace sections."""
    return {
        "corpus": str(corpus),
        "seed": 3,
        "steps": 16,
        "device": "cpu",
        "model": SMALL_MODEL,
        "batch": {"seconds": 20, "micro_batches_per_step": 6, "pool_steps": 4},
        "optimiser": {"lr": 2.0e-3, "warmup_steps": 4},
        "checkpoint": {"every_steps": 3},
        "tensorboard": False,
        **changes,
    }

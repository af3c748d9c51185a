"""The optimiser and its learning rate, a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hocket.core.held import Held
from hocket.training.recipe import OptimiserSettings


def make_optimiser(held: Sequence[Held], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Fused AdamW over what a rank holds; weight decay on tensors of two and more dimensions."""
    decayed: list[torch.Tensor] = []
    plain: list[torch.Tensor] = []
    for each in held:
        if each.trained:
            (decayed if each.tensor.dim() > 1 else plain).append(each.tensor)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.lr, betas=settings.betas, fused=True
    )


def learning_rate(settings: OptimiserSettings, step: int, num_steps: int) -> float:
    """Learning rate of optimiser step ``step`` (from 0) of a run of ``num_steps``."""
    warmup = min(settings.warmup_steps, num_steps)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "inverse_sqrt":
        return settings.lr * math.sqrt(max(warmup, 1) / (step + 1))
    done = (step - warmup + 1) / max(1, num_steps - warmup)
    left = 1 - done if settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return settings.lr * (settings.final_lr + (1 - settings.final_lr) * left)


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Use ``lr`` in the next step."""
    for group in optimiser.param_groups:
        group["lr"] = lr

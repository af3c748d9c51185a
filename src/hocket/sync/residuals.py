"""Residuals of error feedback in checkpoints: each rank's own, or shared out among another number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from hocket.comms.communicator import Communicator
from hocket.core.errors import CheckpointError

_PREFIX = "residual."


def residual_names(state: Mapping[str, torch.Tensor]) -> list[str]:
    """One name for each rank that the checkpoint was taken on."""
    return [name for name in state if name.startswith(_PREFIX)]


def store_residuals(residuals: Sequence[torch.Tensor], communicator: Communicator) -> dict[str, torch.Tensor]:
    """Flat residuals of all buckets as one tensor, under this rank's name."""
    return {f"{_PREFIX}{communicator.rank}": torch.cat(list(residuals))}


def load_residuals(
    residuals: Sequence[torch.Tensor], state: Mapping[str, torch.Tensor], communicator: Communicator
) -> None:
    """Fill flat residuals, in place: with this rank's own, or its even part of the sum of all.

    ``state`` may have been cut into other buckets. Raises :class:`CheckpointError` when its parameters
    were others.
    """
    names = residual_names(state)
    if len(names) == communicator.world_size:
        whole = state[f"{_PREFIX}{communicator.rank}"]
    else:
        whole = state[names[0]]
        for name in names[1:]:
            whole += state[name]
        whole /= communicator.world_size
    sizes = [residual.numel() for residual in residuals]
    if whole.numel() != sum(sizes):
        raise CheckpointError(
            f"the checkpoint's residuals are of {whole.numel()} numbers, not {sum(sizes)}",
            "Go on with the recipe's sync section as it was: what is compressed must not change.",
        )
    for residual, part in zip(residuals, torch.split(whole, sizes), strict=True):
        residual.copy_(part)

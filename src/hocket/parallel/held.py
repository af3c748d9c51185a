"""What a rank holds of a model, put together from the model, the places and the gradient buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from hocket.core.held import Held, Place
from hocket.core.protocols import GradBucket


def held_by(
    model: torch.nn.Module, places: Mapping[str, Place] | None = None, buckets: Sequence[GradBucket] = ()
) -> list[Held]:
    """All parameters and buffers of ``model``; trained ones as their buckets have them.

    ``places`` holds those of which this rank has a part; others are whole.
    """
    trained = {
        name: parameter
        for bucket in buckets
        for name, parameter in zip(bucket.names, bucket.parameters, strict=True)
    }
    found = []
    for kind, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            local = trained.get(name, local_of(tensor))
            found.append(Held(name, local, (places or {}).get(name) or Place.whole(local), kind))
    return found


def local_of(tensor: torch.Tensor) -> torch.Tensor:
    """The plain tensor in memory behind a parameter that torch shards; any other as it is."""
    shard = getattr(tensor, "_local_tensor", None)
    return tensor if shard is None else shard.detach()

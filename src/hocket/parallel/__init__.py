"""Inside one replica: how a model is split over devices, and how it runs its micro-batches."""

from hocket.parallel.apply import apply

__all__ = ["apply"]

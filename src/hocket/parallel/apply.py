"""Every way of splitting a model, applied in one visible order."""

from __future__ import annotations

import torch

from hocket.core.errors import UsageError
from hocket.core.layout import AXES, Layout
from hocket.core.protocols import Replica
from hocket.parallel.precision import Precision
from hocket.parallel.whole import WholeReplica

_SPLIT_HERE = ("dp_replicate",)


def apply(
    model: torch.nn.Module,
    layout: Layout,
    device: torch.device,
    *,
    precision: Precision = "fp32",
    bucket_mb: float = 4.0,
) -> Replica:
    """Make a replica of ``model`` on ``device`` under ``layout``.

    Raises :class:`UsageError` for an axis along which this model cannot be split.
    """
    for axis, degree in zip(AXES, layout.degrees, strict=True):
        if degree > 1 and axis not in _SPLIT_HERE:
            raise UsageError(
                f"layout: {axis}={degree} is not supported",
                f"Axes that can be split: {', '.join(_SPLIT_HERE)}.",
            )
    return WholeReplica(model.to(device), device, precision=precision, bucket_mb=bucket_mb)

"""Every way of splitting a model, applied in one visible order."""

from __future__ import annotations

import torch

from hocket.comms.communicator import Alone
from hocket.comms.mesh import Mesh
from hocket.core.errors import UsageError
from hocket.core.held import Place
from hocket.core.layout import AXES, Layout
from hocket.core.protocols import Replica
from hocket.parallel.gradients import Gradients, SummedGradients, WholeGradients
from hocket.parallel.precision import Precision
from hocket.parallel.sequence import split_sequence
from hocket.parallel.whole import Part, WholeReplica

SPLIT_HERE = ("dp_replicate", "sp")
"""Axes that can be split."""


def apply(
    model: torch.nn.Module,
    layout: Layout,
    device: torch.device,
    *,
    mesh: Mesh | None = None,
    precision: Precision = "fp32",
    bucket_mb: float = 4.0,
) -> Replica:
    """Make a replica of ``model`` on ``device`` under ``layout``, in place.

    ``mesh`` may be missing where nothing is split. The model must be whole, and the same on every rank;
    what this rank does not hold of it is freed. Raises :class:`UsageError` for an axis along which this
    model cannot be split.
    """
    for axis, degree in zip(AXES, layout.degrees, strict=True):
        if degree > 1 and axis not in SPLIT_HERE:
            raise UsageError(
                f"layout: {axis}={degree} is not supported",
                f"Axes that can be split: {', '.join(SPLIT_HERE)}.",
            )
    split = layout.replica_size > 1
    assert mesh is not None or not split, "a split replica needs the mesh"

    # Tensor: every rank keeps its columns, rows, heads and channels. Places tell what of each is here.
    places: dict[str, Place] = {}
    # Sequence: each rank computes its part of the frames, and its gradient is the share of those:
    # SummedGradients below adds the shares up over the axis.
    if mesh and layout.sp > 1:
        split_sequence(model, mesh.along("sp"))
    # Recompute: recompute(model, layout.recompute).
    model.to(device)
    # Pipeline, first half: cut the model, so that this rank keeps its stages only (names stay those of
    # the whole model, and `places` is left with what is still here).
    # FSDP2: where layout.dp_shard > 1, ShardedGradients(model, mesh.along("dp_shard")).
    gradients: Gradients = WholeGradients(model, bucket_mb)
    if mesh and layout.sp > 1:
        gradients = SummedGradients(gradients, mesh.along("sp"))
    # Pipeline, second half: if layout.pp > 1, return PipelineReplica(model, gradients, ...), which runs
    # layout.schedule over mesh.along("pp").
    part = Part(
        places=places,
        inside=mesh.inside if mesh else Alone(),
        speaks=mesh is None or mesh.copies.rank == 0,
        needs_equal_slots=layout.dp_shard > 1,
    )
    return WholeReplica(model, device, precision=precision, gradients=gradients, part=part)

"""Every way of splitting a model, applied in one visible order."""

from __future__ import annotations

from collections.abc import Collection

import torch

from hocket.comms.communicator import Alone
from hocket.comms.mesh import Mesh
from hocket.core.layout import Layout
from hocket.core.protocols import Replica
from hocket.parallel.fsdp import ShardedGradients, shard
from hocket.parallel.gradients import Gradients, SummedGradients, WholeGradients
from hocket.parallel.pipeline import CHUNKS, PipelineReplica, balanced, check_learning, cut
from hocket.parallel.pipeline_lines import TorchLines
from hocket.parallel.precision import Precision
from hocket.parallel.recompute import Recomputing
from hocket.parallel.sequence import split_sequence
from hocket.parallel.tensor import split_tensor
from hocket.parallel.whole import Share, WholeReplica


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
    what this rank does not hold of it is freed. Raises :class:`~hocket.core.errors.UsageError` where this
    model cannot be split so.
    """
    split = layout.replica_size > 1
    assert mesh is not None or not split, "a split replica needs the mesh"

    # Tensor: every rank keeps its columns, rows, heads and channels. Places tell what of each is here.
    places = split_tensor(model, mesh.along("tp") if mesh and layout.tp > 1 else Alone())
    # Sequence: every rank computes its part of the frames, and its gradient is the share of those:
    # SummedGradients below adds the shares up over the axis.
    if mesh and layout.sp > 1:
        split_sequence(model, mesh.along("sp"))
    # Pipeline, first half: this rank keeps its stages alone; names stay those of the whole model.
    stages: list[range] = []
    if mesh and layout.pp > 1:
        stages = balanced(model, layout.pp, CHUNKS[layout.schedule])
        check_learning(model, stages, layout.pp)
        cut(model, stages, layout.pp, mesh.coordinate("pp"))
    # Recompute: a block as it is by now, collectives and all, is run again.
    recomputing = Recomputing(model, layout.recompute)
    # Compile: nothing; see docs/layouts.md.
    model.to(device)
    copied = [name for name, _ in model.named_parameters() if name not in places] if places else []
    # FSDP2: every rank keeps its slice of what is left.
    gradients: Gradients
    if mesh and layout.dp_shard > 1:
        places = shard(model, mesh.device_mesh["dp_shard"], places, layout.reshard)
        gradients = ShardedGradients(model, copied)
    else:
        gradients = WholeGradients(model, bucket_mb, copied)
    if mesh and layout.sp > 1:
        gradients = SummedGradients(gradients, mesh.along("sp"))
    if mesh:
        _count_once(gradients, copied, mesh)
    share = Share(
        places=places,
        inside=mesh.inside if mesh else Alone(),
        speaks=mesh is None or mesh.copies.rank == 0,
        needs_equal_slots=layout.dp_shard > 1,
        recomputing=recomputing,
    )
    # Pipeline, second half: the stages run micro-batches in the order of the schedule.
    if mesh and stages:
        lines = TorchLines(mesh.rows("pp"), len(stages), device)
        return PipelineReplica(
            model,
            stages,
            mesh.along("pp"),
            lines,
            device,
            schedule=layout.schedule,
            precision=precision,
            gradients=gradients,
            share=share,
        )
    return WholeReplica(model, device, precision=precision, gradients=gradients, share=share)


def _count_once(gradients: Gradients, copied: Collection[str], mesh: Mesh) -> None:
    """Of parameters that several ranks hold alike, let one rank alone count the norm."""
    for bucket in gradients.buckets:
        elsewhere = bool(bucket.names) and bucket.names[0] in copied and mesh.coordinate("tp") > 0
        bucket.counted = mesh.coordinate("sp") == 0 and not elsewhere

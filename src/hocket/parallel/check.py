"""Layouts that a model cannot take, refused in words before anything is started."""

from __future__ import annotations

from hocket.core.errors import UsageError
from hocket.core.layout import Layout, target_bytes
from hocket.model.config import ModelConfig
from hocket.model.sharding import blocks, degrees, divisors


def check(layout: Layout, config: ModelConfig) -> None:
    """Raise :class:`UsageError` that names the number that does not fit; what fits passes in silence."""
    _check_tensor(layout.tp, config)
    _check_stages(layout, config)
    if isinstance(layout.recompute, int) and layout.recompute > len(blocks(config)):
        raise UsageError(
            f"layout: recompute={layout.recompute} blocks, and the model has {len(blocks(config))}",
            "Give all, or a smaller number.",
        )
    if layout.pp > 1 and target_bytes(layout.recompute) is not None:
        raise UsageError(
            f"layout: recompute={layout.recompute} cannot be settled for the stages of a pipeline",
            "With pp, give none, all, or a number of blocks.",
        )


def _check_tensor(tp: int, config: ModelConfig) -> None:
    fitting = f"Degrees that fit this model: {', '.join(map(str, degrees(config)))}."
    if tp > config.num_heads:
        raise UsageError(
            f"layout: tp={tp} is more than the model's {config.num_heads} attention heads (num_heads), which "
            "stay whole",
            fitting,
        )
    for each in divisors(config):
        if each.number % tp:
            raise UsageError(f"layout: tp={tp} does not divide {each.what}, which is {each.number}", fitting)
        if each.number // tp % each.multiple:
            raise UsageError(
                f"layout: tp={tp} leaves {each.number // tp} of {each.what} {each.number} on a rank, which "
                f"is not a multiple of {each.multiple}",
                fitting,
            )
    if tp > config.vocab_size:
        raise UsageError(f"layout: tp={tp} is more than the {config.vocab_size} tokens of the head", fitting)


def _check_stages(layout: Layout, config: ModelConfig) -> None:
    per_rank = 2 if layout.schedule == "interleaved" else 1
    stages, pieces = layout.pp * per_rank, len(blocks(config)) + 2
    if layout.pp > 1 and stages > pieces:
        raise UsageError(
            f"layout: pp={layout.pp} with schedule {layout.schedule} makes {stages} stages, and the model "
            f"can be cut into {pieces} pieces: the subsampling, {len(blocks(config))} blocks, the head",
            f"Use pp={pieces // per_rank} or less.",
        )


def across_hosts(layout: Layout, ranks_per_host: int) -> str | None:
    """A warning when ranks that meet in every layer are on different hosts; None when they are not."""
    if ranks_per_host % layout.tp == 0:
        return None
    return (
        f"layout: the {layout.tp} ranks of tp={layout.tp} meet eight times in every block, and with "
        f"{ranks_per_host} ranks a host some of them are on different hosts: expect the network to be what "
        "is waited for. Use a degree that divides the ranks of a host, and pp or dp_shard between hosts."
    )

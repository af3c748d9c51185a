"""Which ranks meet along an axis of the mesh."""

from __future__ import annotations

from math import prod

from hocket.core.layout import AXES, Layout

Groups = tuple[tuple[int, ...], ...]


def along(layout: Layout, axis: str) -> Groups:
    """The groups of ranks that differ in ``axis`` alone; the innermost axis has neighbouring ranks.

    As :class:`hocket.comms.mesh.Mesh` lays them out.
    """
    place = AXES.index(axis)
    degree, inner = layout.degrees[place], prod(layout.degrees[place + 1 :])
    outer = layout.world_size // (degree * inner)
    return tuple(
        tuple(block * degree * inner + step * inner + offset for step in range(degree))
        for block in range(outer)
        for offset in range(inner)
    )

"""The ranks arranged along the axes of a layout."""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from hocket.comms.communicator import TorchCommunicator
from hocket.core.layout import AXES, Layout


class Mesh:
    """This rank's view of the mesh: a device mesh with all five axes, and communicators along them."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout = layout
        self.device_mesh: DeviceMesh = init_device_mesh(
            device.type, layout.degrees, mesh_dim_names=AXES, backend_override=None
        )
        self._along: dict[str, TorchCommunicator] = {}

    def along(self, axis: str) -> TorchCommunicator:
        """Communicator among the ranks that differ from this one only in ``axis``."""
        if axis not in self._along:
            self._along[axis] = TorchCommunicator(self.device_mesh.get_group(axis))
        return self._along[axis]

    def coordinate(self, axis: str) -> int:
        """Position of this rank along ``axis``."""
        return self.device_mesh.get_local_rank(axis)

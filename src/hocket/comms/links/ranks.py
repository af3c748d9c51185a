"""Ranks of a job on hosts of this machine: what torchrun would tell each of them."""

from __future__ import annotations

from collections.abc import Sequence

from hocket.comms.links.host import Host
from hocket.comms.links.kernel import INTERFACE

_PORT = 29500  # every host has all of its ports to itself


def environment(rank: int, hosts: Sequence[Host]) -> dict[str, str]:
    """Variables of the process of ``rank``, on ``hosts[rank]``; the first host leads.

    Every rank has a local rank of its own: in truth this is one machine, and each takes an accelerator.
    """
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(len(hosts)),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": hosts[0].address,
        "MASTER_PORT": str(_PORT),
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "NCCL_SOCKET_IFNAME": INTERFACE,
        "OMP_NUM_THREADS": "1",
    }

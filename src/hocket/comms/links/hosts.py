"""Hosts that are network namespaces of this machine, joined by veth pairs.

Every link is limited in both directions by the kernel's token bucket (``tc tbf``) and, where the kernel has
it, delayed by ``netem``; see tc-tbf(8), ip-netns(8). Switches live in a namespace of their own, so that the
machine's own network is not touched, and all is gone when the namespaces are. A run that was killed leaves
its namespaces behind: the next one removes them first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from hocket.comms.links.host import NAMESPACES, Host
from hocket.comms.links.kernel import run
from hocket.comms.links.rate import Link
from hocket.comms.links.wiring import Wiring, star
from hocket.comms.supervision import FolderLock
from hocket.core.errors import UsageError

_LOCKS = Path("/run/hocket")
_MOST = 250


def why_not() -> str | None:
    """Why this machine cannot have hosts of this kind; None when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"network namespaces need iproute2: {' and '.join(missing)} not found"
    return None


class Hosts(AbstractContextManager[Sequence[Host]]):
    """``count`` hosts, joined by ``wiring`` with a ``link`` each, while inside the ``with`` block.

    Without a word there is one switch for all. One set of hosts of a ``name`` at a time on a machine; another
    call waits for nobody and raises :class:`RunError`. Raises :class:`UsageError` where the machine cannot do
    it: no root, no iproute2, a delay without netem.
    """

    def __init__(self, count: int, link: Link, name: str = "hocket", wiring: Wiring = star) -> None:
        if not 1 <= count <= _MOST:
            raise UsageError(f"{count} hosts: between 1 and {_MOST} fit on one switch")
        self._link, self._name, self._wiring = link, name, wiring
        self._hosts = [Host(f"{name}-{number}", f"10.77.0.{number + 1}") for number in range(count)]

    def __enter__(self) -> Sequence[Host]:
        reason = why_not()
        if reason is not None:
            raise UsageError(f"link {self._link.name}: {reason}", "Leave links out, or say loopback.")
        with ExitStack() as stack:
            stack.enter_context(FolderLock(_LOCKS, self._name))
            self._remove()  # what a killed run has left
            stack.callback(self._remove)
            self._make()
            self._leave = stack.pop_all()
        return self._hosts

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def _make(self) -> None:
        switch = f"{self._name}-switch"
        for namespace in (switch, *(host.namespace for host in self._hosts)):
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        self._wiring(self._hosts, switch, self._link)

    def _remove(self) -> None:
        mine = [f"{self._name}-switch", *(f"{self._name}-{number}" for number in range(_MOST))]
        for namespace in mine:
            if (NAMESPACES / namespace).exists():
                run("ip", "netns", "delete", namespace)

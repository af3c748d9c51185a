"""Hosts that are network namespaces of this machine, joined by veth pairs and a bridge.

Every host has one interface, whose rate is limited in both directions by the kernel's token bucket
(``tc tbf``) and, where the kernel has it, delayed by ``netem``; see tc-tbf(8), ip-netns(8). The bridge
lives in a namespace of its own, so that the machine's own network is not touched, and all is gone when
the namespaces are. A run that was killed leaves its namespaces behind: the next one removes them first.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hocket.comms.links.rate import Link
from hocket.comms.supervision import FolderLock
from hocket.core.errors import RunError, UsageError

T = TypeVar("T")

INTERFACE = "eth0"
_LOCKS = Path("/run/hocket")
_NAMESPACES = Path("/run/netns")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of setns(2)
_QUEUE = "50ms"
_MOST = 250


def why_not() -> str | None:
    """Why this machine cannot have hosts of this kind; None when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"network namespaces need iproute2: {' and '.join(missing)} not found"
    return None


@dataclass(frozen=True)
class Host:
    """One of the hosts."""

    namespace: str
    address: str

    def command(self, words: Sequence[str]) -> list[str]:
        """``words`` as a command that runs on this host."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread of this process that is on this host: its sockets stay there."""
        answers: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                _enter(self.namespace)
                answers.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name=self.namespace)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]

    def bytes_sent(self) -> int:
        """Bytes that left this host over its link so far, headers included."""
        told = _run("ip", "-n", self.namespace, "-s", "-j", "link", "show", INTERFACE)
        return int(json.loads(told)[0]["stats64"]["tx"]["bytes"])

    def set_link(self, *, up: bool) -> None:
        """Take this host off the switch, or put it back."""
        _run("ip", "-n", self.namespace, "link", "set", INTERFACE, "up" if up else "down")


class Hosts(AbstractContextManager[Sequence[Host]]):
    """``count`` hosts with a ``link`` each to one switch, while inside the ``with`` block.

    One set of hosts of a ``name`` at a time on a machine; another call waits for nobody and raises
    :class:`RunError`. Raises :class:`UsageError` where the machine cannot do it: no root, no iproute2,
    a delay without netem.
    """

    def __init__(self, count: int, link: Link, name: str = "hocket") -> None:
        if not 1 <= count <= _MOST:
            raise UsageError(f"{count} hosts: between 1 and {_MOST} fit on one switch")
        self._link, self._name = link, name
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
        _run("ip", "netns", "add", switch)
        _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "bridge", "up")
        for number, host in enumerate(self._hosts):
            own, port = host.namespace, f"port{number}"
            _run("ip", "netns", "add", own)
            _run("ip", "-n", own, "link", "set", "lo", "up")
            pair = ["type", "veth", "peer", "name", port, "netns", switch]
            _run("ip", "-n", own, "link", "add", INTERFACE, *pair)
            _run("ip", "-n", own, "address", "add", f"{host.address}/24", "dev", INTERFACE)
            _run("ip", "-n", own, "link", "set", INTERFACE, "up")
            _run("ip", "-n", switch, "link", "set", port, "master", "bridge")
            _run("ip", "-n", switch, "link", "set", port, "up")
            self._limit(own, INTERFACE)
            self._limit(switch, port)
            if self._link.delay_seconds:
                self._delay(own)

    def _limit(self, namespace: str, device: str) -> None:
        rate, burst = f"{self._link.bits_per_second:.0f}bit", f"{self._link.burst_bytes}b"
        shape = ["tbf", "rate", rate, "burst", burst, "latency", _QUEUE]
        _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "handle", "1:", *shape)

    def _delay(self, namespace: str) -> None:
        delay = f"{self._link.delay_seconds * 1e6:.0f}us"
        where = ["dev", INTERFACE, "parent", "1:1", "handle", "10:"]
        try:
            _run("tc", "-n", namespace, "qdisc", "add", *where, "netem", "delay", delay)
        except RunError as error:
            raise UsageError(
                f"link {self._link.name}: this kernel adds no delay ({error.message})",
                "tc netem is missing; leave the delay out.",
            ) from None

    def _remove(self) -> None:
        mine = [f"{self._name}-switch", *(f"{self._name}-{number}" for number in range(_MOST))]
        for namespace in mine:
            if (_NAMESPACES / namespace).exists():
                _run("ip", "netns", "delete", namespace)


def _enter(namespace: str) -> None:
    """Move the calling thread, and no other, into a namespace: setns(2)."""
    with (_NAMESPACES / namespace).open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEW_NETWORK) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), namespace)


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"{' '.join(words)}: {done.stderr.strip() or f'left with status {done.returncode}'}")
    return done.stdout

"""A host that is a network namespace of this machine."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hocket.comms.links.kernel import INTERFACE, run

T = TypeVar("T")

NAMESPACES = Path("/run/netns")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of setns(2)


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

        def work_there() -> None:
            try:
                self.enter()
                answers.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work_there, name=self.namespace)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]

    def enter(self) -> None:
        """Move the calling thread, and no other, onto this host: setns(2)."""
        with (NAMESPACES / self.namespace).open("rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEW_NETWORK) != 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), self.namespace)

    def bytes_sent(self) -> int:
        """Bytes that left this host so far, headers and what it passes on for others included."""
        told = json.loads(run("ip", "-n", self.namespace, "-s", "-j", "link", "show"))
        return sum(int(each["stats64"]["tx"]["bytes"]) for each in told if each["ifname"] != "lo")

    def set_link(self, *, up: bool) -> None:
        """Take this host off its switch, or put it back."""
        run("ip", "-n", self.namespace, "link", "set", INTERFACE, "up" if up else "down")

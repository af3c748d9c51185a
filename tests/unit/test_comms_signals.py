"""Signals do something else for a while, and afterwards what they did before."""

from __future__ import annotations

import os
import signal
import threading

from hocket.comms.supervision import while_signals


def test_signals_do_what_they_did_before() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGINT)}
    seen: list[signal.Signals] = []
    with while_signals([signal.SIGUSR1, signal.SIGINT], seen.append):
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGINT)
    assert seen == [signal.SIGUSR1, signal.SIGINT]
    assert {number: signal.getsignal(number) for number in before} == before


def test_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    found: list[object] = []

    def work() -> None:
        with while_signals([signal.SIGUSR1], lambda _signal: None):
            found.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]

"""A process that has imported what workers need, and forks them: ``python -m hocket.comms.nursery``.

Importing torch and the rest takes seconds of a core; a fork takes milliseconds. So workers are forked
from one process that does nothing else: it computes nothing and touches no GPU, and has one thread, so
that a fork of it is as good as a new process. It is kept over restarts, which then cost no imports.

It reads requests (JSON lines) from standard input and tells on the file descriptor given to it what it
did: ``{"pid": 7}`` for each worker started, and ``{"pid": 7, "exit_code": -9}`` for each that has ended.
Its workers end with it, and it ends with its launcher.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, BinaryIO

from hocket.comms.supervision import die_with_parent

_LEFT_TO_THE_LAUNCHER = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def main() -> None:
    """Import the module named first, then fork until the launcher closes the pipe."""
    for number in _LEFT_TO_THE_LAUNCHER:
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    module, answers = sys.argv[1], os.fdopen(int(sys.argv[2]), "wb", buffering=0)
    work: Callable[[], None] = importlib.import_module(module).main
    gc.freeze()  # what is shared with the workers stays shared
    _serve(module, work, answers)


def _serve(module: str, work: Callable[[], None], answers: BinaryIO) -> None:
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, _heard)
    signal.set_wakeup_fd(wake_write)
    requests, nursery = sys.stdin.buffer, os.getpid()
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == wake_read:
                    os.read(wake_read, 4096)
                    _tell_ended(answers)
                    continue
                line = requests.readline()  # the launcher waits for the answer before it writes the next
                if not line:
                    return
                request = json.loads(line)
                # A signal for a worker so young that it still ignores it has to wait, not to be lost.
                signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_LAUNCHER)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    _become(module, work, request, nursery)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEFT_TO_THE_LAUNCHER)
                _tell(answers, {"pid": pid})


def _become(module: str, work: Callable[[], None], request: dict[str, Any], nursery: int) -> None:
    """Be the worker, and leave with its status; never returns."""
    status = 1
    try:
        die_with_parent(nursery)
        for number in (*_LEFT_TO_THE_LAUNCHER, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEFT_TO_THE_LAUNCHER)
        for descriptor, path in ((1, request["stdout"]), (2, request["stderr"])):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(file, descriptor)
            os.close(file)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.environ.update(request["environment"])
        sys.argv = [module, *request["arguments"]]
        faulthandler.enable()
        work()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _tell_ended(answers: BinaryIO) -> None:
    while True:
        try:
            pid, waited = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(answers, {"pid": pid, "exit_code": os.waitstatus_to_exitcode(waited)})


def _tell(answers: BinaryIO, what: dict[str, int]) -> None:
    answers.write((json.dumps(what) + "\n").encode())


def _heard(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD: the wake-up pipe has it, and the loop reads that."""


if __name__ == "__main__":
    main()

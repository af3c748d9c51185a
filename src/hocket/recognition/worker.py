"""A worker process of a recognition job: ``python -m hocket.recognition.worker FD``.

It is watched from its first moment: it dies with its parent, by the operating system and by the end
of the line (``FD``, a socket, or ``HOST:PORT`` where it runs on another node), before anything heavy is
imported. Three threads: one listens, one
reads audio and computes features of the micro-batch after, one (the main thread) runs the model.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Client, Connection
from typing import TYPE_CHECKING, Any

from hocket.comms.supervision import die_with_parent
from hocket.core import clock
from hocket.core.errors import HocketError
from hocket.recognition.messages import Begun, Crashed, Done, Lease, Ready, Refused, Start
from hocket.recognition.process import KEY

if TYPE_CHECKING:
    from hocket.recognition.engine import Engine
    from hocket.recognition.reading import Loaded


def main() -> None:
    """Serve until the line ends."""
    began = clock.monotonic()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides what Ctrl-C means
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    die_with_parent()
    line = _line(sys.argv[1])
    leases: queue.SimpleQueue[Lease] = queue.SimpleQueue()
    try:
        start: Start = line.recv()
    except EOFError:
        return
    if start.cores and sys.platform == "linux":
        os.sched_setaffinity(0, start.cores)
    threading.Thread(target=_listen, args=(line, leases), name="listen", daemon=True).start()
    try:
        _serve(line, leases, start, began)
    except HocketError as error:
        line.send(Refused(error.message, error.hint, error.exit_code))
    except BaseException:
        line.send(Crashed(traceback.format_exc()))
    threading.Event().wait()  # the coordinator ends this process once it has read the message


def _line(where: str) -> Connection[Any, Any]:
    """The line to the coordinator: a file descriptor, or ``HOST:PORT`` on another node."""
    if where.isdecimal():
        return Connection(int(where))
    host, _, port = where.rpartition(":")
    return Client((host, int(port)), authkey=os.environ.pop(KEY).encode())


def _listen(line: Connection[Any, Any], leases: queue.SimpleQueue[Lease]) -> None:
    try:
        while True:
            leases.put(line.recv())
    except (EOFError, OSError):
        os._exit(0)


def _serve(line: Connection[Any, Any], leases: queue.SimpleQueue[Lease], start: Start, began: float) -> None:
    from hocket.recognition.engine import Engine  # heavy: only once this process is watched

    imported = clock.monotonic()
    engine = Engine(start)
    line.send(Ready(imported - began, clock.monotonic() - imported))
    ready: queue.SimpleQueue[tuple[Lease, Loaded | BaseException]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(engine, leases, ready), name="read", daemon=True).start()
    while True:
        asked = clock.monotonic()
        lease, loaded = ready.get()
        waited = clock.monotonic() - asked
        if isinstance(loaded, BaseException):
            raise loaded
        line.send(Begun(lease.number))
        answer = engine.recognize(lease, loaded)
        engine.keep_up(loaded, answer)
        line.send(
            Done(
                number=lease.number,
                transcripts=answer.transcripts,
                reasons=answer.reasons,
                read_seconds=loaded.seconds,
                wait_seconds=waited,
                encode_seconds=answer.encode_seconds,
                decode_seconds=answer.decode_seconds,
            )
        )


def _read(
    engine: Engine,
    leases: queue.SimpleQueue[Lease],
    ready: queue.SimpleQueue[tuple[Lease, Loaded | BaseException]],
) -> None:
    while True:
        lease = leases.get()
        try:
            ready.put((lease, engine.load(lease)))
        except BaseException as error:  # the main thread raises it again
            ready.put((lease, error))


if __name__ == "__main__":
    main()

"""What a worker is to do next: messages of the supervisor, and leases with their audio already read.

Two threads: one listens to the supervisor, one reads the audio of the lease after the one that is
computed. Both hand over to the main thread through one queue, so that everything is done in order.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hocket.batching import BatchPlan
from hocket.comms.wire import Line, Message
from hocket.core import clock
from hocket.core.errors import WorkerLost
from hocket.core.protocols import Lease
from hocket.core.work import MicroBatch
from hocket.corpus.loading import Loader


@dataclass(frozen=True)
class Loaded:
    """A lease, ready to be computed."""

    lease: Lease
    micro_batches: list[MicroBatch]
    seconds: float
    """That reading took."""


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class Inbox:
    """Listens from the beginning; reads leases from :meth:`read` on.

    ``on_silence`` is called, in the listening thread, when the supervisor is gone.
    """

    def __init__(self, line: Line, on_silence: Callable[[WorkerLost], None]) -> None:
        self._line, self._on_silence = line, on_silence
        self._items: queue.SimpleQueue[Loaded | _Failed | Message] = queue.SimpleQueue()
        self._leases: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="listen", daemon=True).start()

    def read(self, plan: BatchPlan, loader: Loader, per_lease: int) -> None:
        """Load what is leased from now on, one lease after the other; ``per_lease`` micro-batches each."""
        arguments = (plan, loader, per_lease)
        threading.Thread(target=self._read, args=arguments, name="read", daemon=True).start()

    def next(self) -> Loaded | Message:
        """What is to be done next; waits for it. Raises what reading raised."""
        item = self._items.get()
        if isinstance(item, _Failed):
            raise item.error
        return item

    def _listen(self) -> None:
        try:
            while True:
                message = self._line.receive()
                if message.kind == "lease":
                    self._leases.put(message.facts)
                else:
                    self._items.put(message)
                if message.kind == "end":
                    return
        except WorkerLost as error:
            self._on_silence(error)

    def _read(self, plan: BatchPlan, loader: Loader, per_lease: int) -> None:
        try:
            while True:
                facts = self._leases.get()
                start = clock.monotonic()
                batch = plan.global_batch(facts["step"])
                first = facts["number"] * per_lease
                lease = Lease(
                    batch=batch,
                    number=facts["number"],
                    num_parts=-(-len(batch.micro_batches) // per_lease),
                    micro_batches=batch.micro_batches[first : first + per_lease],
                    lr=facts["lr"],
                    generation=facts["generation"],
                    completed=facts["completed"],
                )
                loaded = loader.load_all((lease.micro_batches, batch.epoch, batch.step))
                self._items.put(Loaded(lease, loaded, clock.monotonic() - start))
        except BaseException as error:  # the main thread raises it again
            self._items.put(_Failed(error))

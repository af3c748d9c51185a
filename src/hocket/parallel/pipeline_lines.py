"""Lines between neighbouring stages of a pipeline: one for each cut and each direction.

A line carries one kind of message one way, so what is received comes in the order in which it was sent,
with no tags, and nothing that one rank has to send can stand in front of what it has to receive: on nccl,
where the messages of a group queue up, a line is a group (and a stream) of its own. Sends never wait; so
whoever waits for a message waits only for work that comes before it in the schedule, and no order of
actions that a single process could run can end in a deadlock.

Both ends know shape and type of what comes next; no message says it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

import torch
import torch.distributed as dist

Shape = Sequence[int]


class Arrival(Protocol):
    """A message under way to this rank."""

    def wait(self) -> torch.Tensor:
        """The message, once it is here."""
        ...


class Line(Protocol):
    """One way from a rank to another. Each uses only its end of it."""

    def send(self, tensor: torch.Tensor) -> None:
        """Start sending; ``tensor`` must stay as it is until :meth:`flush`."""
        ...

    def receive(self, shape: Shape, dtype: torch.dtype) -> Arrival:
        """Be ready for the next message."""
        ...

    def flush(self) -> None:
        """Return when all that was sent has left."""
        ...


class Lines(Protocol):
    """Where a stage finds its lines."""

    def between(self, source: int, target: int) -> Line:
        """The line from stage ``source`` to its neighbour ``target``."""
        ...


@dataclass(frozen=True)
class _Receiving:
    tensor: torch.Tensor
    work: dist.Work

    def wait(self) -> torch.Tensor:
        self.work.wait()
        return self.tensor


class TorchLine:
    """Over a process group of two ranks, in one direction only."""

    def __init__(self, group: dist.ProcessGroup, source: int, target: int, device: torch.device) -> None:
        self._group, self._source, self._target, self._device = group, source, target, device
        self._sending: deque[tuple[dist.Work, torch.Tensor]] = deque()

    def send(self, tensor: torch.Tensor) -> None:
        """See :class:`Line`. What has left meanwhile is let go of."""
        while self._sending and self._sending[0][0].is_completed():
            self._sending.popleft()
        tensor = tensor.contiguous()
        work = dist.isend(tensor, self._target, group=self._group)
        assert work is not None
        self._sending.append((work, tensor))

    def receive(self, shape: Shape, dtype: torch.dtype) -> Arrival:
        """See :class:`Line`: the buffer is there from now on."""
        tensor = torch.empty(tuple(shape), dtype=dtype, device=self._device)
        work = dist.irecv(tensor, self._source, group=self._group)
        assert work is not None
        return _Receiving(tensor, work)

    def flush(self) -> None:
        """See :class:`Line`."""
        while self._sending:
            self._sending.popleft()[0].wait()


class TorchLines:
    """The lines of this rank in its pipeline, for stages dealt to the ranks of each in turn.

    ``pipelines`` are the ranks of all pipelines of the job, whose ranks must all make theirs at the same
    time. Each line is a group of two ranks: it costs some milliseconds once.
    """

    def __init__(self, pipelines: Sequence[Sequence[int]], num_stages: int, device: torch.device) -> None:
        me = dist.get_rank()
        self._lines: dict[tuple[int, int], Line] = {}
        # Every rank takes part in every group, in the same order: groups that only their own ranks make
        # are named after how many a rank has, and the ends of a line may have unequally many.
        for ranks in pipelines:
            for stage in range(num_stages - 1):
                for source, target in ((stage, stage + 1), (stage + 1, stage)):
                    ends = ranks[source % len(ranks)], ranks[target % len(ranks)]
                    pair = dist.new_group(sorted(ends))
                    if me in ends:
                        self._lines[source, target] = TorchLine(pair, *ends, device)

    def between(self, source: int, target: int) -> Line:
        """See :class:`Lines`."""
        return self._lines[source, target]


@dataclass
class _Queue:
    """Both ends of a line within a process."""

    messages: SimpleQueue[torch.Tensor] = field(default_factory=SimpleQueue)

    def send(self, tensor: torch.Tensor) -> None:
        self.messages.put(tensor.clone())

    def receive(self, shape: Shape, dtype: torch.dtype) -> Arrival:
        return _Queued(self.messages, tuple(shape), dtype)

    def flush(self) -> None:
        pass


@dataclass(frozen=True)
class _Queued:
    messages: SimpleQueue[torch.Tensor]
    shape: tuple[int, ...]
    dtype: torch.dtype

    def wait(self) -> torch.Tensor:
        tensor = self.messages.get(timeout=60.0)
        if (tensor.shape, tensor.dtype) != (self.shape, self.dtype):
            raise RuntimeError(
                f"expected {self.shape} {self.dtype}, got {tuple(tensor.shape)} {tensor.dtype}"
            )
        return tensor


class ThreadedLines:
    """Lines between ranks that are threads of one process; all ranks share one object."""

    def __init__(self, num_stages: int) -> None:
        self._lines: dict[tuple[int, int], Line] = {}
        for stage in range(num_stages - 1):
            self._lines[stage, stage + 1] = _Queue()
            self._lines[stage + 1, stage] = _Queue()

    def between(self, source: int, target: int) -> Line:
        """See :class:`Lines`."""
        return self._lines[source, target]

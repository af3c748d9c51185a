"""How ranks talk, behind one small interface.

:class:`TorchCommunicator` stands on a torch.distributed process group (gloo, nccl);
:class:`ThreadedCommunicator` runs all ranks as threads of one process, so that distributed logic can
be tested without processes. Both count the bytes that a rank puts on the wire, tensors alone, by what
the collective moves: a ring for sums, each part straight to who needs it for the others.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")
Parcel = tuple[int, torch.Tensor]
"""A rank of the group, and what is sent to it or received from it."""


class Handle(Protocol):
    """A collective under way."""

    def wait(self) -> object:
        """Return when the tensors handed in hold the result."""
        ...


class Communicator(Protocol):
    """Collectives among ``world_size`` ranks. All work in place; all ranks call in the same order."""

    rank: int
    world_size: int
    bytes_sent: int
    """Bytes that this rank has put on the wire so far."""

    def all_reduce(self, tensor: torch.Tensor) -> Handle:
        """Start summing ``tensor`` over ranks."""
        ...

    def all_to_all(self, received: torch.Tensor, parts: torch.Tensor) -> Handle:
        """Start sending ``parts[rank]`` to each rank; ``received[rank]`` is what each sent here."""
        ...

    def all_gather_into(self, gathered: torch.Tensor, tensor: torch.Tensor) -> Handle:
        """Start sending ``tensor`` to all; ``gathered[rank]`` is each rank's."""
        ...

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The ``tensor`` (same shape everywhere) of each rank, by rank."""
        ...

    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> Handle:
        """Start sending tensors to ranks and receiving others from ranks: pairs of (rank, tensor).

        Only the ranks at both ends take part; what goes from one to another arrives in order. Tensors
        are contiguous, and not to be touched before the end.
        """
        ...

    def broadcast(self, tensor: torch.Tensor, source: int) -> None:
        """Copy ``tensor`` of rank ``source`` into everybody's."""
        ...

    def barrier(self) -> None:
        """Return once every rank has called."""
        ...


class TorchCommunicator:
    """A process group of torch.distributed."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group if group is not None else dist.group.WORLD
        self.rank = dist.get_rank(self._group)
        self.world_size = dist.get_world_size(self._group)
        self.bytes_sent = 0

    def all_reduce(self, tensor: torch.Tensor) -> Handle:
        """Start summing ``tensor`` over ranks; overlaps with what the caller does next."""
        if self.world_size == 1:
            return _DONE
        self.bytes_sent += _of_ring(tensor, self.world_size)
        handle: Handle = dist.all_reduce(tensor, group=self._group, async_op=True)
        return handle

    def all_to_all(self, received: torch.Tensor, parts: torch.Tensor) -> Handle:
        """Start sending ``parts[rank]`` to each rank; both are contiguous and of one shape."""
        if self.world_size == 1:
            received.copy_(parts)
            return _DONE
        self.bytes_sent += _num_bytes(parts) // self.world_size * (self.world_size - 1)
        handle: Handle = dist.all_to_all_single(received, parts, group=self._group, async_op=True)
        return handle

    def all_gather_into(self, gathered: torch.Tensor, tensor: torch.Tensor) -> Handle:
        """Start sending ``tensor`` to all; ``gathered[rank]`` is each rank's."""
        if self.world_size == 1:
            gathered[0].copy_(tensor)
            return _DONE
        self.bytes_sent += _num_bytes(tensor) * (self.world_size - 1)
        handle: Handle = dist.all_gather(list(gathered), tensor, group=self._group, async_op=True)
        return handle

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The ``tensor`` of each rank, by rank."""
        if self.world_size == 1:
            return [tensor.clone()]
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        self.bytes_sent += _num_bytes(tensor) * (self.world_size - 1)
        dist.all_gather(parts, tensor.contiguous(), group=self._group)
        return parts

    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> Handle:
        """Start sending and receiving, all at once, so that no order of ranks can block."""
        if not sends and not receives:
            return _DONE
        self.bytes_sent += sum(_num_bytes(tensor) for _, tensor in sends)
        calls = [(dist.isend, *parcel) for parcel in sends] + [(dist.irecv, *parcel) for parcel in receives]
        parts = [dist.P2POp(call, x, group=self._group, group_peer=rank) for call, rank, x in calls]
        return _All(dist.batch_isend_irecv(parts), [x for _, _, x in calls])

    def broadcast(self, tensor: torch.Tensor, source: int) -> None:
        """Copy ``tensor`` of rank ``source`` (within the group) into everybody's."""
        if self.world_size > 1:
            self.bytes_sent += _num_bytes(tensor) * (self.world_size - 1) * (self.rank == source)
            dist.broadcast(tensor, group=self._group, group_src=source)

    def barrier(self) -> None:
        """Return once every rank has called; works on any backend by a tiny sum."""
        self.all_reduce(torch.zeros(1, device=_device(self._group))).wait()


def _device(group: dist.ProcessGroup | None) -> torch.device:
    backend = dist.get_backend(group)
    return torch.device("cuda" if backend == "nccl" else "cpu")


def _num_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _of_ring(tensor: torch.Tensor, world_size: int) -> int:
    """A ring's scattering sum and its gathering each send all but one of the parts once."""
    return 2 * _num_bytes(tensor) * (world_size - 1) // world_size


class _Done:
    def wait(self) -> object:
        return None


_DONE = _Done()


class _All:
    """Several handles as one; it keeps the tensors that they work on."""

    def __init__(self, handles: Sequence[Handle], tensors: Sequence[torch.Tensor]) -> None:
        self._handles, self._tensors = handles, tensors

    def wait(self) -> object:
        for handle in self._handles:
            handle.wait()
        return None


class Alone:
    """One rank without others: every collective is done at once."""

    rank = 0
    world_size = 1
    bytes_sent = 0

    def all_reduce(self, tensor: torch.Tensor) -> Handle:
        """The sum over one."""
        return _DONE

    def all_to_all(self, received: torch.Tensor, parts: torch.Tensor) -> Handle:
        """From itself to itself."""
        received.copy_(parts)
        return _DONE

    def all_gather_into(self, gathered: torch.Tensor, tensor: torch.Tensor) -> Handle:
        """Its own."""
        gathered[0].copy_(tensor)
        return _DONE

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Its own."""
        return [tensor.clone()]

    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> Handle:
        """There is nobody."""
        return _DONE

    def broadcast(self, tensor: torch.Tensor, source: int) -> None:
        """It has it."""

    def barrier(self) -> None:
        """Nobody to wait for."""


class _Box:
    """What goes from one rank to another; None says that somebody failed."""

    def __init__(self) -> None:
        self.letters: queue.SimpleQueue[torch.Tensor | None] = queue.SimpleQueue()
        self.awaited: deque[torch.Tensor] = deque()
        """Tensors that the receiver has asked for and not yet got, in order."""

    def take_until(self, wanted: torch.Tensor) -> None:
        """Receive what was asked for first, and then what was ``wanted``."""
        while any(tensor is wanted for tensor in self.awaited):
            letter = self.letters.get(timeout=60.0)
            if letter is None:
                raise threading.BrokenBarrierError
            self.awaited.popleft().copy_(letter)


@dataclass
class _Letters:
    """What a thread has still to receive."""

    due: list[tuple[_Box, torch.Tensor]]

    def __post_init__(self) -> None:
        for box, tensor in self.due:
            box.awaited.append(tensor)

    def wait(self) -> object:
        for box, tensor in self.due:
            box.take_until(tensor)
        return None


@dataclass
class _Table:
    """What the threads of one run share: a place for each rank and a meeting point."""

    slots: list[torch.Tensor | None]
    barrier: threading.Barrier
    mail: dict[tuple[int, int], _Box]


class ThreadedCommunicator:
    """One of several ranks that are threads of this process; sums in the order of ranks."""

    def __init__(self, rank: int, table: _Table) -> None:
        self.rank, self.world_size, self._table = rank, len(table.slots), table
        self.bytes_sent = 0

    def all_reduce(self, tensor: torch.Tensor) -> Handle:
        """Sum over ranks; done when it returns."""
        self.bytes_sent += _of_ring(tensor, self.world_size)
        parts = self._meet(tensor)
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        self._leave()
        tensor.copy_(total)
        return _DONE

    def all_to_all(self, received: torch.Tensor, parts: torch.Tensor) -> Handle:
        """Send ``parts[rank]`` to each rank; done when it returns."""
        self.bytes_sent += _num_bytes(parts) // self.world_size * (self.world_size - 1)
        for source, part in enumerate(self._meet(parts)):
            received[source].copy_(part[self.rank])
        self._leave()
        return _DONE

    def all_gather_into(self, gathered: torch.Tensor, tensor: torch.Tensor) -> Handle:
        """Send ``tensor`` to all; done when it returns."""
        self.bytes_sent += _num_bytes(tensor) * (self.world_size - 1)
        for source, part in enumerate(self._meet(tensor)):
            gathered[source].copy_(part)
        self._leave()
        return _DONE

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The ``tensor`` of each rank, by rank."""
        self.bytes_sent += _num_bytes(tensor) * (self.world_size - 1)
        parts = [part.clone() for part in self._meet(tensor)]
        self._leave()
        return parts

    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> Handle:
        """Send copies at once; receive when waited for."""
        for rank, tensor in sends:
            self.bytes_sent += _num_bytes(tensor)
            self._table.mail[self.rank, rank].letters.put(tensor.detach().clone())
        return _Letters([(self._table.mail[rank, self.rank], tensor) for rank, tensor in receives])

    def broadcast(self, tensor: torch.Tensor, source: int) -> None:
        """Copy ``tensor`` of rank ``source`` into everybody's."""
        self.bytes_sent += _num_bytes(tensor) * (self.world_size - 1) * (self.rank == source)
        value = self._meet(tensor)[source].clone()
        self._leave()
        tensor.copy_(value)

    def barrier(self) -> None:
        """Return once every rank has called."""
        self._table.barrier.wait()

    def _meet(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        table = self._table
        table.slots[self.rank] = tensor
        table.barrier.wait()
        return [slot for slot in table.slots if slot is not None]

    def _leave(self) -> None:
        """Nobody may touch its tensor again before everybody has read it."""
        self._table.barrier.wait()


def run_threads(world_size: int, work: Callable[[ThreadedCommunicator], T]) -> Sequence[T]:
    """Run ``work`` once per rank, each in a thread; return the results by rank.

    The first exception of any rank is raised here; the other ranks are then released.
    """
    mail = {(source, target): _Box() for source in range(world_size) for target in range(world_size)}
    table = _Table([None] * world_size, threading.Barrier(world_size, timeout=60.0), mail)
    results: list[T | None] = [None] * world_size
    errors: list[BaseException] = []

    def body(rank: int) -> None:
        try:
            results[rank] = work(ThreadedCommunicator(rank, table))
        except BaseException as error:
            errors.append(error)
            table.barrier.abort()
            for box in mail.values():
                box.letters.put(None)

    threads = [threading.Thread(target=body, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    if errors:
        raise errors[0]
    return results  # type: ignore[return-value]

"""Blocks of far-away shards, kept on this host's disk for all its processes.

There is no process that owns the cache. Reading needs no lock: a block is a file that is whole or not
there. Changing does: one process at a time, by flock(2), which ends with its holder however that ends. The
holder marks the ledger before it changes anything and takes the mark off when ledger and files agree; who
finds the mark counts the files anew. So a process may be killed at any moment.

What leaves is what will be needed last (Belady, "A study of replacement algorithms", IBM Systems Journal
1966): the plan of batches says when that is. A block that is needed later than all that is kept is not
taken up. Of shards whose future nobody told, what is there stays, and nothing else is driven out for it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hocket.core import clock
from hocket.core.seeds import I64

F64 = npt.NDArray[np.float64]
NextUse = Callable[[I64], F64]
"""Of blocks: when each is needed next, in steps; now or earlier while it is in use, infinite for never."""

_MARK, _SUM = 0, 1
"""Numbers of the ledger: marked (1) or not (0), and bytes of all blocks. Each is stored at one stroke: who is
killed leaves the old number or the new one."""
_BLOCKS = "[0-9a-f][0-9a-f]/[0-9]*"
_FLIGHTS = "flights"
"""A file that every shelf has, for locks of blocks on their way; it tells a shelf from other folders."""
_PATIENCE = 10.0
_POLL_SECONDS = 0.002
_VICTIMS = 64
"""Looked for at a time."""
_KNOWN_SHARE = 0.9
"""Of the room, for shards whose future is known; the rest is left to others, such as a dev split."""


class BlockCache:
    """A folder of at most ``max_bytes`` of blocks."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._shelves: list[Shelf] = []
        self._thread = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._lock_is_held = False
        ledger = os.open(folder / "ledger", os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(ledger).st_size < 16:  # new, or somebody tidied up: what lies here is to be counted
            mine = _locked(self._lock, _PATIENCE)
            if os.fstat(ledger).st_size < 16:  # nobody else has begun meanwhile, who may be further already
                os.pwrite(ledger, np.asarray([1, 0], np.int64).tobytes(), 0)
            if mine:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        os.close(ledger)
        self._ledger: I64 = np.memmap(folder / "ledger", np.int64, "r+", shape=(2,))

    def shelf(self, name: str, num_blocks: int, now: Callable[[], float], next_use: NextUse | None) -> Shelf:
        """The blocks of one split's shards, which are named by their fingerprint."""
        shelf = Shelf(self, name, num_blocks, now, next_use)
        self._shelves.append(shelf)
        return shelf

    @property
    def num_bytes(self) -> int:
        """Bytes of all blocks of all shelves."""
        return int(self._ledger[_SUM])

    def close(self) -> None:
        """Let go of the files; what is kept stays."""
        for shelf in self._shelves:
            shelf.close()
        os.close(self._lock)

    def put(self, shelf: Shelf, block: int, data: bytes | memoryview) -> bool:
        """Keep a block, if it is worth it; whether it is there. Raises :class:`OSError` of a full disk."""
        with self._alone() as mine:
            if not mine:
                return False
            path = shelf.path(block)
            if shelf.has(block):
                if path.is_file():
                    return True
                self._count_anew()  # somebody tidied up
            if not self._make_room(shelf, block, len(data)):
                return False
            arriving = self.folder / "arriving"
            with self._marked() as ledger:
                try:
                    path.parent.mkdir(exist_ok=True)
                    arriving.write_bytes(data)
                    arriving.replace(path)
                except OSError:
                    arriving.unlink(missing_ok=True)
                    raise
                shelf.present[block] = 1
                ledger(len(data))
            return True

    def worth(self, shelf: Shelf, block: int, length: int, *, soon: bool = True) -> bool:
        """Whether to fetch a block of ``length`` bytes now, to keep it.

        Into free room always. In place of another only when it is needed ``soon``: what is fetched sooner
        than it must be takes the room of what would have been there when it is needed (Cao, Felten,
        Karlin & Li, "A study of integrated prefetching and caching strategies", SIGMETRICS 1995).
        """
        if self.num_bytes + length <= self._room(shelf):
            return True
        return soon and bool(self._victims(shelf, block))

    def drop(self, shelf: Shelf, block: int) -> None:
        """Forget a block that is not what it was."""
        with self._alone() as mine:
            if mine:
                self._remove(shelf, block)

    def _room(self, shelf: Shelf) -> float:
        return self.max_bytes * (_KNOWN_SHARE if shelf.next_use is not None else 1.0)

    def _make_room(self, shelf: Shelf, block: int, length: int) -> bool:
        room = self._room(shelf) - length
        if self.num_bytes > room:
            self._forget_the_unused()
        while self.num_bytes > room and (victims := self._victims(shelf, block)):
            for victim in victims:
                self._remove(*victim)
                if self.num_bytes <= room:
                    break
        return self.num_bytes <= room

    def _victims(self, shelf: Shelf, block: int) -> list[tuple[Shelf, int]]:
        """Some blocks whose next use is known and later than that of the one that comes, the latest first."""
        if shelf.next_use is None:
            return []
        comes = float(shelf.next_use(np.asarray([block], np.int64))[0])
        found: list[tuple[float, Shelf, int]] = []
        for own in self._shelves:
            if own.next_use is None:
                continue
            # Of a copy: other processes and threads write there meanwhile, which numpy takes for an error.
            there = np.flatnonzero(own.present.copy()).astype(np.int64)
            uses = own.next_use(there)
            if len(uses) > _VICTIMS:
                latest = np.argpartition(uses, -_VICTIMS)[-_VICTIMS:]
                there, uses = there[latest], uses[latest]
            later = uses > max(comes, own.now())
            found += [
                (use, own, block) for use, block in zip(uses[later], there[later].tolist(), strict=True)
            ]
        found.sort(key=lambda one: -one[0])
        return [(own, victim) for _, own, victim in found[:_VICTIMS]]

    def _forget_the_unused(self) -> None:
        """Drop the blocks of shelves that no living process holds: runs that are over."""
        for folder in self._others():
            present = folder / "present"
            if present.is_file() and not present.read_bytes().strip(b"\0"):
                continue
            use = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                with self._marked() as ledger:
                    for path in folder.glob(_BLOCKS):
                        size = path.stat().st_size
                        path.unlink()
                        ledger(-size)
                    _clear(folder / "present")
            finally:
                os.close(use)

    def _others(self) -> list[Path]:
        own = {shelf.folder for shelf in self._shelves}
        return [path for path in self._folders() if path not in own]

    def _folders(self) -> list[Path]:
        """Folders of shelves; whatever else lies here is none of ours."""
        return [path for path in sorted(self.folder.iterdir()) if (path / _FLIGHTS).is_file()]

    def _remove(self, shelf: Shelf, block: int) -> None:
        path = shelf.path(block)
        try:
            with self._marked() as ledger:
                shelf.present[block] = 0
                size = path.stat().st_size
                path.unlink()
                ledger(-size)
        except FileNotFoundError:  # somebody tidied up, and maybe not this one alone
            self._count_anew()

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """The only one to change the cache, and a ledger that is true; False when others take too long.

        After that nobody waits any more, until the lock is free again.
        """
        with self._thread:
            self._lock_is_held = not _locked(self._lock, 0.0 if self._lock_is_held else _PATIENCE)
            if self._lock_is_held:
                yield False
                return
            try:
                if self._ledger[_MARK]:
                    self._count_anew()
                yield True
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    @contextmanager
    def _marked(self) -> Iterator[Callable[[int], None]]:
        """While files and ledger disagree. Gives a function that adds to the bytes in the ledger."""
        before, added = self.num_bytes, 0

        def add(more: int) -> None:
            nonlocal added
            added += more

        self._ledger[_MARK] = 1
        yield add  # not in a finally: after an error the mark stays, and the files are counted
        self._ledger[_SUM] = before + added
        self._ledger[_MARK] = 0

    def _count_anew(self) -> None:
        """After a process that was killed, or an error, in the midst of a change; or files that are gone."""
        self._ledger[_MARK] = 1
        (self.folder / "arriving").unlink(missing_ok=True)
        total = 0
        for folder in self._folders():
            _clear(folder / "present")
            with (folder / "present").open("rb+") as present:
                for path in folder.glob(_BLOCKS):
                    total += path.stat().st_size
                    present.seek(int(path.name))
                    present.write(b"\x01")
        self._ledger[_SUM] = total
        self._ledger[_MARK] = 0


class Shelf:
    """The kept blocks of one split's shards, seen by one process."""

    def __init__(
        self,
        cache: BlockCache,
        name: str,
        num_blocks: int,
        now: Callable[[], float],
        next_use: NextUse | None,
    ) -> None:
        self._cache, self.now, self.next_use = cache, now, next_use
        self.folder = cache.folder / name
        self.folder.mkdir(exist_ok=True)
        self._use = os.open(self.folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._use, fcntl.LOCK_SH)
        with (self.folder / "present").open("ab") as file:
            if file.tell() < num_blocks:
                file.truncate(num_blocks)
        self.present: npt.NDArray[np.uint8] = np.memmap(
            self.folder / "present", np.uint8, "r+", shape=(max(1, num_blocks),)
        )
        self._flights = os.open(self.folder / _FLIGHTS, os.O_RDWR | os.O_CREAT, 0o600)

    def path(self, block: int) -> Path:
        """The file of a block."""
        return self.folder / f"{block % 256:02x}" / str(block)

    def has(self, block: int) -> bool:
        """Whether the block is kept."""
        return bool(self.present[block])

    def get(self, block: int, first: int = 0, length: int | None = None) -> bytes | None:
        """The bytes of a block, or of a part of it; None when it is not kept."""
        if not self.has(block):
            return None
        try:
            with self.path(block).open("rb") as file:
                file.seek(first)
                return file.read() if length is None else file.read(length)
        except FileNotFoundError:
            return None

    def put(self, block: int, data: bytes | memoryview) -> bool:
        """See :meth:`BlockCache.put`."""
        return self._cache.put(self, block, data)

    def worth(self, block: int, length: int, *, soon: bool = True) -> bool:
        """See :meth:`BlockCache.worth`."""
        return self._cache.worth(self, block, length, soon=soon)

    def drop(self, block: int) -> None:
        """Forget a block that is not what it was."""
        self._cache.drop(self, block)

    @contextmanager
    def fetching(self, block: int, patience: float) -> Iterator[bool]:
        """While this process fetches the block; whether it is the only one on this host that does.

        Waits ``patience`` seconds for another that does so already. A lock of one byte of a file
        (fcntl(2)): it ends with its holder.
        """
        deadline = clock.monotonic() + patience
        while True:
            try:
                fcntl.lockf(self._flights, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, block)
                break
            except OSError:
                if clock.monotonic() >= deadline:
                    yield False
                    return
                threading.Event().wait(_POLL_SECONDS)
        try:
            yield True
        finally:
            fcntl.lockf(self._flights, fcntl.LOCK_UN, 1, block)

    def close(self) -> None:
        """Let others forget these blocks when they need the room."""
        os.close(self._use)
        os.close(self._flights)


def _locked(file: int, patience: float) -> bool:
    deadline = clock.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() >= deadline:
                return False
            threading.Event().wait(_POLL_SECONDS)
        else:
            return True


def _clear(present: Path) -> None:
    """Set all of a file of marks to 0, in place: other processes have it mapped."""
    if not present.is_file():
        present.touch()
    with present.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(bytes(size))

"""Blocks on disk: bounded, the last needed leave first, and nothing is lost count of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hocket.corpus.storage.block_cache import BlockCache, NextUse, Shelf


def _uses(order: dict[int, float]) -> NextUse:
    return lambda blocks: np.asarray([order.get(int(b), np.inf) for b in blocks], np.float64)


def _shelf(folder: Path, room: int, uses: NextUse | None, name: str = "train-1") -> tuple[BlockCache, Shelf]:
    cache = BlockCache(folder, room)
    return cache, cache.shelf(name, 100, lambda: 0.0, uses)


def _kept(shelf: Shelf) -> set[int]:
    files = {int(path.name) for path in shelf.folder.glob("??/*")}
    assert files == set(np.flatnonzero(shelf.present).tolist())
    return files


def test_what_is_needed_last_leaves(tmp_path: Path) -> None:
    order = {1: 5.0, 2: 50.0, 3: 20.0, 4: 10.0, 5: 60.0, 6: 0.0}
    cache, shelf = _shelf(tmp_path, 40, _uses(order))  # 36 bytes for what has a future
    for block in (1, 2, 3):
        assert shelf.put(block, bytes(12))
    assert shelf.put(4, bytes(12))
    assert _kept(shelf) == {1, 3, 4}
    assert not shelf.worth(5, 12)
    assert not shelf.put(5, bytes(12))  # needed later than all that is there
    assert shelf.worth(6, 12)
    assert not shelf.worth(6, 12, soon=False)  # the room is for what is kept, until it must be given
    assert shelf.put(6, bytes(12))
    assert _kept(shelf) == {1, 4, 6}
    assert cache.num_bytes == 36
    assert shelf.get(4) == bytes(12)
    assert shelf.get(4, 3, 5) == bytes(5)
    assert shelf.get(3) is None
    shelf.drop(4)
    assert _kept(shelf) == {1, 6}
    assert cache.num_bytes == 24
    cache.close()


def test_others_change_what_is_there_meanwhile(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10)
    shelf = cache.shelf("train-1", 1 << 20, lambda: 0.0, lambda blocks: blocks.astype(np.float64))
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            shelf.present[:] = 1 - shelf.present

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(30):
            assert not shelf.worth((1 << 20) - 1, 100)
    finally:
        done.set()
        other.join()
    cache.close()


def test_what_is_in_use_now_does_not_leave(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 40)
    shelf = cache.shelf("train-1", 100, lambda: 30.0, _uses({1: 28.0, 2: 30.0, 3: 29.0, 4: 25.0}))
    for block in (1, 2, 3):
        assert shelf.put(block, bytes(12))
    assert not shelf.put(4, bytes(12))
    assert _kept(shelf) == {1, 2, 3}
    cache.close()


def test_the_room_is_for_all_shelves_together(tmp_path: Path) -> None:
    uses = _uses({block: float(block) for block in range(100)})
    cache, train = _shelf(tmp_path, 100, uses)
    dev = cache.shelf("dev-1", 100, lambda: 0.0, None)
    for block in range(9, 0, -1):
        train.put(block, bytes(12))
    assert cache.num_bytes == 84 and _kept(train) == {1, 2, 3, 4, 5, 6, 7}
    assert dev.put(5, bytes(12))  # what is left to those without a future
    assert not dev.put(6, bytes(12))
    assert train.put(0, bytes(4))
    assert cache.num_bytes <= 100
    assert _kept(dev) == {5}
    cache.close()


def test_what_nobody_holds_any_more_makes_room(tmp_path: Path) -> None:
    over, old = _shelf(tmp_path, 40, None, "old-run")
    for block in (1, 2, 3):
        assert old.put(block, bytes(12))
    cache, shelf = _shelf(tmp_path, 40, _uses({1: 1.0}))
    assert not shelf.put(1, bytes(12))  # another process might need them
    assert _kept(old) == {1, 2, 3}
    over.close()
    assert shelf.put(1, bytes(12))
    assert not list((tmp_path / "old-run").glob("??/*"))
    assert cache.num_bytes == 12
    cache.close()


def test_a_change_that_broke_off_is_counted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = _uses({block: float(block) for block in range(100)})
    moments: list[Callable[[pytest.MonkeyPatch], None]] = [
        lambda patch: patch.setattr(Path, "replace", _dies),
        lambda patch: patch.setattr(Path, "unlink", _dies),
        lambda patch: patch.setattr(Path, "write_bytes", _dies),
    ]
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        cache, shelf = _shelf(folder, 40, uses)
        for block in (7, 8, 9):
            shelf.put(block, bytes(12))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            moment(patch)
            shelf.put(1, bytes(12))
        cache.close()
        cache, shelf = _shelf(folder, 40, uses)
        assert shelf.put(2, bytes(12))
        assert 2 in _kept(shelf)
        assert cache.num_bytes == 12 * len(_kept(shelf)) <= 36
        assert not (folder / "arriving").exists()
        cache.close()


def test_files_that_somebody_deleted_are_not_counted(tmp_path: Path) -> None:
    uses = _uses({block: float(block) for block in range(100)})
    cache, shelf = _shelf(tmp_path, 40, uses)
    for block in (7, 8, 9):
        shelf.put(block, bytes(12))
    for block in (8, 9):
        shelf.path(block).unlink()
    assert shelf.get(8) is None
    assert shelf.put(8, bytes(12))  # it is not there, whatever the marks say
    assert shelf.put(1, bytes(12))
    assert _kept(shelf) == {1, 7, 8}
    assert cache.num_bytes == 36
    shelf.path(8).unlink()
    assert shelf.put(2, bytes(12))  # in the place of one that was to leave, and is gone already
    assert _kept(shelf) == {1, 2, 7}
    assert cache.num_bytes == 36
    cache.close()


def test_what_lies_there_is_counted_when_the_ledger_is_gone(tmp_path: Path) -> None:
    uses = _uses({block: float(block) for block in range(100)})
    cache, shelf = _shelf(tmp_path, 40, uses)
    for block in (7, 8, 9):
        shelf.put(block, bytes(12))
    cache.close()
    (tmp_path / "ledger").unlink()
    cache, shelf = _shelf(tmp_path, 40, uses)
    assert shelf.put(1, bytes(12))
    assert _kept(shelf) == {1, 7, 8}
    assert cache.num_bytes == 36
    cache.close()


def test_who_holds_the_lock_for_long_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, shelf = _shelf(tmp_path, 40, None)
    waited: list[float] = []

    def held(file: int, patience: float) -> bool:
        waited.append(patience)
        return False

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("hocket.corpus.storage.block_cache._locked", held)
            assert [shelf.put(block, bytes(12)) for block in (1, 2)] == [False, False]
        assert shelf.put(1, bytes(12))
    first, second = waited[:2]
    assert first > 0 == second
    assert waited == [first, second] * 2
    cache.close()


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_one_process_fetches_a_block(tmp_path: Path) -> None:
    _, shelf = _shelf(tmp_path, 40, None)
    with shelf.fetching(3, 0.0) as mine:
        assert mine
    with shelf.fetching(3, 0.0) as mine, shelf.fetching(4, 0.0) as other:
        assert mine and other


def test_what_others_put_there_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "precious" / "ab" / "1"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(bytes(1000))
    cache, shelf = _shelf(tmp_path, 40, _uses({block: float(block) for block in range(100)}))
    for block in range(9, 0, -1):
        shelf.put(block, bytes(12))
    (tmp_path / "ledger").write_bytes(b"\x01" + bytes(15))  # a process died in the midst of a change
    assert shelf.put(0, bytes(12))
    assert cache.num_bytes <= 40
    assert mine.read_bytes() == bytes(1000)
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["ab"]
    cache.close()

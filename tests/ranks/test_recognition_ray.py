"""The same job with workers that Ray's actors start: byte for byte the file of local processes.

Ray itself is large and optional; where it is missing, a stand-in of threads takes the place of its actors,
so that lines, keys, worker processes and their loss are real all the same.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from hocket.corpus.tokens import CharTokens
from hocket.model import ModelConfig, build, store
from hocket.recognition import ray_engine
from hocket.recognition.job import recognize


class StandIn:
    """As much of Ray's interface as the engine uses; an actor is a thread."""

    exceptions = SimpleNamespace(RayError=RuntimeError)
    util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(8)

    def remote(self, kind: type) -> Any:
        actor = kind()
        run = SimpleNamespace(remote=lambda *words: self._pool.submit(actor.run, *words))
        made = SimpleNamespace(remote=lambda: SimpleNamespace(run=run))
        return SimpleNamespace(options=lambda **_: made)

    def get(self, running: concurrent.futures.Future[str]) -> str:
        return running.result()

    def wait(self, running: list[Any], timeout: float) -> None:
        concurrent.futures.wait(running, timeout)

    def kill(self, actor: Any) -> None:
        """The worker ends with its line."""


@pytest.fixture
def material(tmp_path: Path) -> tuple[Path, Path]:
    tokens = CharTokens.train(["abcdefghijklmnopqrstuvwxyz '"])
    config = ModelConfig.model_validate({"preset": "tiny", "num_layers": 1, "vocab_size": tokens.vocab_size})
    store.save(tmp_path / "model", build(config, seed=1))
    tokens.save(tmp_path / "model")
    random = np.random.default_rng(4)
    (tmp_path / "sounds").mkdir()
    for number in range(8):
        sound = random.normal(0, 0.1, round(random.uniform(0.5, 2.0) * 16_000))
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", sound, 16_000)
    return tmp_path / "model", tmp_path / "sounds"


def test_workers_that_call_back_give_the_same_file_and_are_replaced(
    material: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[ray_engine.RayWorker] = []

    def launch(start: Any) -> ray_engine.RayWorker:
        started.append(ray_engine.RayWorker(StandIn(), start, 0))
        return started[-1]

    @contextmanager
    def cluster() -> Iterator[Any]:
        yield launch, 2, 0

    monkeypatch.setattr(ray_engine, "cluster", cluster)
    model, sounds = material
    killed: list[int] = []

    def kill_one(progress: Any) -> None:
        if progress.num_done and not killed:
            killed.append(children()[0])
            os.kill(killed[0], signal.SIGKILL)
            while all(worker._end.is_alive() for worker in started):  # its line ends before any more work
                time.sleep(0.01)

    here = recognize(model, [str(sounds)], tmp_path / "here.jsonl", max_utterances=1)
    there = recognize(
        *(model, [str(sounds)], tmp_path / "there.jsonl"),
        workers=2, max_utterances=1, engine="ray", progress=kill_one,
    )  # fmt: skip
    assert (tmp_path / "there.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
    assert here.num_utterances == there.num_utterances == 8
    for worker in started:  # whose line has ended
        worker._end.join()
    assert not children()
    assert len(there.losses) == 1 and "(on Ray) was ended by signal 9" in there.losses[0]
    again = recognize(model, [str(sounds)], tmp_path / "there.jsonl", max_utterances=1)
    assert again.num_earlier == 8, "a journal does not know the engine"


def children() -> list[int]:
    """Worker processes of this process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid() and b"hocket.recognition.worker" in command:
            found.append(int(path.parent.name))
    return found


def test_on_ray_itself(material: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'hocket[ray]'")
    model, sounds = material
    recognize(model, [str(sounds)], tmp_path / "here.jsonl", max_utterances=1)
    recognize(model, [str(sounds)], tmp_path / "there.jsonl", workers=2, max_utterances=1, engine="ray")
    assert (tmp_path / "there.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()

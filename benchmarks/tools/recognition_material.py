"""Models, sounds and processes for the benchmarks of recognition jobs."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hocket.corpus.tokens import CharTokens
from hocket.hardware.device import describe
from hocket.model import ModelConfig, build, store


def babbling_model(folder: Path, preset: str = "tiny", **changes: Any) -> Path:
    """A model of random weights: what it writes depends on every frame it hears."""
    tokens = CharTokens.train(["abcdefghijklmnopqrstuvwxyz '"])
    config = ModelConfig.model_validate({"preset": preset, "vocab_size": tokens.vocab_size, **changes})
    store.save(folder, build(config, seed=1))
    tokens.save(folder)
    return folder


def chirps(random: np.random.Generator, seconds: float, rate: int = 16_000) -> np.ndarray:
    """Sound that no two calls make alike."""
    time_N = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(random.uniform(500, 9000) * time_N**power) for power in (1.0, 1.3, 0.7))
    return np.asarray(0.1 * tones + random.normal(0, 0.02, len(time_N)), np.float32)


def sounds(folder: Path, num: int, shortest: float, longest: float, seed: int = 1) -> Path:
    """A folder of ``num`` FLAC files of so many seconds."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(num):
        soundfile.write(
            folder / f"{number:06}.flac", chirps(random, random.uniform(shortest, longest)), 16_000
        )
    return folder


def start(*words: object) -> subprocess.Popen[str]:
    """``hocket WORDS --json`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "hocket", *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a command that ran to its end told."""
    out, _ = process.communicate()
    if process.returncode not in (0, 1) or not out:
        raise SystemExit(f"it ended with status {process.returncode}: {' '.join(map(str, process.args))}")
    told: dict[str, Any] = json.loads(out)
    return told


def children(pid: int) -> list[int]:
    """Processes whose parent is ``pid``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def resident(pid: int) -> int:
    """Bytes of memory that only this process holds or shares, as the kernel counts them; 0 when gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class MemoryWatch:
    """Samples the resident size of a job's coordinator and of its largest worker until it ends."""

    def __init__(self, process: subprocess.Popen[str], every: float = 0.5) -> None:
        self.samples: list[tuple[float, int, int]] = []
        self._process, self._every, self._began = process, every, time.monotonic()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while self._process.poll() is None:
            workers = [resident(pid) for pid in children(self._process.pid)]
            now = time.monotonic() - self._began
            self.samples.append((now, resident(self._process.pid), max(workers, default=0)))
            time.sleep(self._every)

    def join(self) -> None:
        """Wait for the job's end."""
        self._thread.join()


def page(title: str, text: str, rows: list[str], out: Path | None) -> None:
    """Print a result and, where asked for, keep it with command, date and machine."""
    words = sys.argv if out is None else [word for word in sys.argv if word not in ("--out", str(out))]
    command = " ".join(["python", *words])
    head = f"# {title}\n\n`{command}`, {datetime.date.today()}; {json.dumps(describe())}\n"
    body = "\n".join([head, text, "", *rows, ""])
    print(body)
    if out is not None:
        out.write_text(body)

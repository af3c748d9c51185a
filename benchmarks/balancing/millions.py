"""A plan over millions of utterances, in a process of its own: how soon, and how much memory.

python benchmarks/balancing/millions.py write FOLDER COUNT
python benchmarks/balancing/millions.py read FOLDER STEP SETTINGS
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NAMES = ("num_samples", "num_tokens", "speaker", "block", "key")


def run(
    folder: Path, count: int, settings: list[dict[str, float]]
) -> list[tuple[str, str, dict[str, float]]]:
    """(settings, step, what a fresh process needs to it): the first, and one in mid-epoch (a resume)."""
    found = []
    subprocess.run([sys.executable, __file__, "write", str(folder), str(count)], check=True)
    for one in settings:
        for step in ("first", "middle"):
            command = [sys.executable, __file__, "read", str(folder), step, json.dumps(one)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            said = ", ".join(f"{name} {value:g}" for name, value in one.items()) or "default settings"
            found.append((said, step, json.loads(done.stdout)))
    return found


def write(folder: Path, count: int) -> None:
    """Columns as files to be mapped, as those of an index are."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from balancing import lengths

    columns = lengths.generated(count)
    for name in NAMES:
        np.save(folder / f"{name}.npy", getattr(columns, name))


def read(folder: Path, step: str, settings: dict[str, float]) -> dict[str, float]:
    """Seconds to a plan and one batch of it, and MB above what the process had before."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from balancing import lengths
    from hocket.batching import BatchPlan, BatchSettings
    from hocket.model import ModelConfig, workload

    cost = workload.cost(ModelConfig.model_validate({"preset": "tiny", "vocab_size": 32}))
    batch = BatchSettings.model_validate(settings)
    before = _memory()
    begun = time.perf_counter()
    columns = lengths.Lengths(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES})
    plan = BatchPlan(columns, batch, cost, seed=0, speed_percents=(90, 100, 110))
    plan.global_batch(plan.steps_per_epoch // 2 if step == "middle" else 0)
    seconds = time.perf_counter() - begun
    after = _memory()
    begun = time.perf_counter()
    plan.global_batch(plan.steps_per_epoch + plan.steps_per_epoch // 3)
    return {
        "utterances": len(columns),
        "steps": plan.steps_per_epoch,
        "seconds": seconds,
        "peak_mb": after["VmHWM"] - before["VmHWM"],
        "resident_mb": after["VmRSS"] - before["VmRSS"],
        "own_mb": after["RssAnon"] - before["RssAnon"],
        "elsewhere_seconds": time.perf_counter() - begun,
    }


def _memory() -> dict[str, float]:
    """MB by the kernel's names."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1e3 for name in ("VmHWM", "VmRSS", "RssAnon")}


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.stdout.write(json.dumps(read(Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))))

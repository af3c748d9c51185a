"""``hocket prepare --shards`` with one and two workers, and killed and started again.

python -m storage.preparing SOURCE OUT [--rounds 3] [--kills 3]      (in benchmarks/)
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path


def prepare(source: str, out: Path, workers: int, shard_mb: float) -> subprocess.Popen[bytes]:
    """Start preparing."""
    command = [
        sys.executable,
        "-m",
        "hocket",
        "prepare",
        source,
        str(out),
        "--shards",
        "--workers",
        str(workers),
    ]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, "--shard-mb", str(shard_mb)], stdout=quiet, stderr=quiet)


def hashes(folder: Path) -> dict[str, str]:
    """Of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "cuts.jsonl.gz"  # which names the folder
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--shard-mb", type=float, default=4.0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    whole: dict[str, str] = {}
    for number in range(arguments.rounds):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            out = arguments.out / f"with-{workers}"
            shutil.rmtree(out, ignore_errors=True)
            begun = time.perf_counter()
            assert prepare(arguments.source, out, workers, arguments.shard_mb).wait() == 0
            seconds[workers].append(time.perf_counter() - begun)
            told = hashes(out)
            whole = whole or told
            assert told == whole, "other bytes"
    if arguments.rounds:
        ratios = sorted(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
        for workers, took in seconds.items():
            sys.stdout.write(f"{workers} workers: {', '.join(f'{one:.1f}' for one in took)} s\n")
        sys.stdout.write(f"2 over 1, by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}\n")
    out, draw = arguments.out / "killed", random.Random(1)
    shutil.rmtree(out, ignore_errors=True)
    usual = min(seconds[2], default=10.0)
    kills = 0
    for _ in range(arguments.kills):
        process = prepare(arguments.source, out, 2, arguments.shard_mb)
        try:
            process.wait(usual * draw.uniform(0.15, 0.35))
            break  # what earlier ones had done was kept, and this one needed no longer
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        assert not out.exists(), "a folder that is not whole"
    begun = time.perf_counter()
    assert prepare(arguments.source, out, 2, arguments.shard_mb).wait() == 0
    took = time.perf_counter() - begun
    same = not whole or hashes(out) == whole
    sys.stdout.write(f"after {kills} kills: {took:.1f} s, the same bytes: {same}\n")
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()

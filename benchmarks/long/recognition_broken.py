"""10,000 inputs of which 500 are broken, each in one of nine ways: 9,500 right, 500 listed with reasons.

Among the 9,500 there are odd ones that must be heard: 192 kHz, 8 channels, a name with a line break.

    python benchmarks/long/recognition_broken.py [--inputs 10000] [--broken 500] [--out RESULT.md]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recognition_material import answer, babbling_model, chirps, page, start

Breaker = Callable[[Path, np.ndarray], None]


def _wav(path: Path, samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16") -> None:
    soundfile.write(path, samples, rate, subtype=subtype)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _truncated(path: Path, samples: np.ndarray) -> None:
    _wav(path, samples)
    _cut(path)


def _nan(path: Path, samples: np.ndarray) -> None:
    broken = samples.copy()
    broken[len(broken) // 2] = np.nan
    _wav(path, broken, subtype="FLOAT")


def _fast_truncated(path: Path, samples: np.ndarray) -> None:
    _wav(path, samples, 192_000)
    _cut(path)


def _eight_nan(path: Path, samples: np.ndarray) -> None:
    broken = np.repeat(samples[:, None], 8, axis=1)
    broken[7, 5] = np.inf
    _wav(path, broken, subtype="FLOAT")


def _unreadable(path: Path, samples: np.ndarray) -> None:
    _wav(path, samples)
    path.chmod(0)
    if os.access(path, os.R_OK):  # nothing is unreadable to root: a link that leads in a circle is
        path.unlink()
        path.symlink_to(path.name)


def _line_break(path: Path, samples: np.ndarray) -> None:
    path.with_name(f"{path.stem}\n.wav").write_text("text")


BREAKERS: dict[str, Breaker] = {
    "empty": lambda path, _: path.touch(),
    "truncated": _truncated,
    "text": lambda path, _: path.write_text("no audio at all\n" * 50) and None,
    "no samples": lambda path, _: _wav(path, np.zeros(0, np.float32)),
    "NaN": _nan,
    "192 kHz, truncated": _fast_truncated,
    "8 channels, infinite in one": _eight_nan,
    "unreadable": _unreadable,
    "text, a line break in its name": _line_break,
}


def make(folder: Path, num: int, num_broken: int) -> tuple[list[str], dict[str, str]]:
    """Names of the sound files, and the kinds of the broken ones by name."""
    folder.mkdir()
    random = np.random.default_rng(7)
    broken = set(random.choice(num, num_broken, replace=False).tolist())
    kinds = list(BREAKERS)
    good: list[str] = []
    bad: dict[str, str] = {}
    for number in range(num):
        samples = chirps(random, random.uniform(0.3, 1.0))
        path = folder / f"{number:05}.wav"
        if number in broken:
            kind = kinds[len(bad) % len(kinds)]
            BREAKERS[kind](path, samples)
            bad[str(path.with_name(f"{path.stem}\n.wav")) if "line break" in kind else str(path)] = kind
            continue
        if number % 50 == 1:
            _wav(path, chirps(random, 0.5, 192_000), 192_000)
        elif number % 50 == 2:
            _wav(path, np.repeat(samples[:, None], 8, axis=1))
        elif number % 50 == 3:
            path = folder / f"{number:05}\n.wav"
            _wav(path, samples)
        else:
            _wav(path, samples)
        good.append(str(path))
    return good, bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--broken", type=int, default=500)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = babbling_model(folder / "model", num_layers=2)
        good, bad = make(folder / "all", options.inputs, options.broken)
        hyps = folder / "hyps.jsonl"
        process = start("recognize", model, folder / "all", "--out", hyps, "--workers", "2")
        told = answer(process)
        found = {h["id"]: h["text"] for h in map(json.loads, hyps.read_text().splitlines())}
        listed = map(json.loads, Path(told["failed"]).read_text().splitlines())
        failed = {failure["id"]: failure["reason"] for failure in listed}
        problems = []
        if list(found) != sorted(good) or set(failed) != set(bad):
            problems.append("not every good file is answered and every broken one listed")
        if process.returncode != 1 or (told["num_utterances"], told["num_failed"]) != (len(good), len(bad)):
            problems.append(f"status {process.returncode}, {told['num_utterances']}, {told['num_failed']}")
        alone = folder / "alone"
        (folder / "all").rename(alone)
        for path in bad:
            (alone / Path(path).name).unlink()
        alone.rename(folder / "all")
        again = folder / "again.jsonl"
        answer(start("recognize", model, folder / "all", "--out", again))
        right = {h["id"]: h["text"] for h in map(json.loads, again.read_text().splitlines())}
        differing = [id for id in right if found.get(id) != right[id]]
        if problems:
            raise SystemExit("; ".join(problems))
    examples = {bad[id]: reason.rpartition("/")[2] for id, reason in reversed(list(failed.items()))}
    rows = [
        "| broken | files | a reason |",
        "| --- | --- | --- |",
        *(f"| {kind} | {count} | {examples[kind]!r} |" for kind, count in Counter(bad.values()).items()),
    ]
    text = (
        f"{len(good):,} of {options.inputs:,} files answered, {len(bad)} listed, exit status 1. Transcripts "
        f"that differ from those of a job over the sound files alone: {len(differing)}."
    )
    page("Broken inputs", text, rows, options.out)


if __name__ == "__main__":
    main()

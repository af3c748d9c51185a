"""Memory of a recognition job's processes over 100,000 utterances: it must not grow.

A table names real files (or sounds made for it) again and again. Resident sizes are sampled while the
job runs, and shown at each tenth of its time.

    python benchmarks/long/recognition_memory.py [--utterances 100000] [--model RUN] [--audio FILE...]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recognition_material import MemoryWatch, answer, babbling_model, page, sounds, start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--audio", nargs="+")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or babbling_model(folder / "model", num_layers=2)
        audio = options.audio or sorted(map(str, sounds(folder / "sounds", 500, 0.3, 1.5).iterdir()))
        table = folder / "table.jsonl"
        with table.open("w") as file:
            for number, path in zip(range(options.utterances), itertools.cycle(audio), strict=False):
                file.write(json.dumps({"id": f"u{number}", "audio": str(Path(path).absolute())}) + "\n")
        process = start(
            *("recognize", model, table, "--out", folder / "hyps.jsonl", "--workers", options.workers)
        )
        watch = MemoryWatch(process)
        told = answer(process)
        watch.join()
    worked = [sample for sample in watch.samples if sample[2] > 0]
    steady = worked[len(worked) // 10 :]  # past loading
    rows = ["| share of the time | coordinator, MiB | largest worker, MiB |", "| --- | --- | --- |"]
    for tenth in range(11):
        _, coordinator, worker = steady[min(tenth * len(steady) // 10, len(steady) - 1)]
        rows.append(f"| {tenth * 10} % | {coordinator / 2**20:.0f} | {worker / 2**20:.0f} |")
    half = len(steady) // 2
    grown = [
        (max(s[column] for s in steady[half:]) / max(s[column] for s in steady[:half]) - 1) * 100
        for column in (1, 2)
    ]
    text = (
        f"{told['num_utterances']:,} utterances, {told['audio_seconds'] / 3600:.1f} h of audio, "
        f"{told['workers']} workers, {told['wall_seconds']:.0f} s. Largest size in the second half against "
        f"the first: coordinator {grown[0]:+.1f} %, worker {grown[1]:+.1f} %."
    )
    page("Memory over a long job", text, rows, options.out)


if __name__ == "__main__":
    main()

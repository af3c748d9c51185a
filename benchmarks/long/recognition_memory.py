"""Memory of a recognition job's processes over 100,000 utterances, beside that over 20,000: the same.

A table names real files (or sounds made for it) again and again. Resident sizes are sampled while a job
runs, and shown at each tenth of its time. A job goes from the longest utterance to the shortest, and each
shape of a micro-batch that is new leaves something in the libraries' caches and the allocator's lists: the
last job therefore has as many utterances of one length, so that all it could add is what an utterance leaves.

    python benchmarks/long/recognition_memory.py [--utterances 20000 100000] [--model RUN] [--audio FILE...]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recognition_material import MemoryWatch, answer, babbling_model, page, sounds, start


@dataclass(frozen=True)
class Job:
    """What was told of one job, and resident sizes of coordinator and largest worker once it was loaded."""

    told: dict[str, Any]
    sizes_N2: list[tuple[int, int]]

    def at(self, tenth: int, who: int) -> str:
        """MiB after so many tenths of the time."""
        size = self.sizes_N2[min(tenth * len(self.sizes_N2) // 10, len(self.sizes_N2) - 1)][who]
        return f"{size / 2**20:.0f}"

    def first(self, who: int) -> int:
        """Bytes, at most, in the first tenth of the time."""
        return max(size[who] for size in self.sizes_N2[: max(1, len(self.sizes_N2) // 10)])

    def largest(self, who: int) -> int:
        """Bytes."""
        return max(size[who] for size in self.sizes_N2)


def run(folder: Path, model: Path, audio: list[str], utterances: int, workers: int) -> Job:
    """Recognise so many utterances."""
    table = folder / f"{utterances}-of-{len(audio)}.jsonl"
    with table.open("w") as file:
        for number, path in zip(range(utterances), itertools.cycle(audio), strict=False):
            file.write(json.dumps({"id": f"u{number}", "audio": str(Path(path).absolute())}) + "\n")
    process = start(
        *("recognize", model, table, "--out", table.with_suffix(".hyps.jsonl"), "--workers", workers)
    )
    watch = MemoryWatch(process)
    told = answer(process)
    watch.join()
    worked = [(coordinator, worker) for _, coordinator, worker in watch.samples if worker > 0]
    return Job(told, worked[len(worked) // 10 :])  # past loading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--audio", nargs="+")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or babbling_model(folder / "model", num_layers=2)
        audio = options.audio or sorted(map(str, sounds(folder / "sounds", 500, 0.3, 1.5).iterdir()))
        jobs = [run(folder, model, audio, number, options.workers) for number in options.utterances]
        alike = audio[len(audio) // 2 :][:1]
        jobs.append(run(folder, model, alike, options.utterances[-1], options.workers))
    heads = [f"{each.told['num_utterances']:,}" for each in jobs]
    heads[-1] += " of one length"
    rows = [
        f"| share of the time | {' | '.join(f'coordinator, {h}' for h in heads)} "
        f"| {' | '.join(f'largest worker, {h}' for h in heads)} |",
        "| --- " * (1 + 2 * len(jobs)) + "|",
    ]
    for tenth in range(11):
        sizes = [each.at(tenth, who) for who in (0, 1) for each in jobs]
        rows.append(f"| {tenth * 10} % | {' | '.join(sizes)} |")
    lines = [
        f"{head}: {each.told['audio_seconds'] / 3600:.1f} h of audio, {each.told['workers']} workers, "
        f"{each.told['wall_seconds']:.0f} s."
        for head, each in zip(heads, jobs, strict=True)
    ]
    if len(options.utterances) > 1:
        grown = [100 * (jobs[-2].largest(who) / jobs[0].largest(who) - 1) for who in (0, 1)]
        lines.append(
            f"Largest size over {heads[-2]} utterances against {heads[0]}: coordinator {grown[0]:+.1f} %, "
            f"worker {grown[1]:+.1f} %."
        )
    within = [100 * (jobs[-1].largest(who) / jobs[-1].first(who) - 1) for who in (0, 1)]
    lines.append(
        f"Of one length, largest against the first tenth: coordinator {within[0]:+.1f} %, worker "
        f"{within[1]:+.1f} %. Sizes are resident, in MiB."
    )
    page("Memory over a long job", " ".join(lines), rows, options.out)


if __name__ == "__main__":
    main()

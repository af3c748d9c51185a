"""50 times SIGKILL for a recognition job of 2,500 utterances: nothing lost, nothing twice.

At random moments of a printed seed a worker, the coordinator or all processes at once are killed. A
job whose coordinator died is started again by the same command, until it ends; then the next job begins.
Each result must be that of a run without a kill, byte for byte, and no micro-batch may be in the journal
twice, so that at most what was in flight was computed again.

    python benchmarks/long/recognition_kills.py [--seed N] [--kills 50] [--model RUN] [--inputs INPUT...]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recognition_material import answer, babbling_model, children, page, sounds, start

WORKERS = 2


class Tally:
    """What was killed, and what came of it."""

    def __init__(self) -> None:
        self.kills: Counter[str] = Counter()
        self.jobs = self.starts = self.in_journal_at_restart = self.torn = 0


def kill(coordinator: int, target: str, chance: random.Random) -> bool:
    """Whether there was somebody to kill."""
    if target == "all":
        os.killpg(coordinator, signal.SIGKILL)
    elif target == "coordinator":
        os.kill(coordinator, signal.SIGKILL)
    else:
        workers = children(coordinator)
        if not workers:
            return False
        os.kill(chance.choice(sorted(workers)), signal.SIGKILL)
    return True


def finished(journal: Path) -> list[int]:
    """Numbers of the micro-batches in a journal; a torn last line is passed over."""
    if not journal.exists():
        return []
    found = []
    for line in journal.read_bytes().split(b"\n")[:-1]:
        try:
            fields: dict[str, Any] = json.loads(line[9:])
        except ValueError:
            continue
        if "done" in fields:
            found.append(int(fields["done"]))
    return found


def one_job(
    command: list[str], out: Path, left: int, within: float, chance: random.Random, tally: Tally
) -> int:
    """Run to the end with up to ``left`` kills; how many there were."""
    journal = out.with_name(out.name + ".journal")
    num = 0
    tally.jobs += 1
    while True:
        before = finished(journal)
        process = start(*command, "--out", out)
        tally.starts += 1
        while process.poll() is None and num < left:
            moment = time.monotonic() + chance.uniform(0.0, within)
            while process.poll() is None and time.monotonic() < moment:
                time.sleep(0.005)
            target = chance.choice(["worker", "coordinator", "all"])
            if process.poll() is None and kill(process.pid, target, chance):
                num += 1
                tally.kills[target] += 1
                if target != "worker":
                    break
        out_text, _ = process.communicate()
        after = finished(journal)
        if after[: len(before)] != before or len(set(after)) != len(after):
            raise SystemExit("a micro-batch is in the journal twice, or one that was finished is gone")
        if process.returncode == 0:
            told = json.loads(out_text)
            now = sum(worker["num_micro_batches"] for worker in told["per_worker"])
            if now + len(before) != told["num_micro_batches"]:
                raise SystemExit(f"{now} micro-batches were computed, {len(before)} were there before")
            return num
        tally.in_journal_at_restart += len(after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--utterances", type=int, default=2500)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--inputs", nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or babbling_model(Path(folder) / "model", num_layers=2)
        inputs = options.inputs or [str(sounds(Path(folder) / "sounds", options.utterances, 0.5, 2.5))]
        command = ["recognize", str(model), *inputs, "--workers", str(WORKERS), "--batch-seconds", "20"]
        reference = Path(folder) / "reference.jsonl"
        began = time.monotonic()
        told = answer(start(*command, "--out", reference))
        within = 1.2 * (time.monotonic() - began)
        print(f"{told['num_utterances']} utterances, {told['num_micro_batches']} micro-batches", flush=True)
        while sum(tally.kills.values()) < options.kills:
            out = Path(folder) / f"{tally.jobs}.jsonl"
            one_job(command, out, options.kills - sum(tally.kills.values()), within, chance, tally)
            if out.read_bytes() != reference.read_bytes():
                raise SystemExit(f"seed {seed}: job {tally.jobs} gave another file")
            print(f"job {tally.jobs}: equal after {sum(tally.kills.values())} kills in all", flush=True)
    rows = [
        "| killed | times |",
        "| --- | --- |",
        *(f"| {target} | {number} |" for target, number in sorted(tally.kills.items())),
    ]
    size = f"{told['num_utterances']} utterances in {told['num_micro_batches']} micro-batches"
    text = (
        f"Seed {seed}. {size}, {WORKERS} workers, {tally.jobs} jobs, {tally.starts} starts. Every job ended "
        "with the bytes of a run without a kill; no micro-batch was in a journal twice; the last start of "
        "each job computed exactly what the journal lacked. A kill costs at most the "
        f"{2 * WORKERS} micro-batches in flight."
    )
    page("Recognition jobs under SIGKILL", text, rows, options.out)


if __name__ == "__main__":
    main()

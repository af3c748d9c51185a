"""How right the planner is: steps and memory of configurations that were never used for fitting.

The machine is calibrated on small models of its own (``hocket plan --calibrate``); then every configuration
below runs in as many processes as its layout takes, each round of steps beside a reference, and is set
against what the planner says. Times are divided by the reference on both sides. The same command goes on
where it ended. Run it while nothing else does.

    python benchmarks/long/plan_accuracy.py --out FOLDER [--quick] [--rounds 9]
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planning_runs import Config, Measured, layouts_of_two, measure, predicted

from hocket.hardware.device import cpu_name
from hocket.planning.calibration import Calibration, read
from hocket.planning.candidate import Cluster
from hocket.studies.planning.machines import ground_for

ONE = {"name": "all_reduce"}


def configurations() -> list[Config]:
    """Sizes, batches, precisions, workers, every axis, strategies: none of them is among the trials."""
    tiny, small, base = {"preset": "tiny"}, {"preset": "small"}, {"preset": "base"}
    medium, large = {"preset": "medium"}, {"preset": "large", "num_layers": 6}
    deep = {"preset": "small", "num_layers": 14, "hidden_size": 176}
    long_kernel = {"preset": "base", "conv_kernel_size": 31, "num_layers": 6, "vocab_size": 1025}
    found = [
        Config("tiny", tiny),
        Config("tiny-short", tiny, seconds=30, utterance=2.5),
        Config("tiny-long", tiny, seconds=60, utterance=15),
        Config("tiny-bf16", tiny, precision="bf16"),
        Config("small", small),
        Config("small-bf16", small, precision="bf16", seconds=60),
        Config("deep", deep),
        Config("deep-bf16", deep, precision="bf16"),
        Config("base", base),
        Config("base-short", base, utterance=2.0, seconds=24),
        Config("base-long", base, utterance=14, seconds=60),
        Config("base-bf16", base, precision="bf16"),
        Config("base-recompute", base, {"recompute": "all"}),
        Config("base-recompute-half", base, {"recompute": 6}),
        Config("long-kernel", long_kernel),
        Config("long-kernel-bf16", long_kernel, precision="bf16"),
        Config("medium", medium, seconds=30),
        Config("medium-bf16", medium, precision="bf16", seconds=40),
        Config("large-6", large, seconds=20),
        Config("large-6-bf16", large, precision="bf16", seconds=30),
        Config("large-6-recompute", large, {"recompute": "all"}, seconds=20),
        Config("base-8-micro", base, micro_batches=8, seconds=60),
        Config("base-1-micro", base, micro_batches=1, seconds=12),
    ]
    for layout in layouts_of_two():
        name = "-".join(str(each) for pair in layout.items() for each in pair)
        found.append(Config(f"base-{name}", base, layout))
        if layout in ({"dp_replicate": 2}, {"tp": 2}, {"pp": 2}, {"dp_shard": 2}):
            found.append(Config(f"medium-{name}", medium, layout, precision="bf16", seconds=30))
    found.append(Config("tiny-sp-2", tiny, {"sp": 2}, utterance=12))
    found.append(Config("large-6-tp-2-recompute", large, {"tp": 2, "recompute": "all"}, seconds=20))
    found.append(Config("large-6-dp_shard-2", large, {"dp_shard": 2}, seconds=20))
    for compression in ("bf16", "one_bit", "power_sgd", "top_k"):
        sync = {"name": "all_reduce", "compression": compression}
        found.append(Config(f"base-dp-2-{compression}", base, {"dp_replicate": 2}, sync))
    for every, compression in ((4, "none"), (8, "one_bit")):
        sync = {"name": "local_sgd", "sync_every": every, "compression": compression}
        found.append(Config(f"base-local-{every}-{compression}", base, {"dp_replicate": 2}, sync))
    return found


QUICK = ("tiny-bf16", "base", "base-tp-2", "base-dp_replicate-2")


def run(folder: Path, rounds: int, quick: bool) -> None:
    """Measure what is not yet in ``folder``, and write the report."""
    folder.mkdir(parents=True, exist_ok=True)
    ground = ground_for(None, None, cache=folder / "machine", told=_told)
    calibration = read(folder / "machine" / "rates-cpu-1.json")
    chosen = [each for each in configurations() if not quick or each.name in QUICK]
    for config in chosen:
        path = folder / f"{config.name}.json"
        if path.exists():
            continue
        sys.stderr.write(f"{config.name}\n")
        found = measure(config, rounds)
        path.write_text(json.dumps(asdict(found)))
    text = report(chosen, folder, ground.cluster, calibration, rounds)
    (folder / "report.md").write_text(text)
    sys.stdout.write(text)


def report(
    chosen: Sequence[Config], folder: Path, cluster: Cluster, calibration: Calibration, rounds: int
) -> str:
    """The result file."""
    rows, errors, memory_errors = [], [], []
    results = {
        config.name: Measured(**json.loads((folder / f"{config.name}.json").read_text())) for config in chosen
    }
    # Beside another process the reference takes longer, too: by so much.
    least = {
        several: min((results[c.name].reference for c in chosen if (c.workers > 1) == several), default=0.0)
        for several in (False, True)
    }
    crowding = max(1.0, least[True] / least[False]) if least[False] else 1.0
    for config in chosen:
        found = results[config.name]
        seconds, num_bytes = predicted(config, cluster)
        said = seconds / (calibration.reference * (crowding if config.workers > 1 else 1.0))
        error, of_memory = said / found.ratio - 1, num_bytes / found.peak_bytes - 1
        oversubscribed = config.workers > cluster.per_host
        if not oversubscribed:
            errors.append(abs(error))
        memory_errors.append(abs(of_memory))
        rows.append(
            f"| {config.name}{' (oversubscribed)' if oversubscribed else ''} | {config.workers} | "
            f"{said:.1f} | {found.ratio:.1f} ({found.low:.1f} to {found.high:.1f}) | {error:+.1%} | "
            f"{num_bytes / 1e6:.0f} | {found.peak_bytes / 1e6:.0f} | {of_memory:+.1%} |"
        )
    return "\n".join(
        [
            "# How right the planner is on this machine",
            "",
            f"- date: {datetime.date.today().isoformat()}",
            f"- command: `python benchmarks/long/plan_accuracy.py --out FOLDER --rounds {rounds}`",
            f"- machine: {cpu_name()}, {cluster.per_host} cores, one thread a process, gloo",
            f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
            f"- {len(rows)} configurations, none of them used for fitting",
            f"- step time: median error {statistics.median(errors):.1%}, "
            f"90th percentile {_percentile(errors, 0.9):.1%}",
            f"- peak of tensors: median error {statistics.median(memory_errors):.1%}, "
            f"90th percentile {_percentile(memory_errors, 0.9):.1%}",
            "- times are over a reference beside them; quartiles of rounds in parentheses",
            f"- the reference takes {crowding:.3f} times as long when both processes run it",
            "",
            "| configuration | processes | step said | measured | error | peak MB said | measured | error |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _told(what: str, done: int, of: int) -> None:
    sys.stderr.write(f"{done}/{of} {what}\n")


def main() -> None:
    """Measure, go on, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="A few configurations.")
    options = parser.parse_args()
    run(options.out, options.rounds, options.quick)


if __name__ == "__main__":
    main()

"""Whether the layout that the planner recommends is the best: every layout is run, on five recipes.

For each recipe all layouts of one and two processes that learn the same are run, in turns, so that a busy
moment does not fall on one of them alone. The recommended one is right when it is the fastest, within 10 %
of the fastest, or not significantly slower in paired rounds (a sign test). The same command goes on where it
ended. Run it while nothing else does.

    python benchmarks/long/plan_choice.py --out FOLDER [--quick] [--rounds 10]
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
from dataclasses import replace
from math import comb
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planning_runs import Config, layouts_of_two, measure, predicted

from hocket.core.errors import UsageError
from hocket.core.layout import LayoutSettings
from hocket.hardware.device import cpu_name
from hocket.parallel.check import check
from hocket.planning.candidate import Cluster
from hocket.studies.planning.machines import ground_for

RECIPES = (
    Config("tiny", {"preset": "tiny", "vocab_size": 32}, seconds=20, utterance=3),
    Config("small-bf16", {"preset": "small"}, precision="bf16", seconds=60),
    Config("base", {"preset": "base"}, seconds=48),
    Config("medium-bf16", {"preset": "medium"}, precision="bf16", seconds=60, utterance=10),
    Config("large-uneven", {"preset": "large", "num_layers": 5}, seconds=24, micro_batches=3),
)
NEAR = 1.1


def ways(recipe: Config) -> list[Config]:
    """The recipe on every layout of one and two processes that its model takes."""
    found = []
    for layout in ({}, *layouts_of_two()):
        name = "-".join(str(each) for pair in layout.items() for each in pair) or "single"
        config = replace(recipe, name=f"{recipe.name}@{name}", layout=layout)
        try:
            check(LayoutSettings.model_validate(layout).fill(config.workers), config.job().config)
        except UsageError:
            continue
        found.append(config)
    return found


def run(folder: Path, rounds: int, quick: bool) -> None:
    """Measure what is not yet in ``folder``, and write the report."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = ground_for(None, None, cache=folder / "machine").cluster
    recipes = RECIPES[:1] if quick else RECIPES
    for recipe in recipes:
        chosen = ways(recipe)
        for number in range(rounds):
            for config in chosen:
                path = folder / f"{config.name}-{number}.json"
                if not path.exists():
                    sys.stderr.write(f"{config.name}, round {number + 1} of {rounds}\n")
                    path.write_text(json.dumps(measure(config, 3).ratio))
    text = report(recipes, folder, cluster, rounds)
    (folder / "report.md").write_text(text)
    sys.stdout.write(text)


def report(recipes: tuple[Config, ...], folder: Path, cluster: Cluster, rounds: int) -> str:
    """The result file."""
    lines = [
        "# The recommended layout beside all others",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/long/plan_choice.py --out FOLDER --rounds {rounds}`",
        f"- machine: {cpu_name()}, {cluster.per_host} cores, one thread a process, gloo",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        "- times are over a reference beside them, medians of rounds; p: sign test that it is not slower",
        "",
        "| recipe | recommended | its time | best of all | its time | slower by | p | right |",
        "|---|---|---|---|---|---|---|---|",
    ]
    right = 0
    for recipe in recipes:
        chosen = ways(recipe)
        taken = {
            config.name: [
                float(json.loads((folder / f"{config.name}-{number}.json").read_text()))
                for number in range(rounds)
            ]
            for config in chosen
        }
        said = min(chosen, key=lambda config: predicted(config, cluster)[0]).name
        best = min(taken, key=lambda name: statistics.median(taken[name]))
        ours, theirs = statistics.median(taken[said]), statistics.median(taken[best])
        p = _sign_test(taken[said], taken[best])
        is_right = ours <= NEAR * theirs or p > 0.05
        right += is_right
        lines.append(
            f"| {recipe.name} | {said.partition('@')[2]} | {ours:.1f} | {best.partition('@')[2]} | "
            f"{theirs:.1f} | {ours / theirs - 1:+.1%} | {p:.3f} | {'yes' if is_right else 'no'} |"
        )
    lines += ["", f"Right on {right} of {len(recipes)} recipes.", ""]
    return "\n".join(lines)


def _sign_test(ours: list[float], theirs: list[float]) -> float:
    """Probability of so many slower rounds, or more, if neither were slower."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    slower = sum(a > b for a, b in pairs)
    return sum(comb(len(pairs), k) for k in range(slower, len(pairs) + 1)) / 2 ** len(pairs)


def main() -> None:
    """Measure, go on, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="One recipe.")
    options = parser.parse_args()
    run(options.out, options.rounds, options.quick)


if __name__ == "__main__":
    main()

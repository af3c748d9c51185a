"""Every way for workers to agree, side by side: WER with intervals, bytes, speed, time to a loss over links.

Two studies of ``hocket scale`` (benchmarks/long/studies), on one small recipe: ``strategies`` (every
strategy at 2 workers with three seeds and at 4 with one, links, partitions of a batch) and
``slow-link`` (5 M parameters in fp32 at 100 Mbit/s). A synchronous strategy that comes out more than 10 %
worse than plain all-reduce is run again with less of what may be the cause (reasons.yaml). Both take hours on
two cores and go on where they ended, also within --budget minutes: the page then shows what is finished.
Links need root and iproute2; without them those cells are left out, and the page says so.

    python benchmarks/long/strategies.py --corpus corpora/an4 [--study strategies slow-link] [--out FOLDER]
        [--budget MINUTES] [--page benchmarks/results/NAME.md] [--docs docs/sync] [--quick]
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import measured_rows
import reasons
from training_runs import SYNTHETIC, corpus_in

from hocket.comms.links import LOOPBACK, why_not
from hocket.core import clock
from hocket.core import recipe as recipes
from hocket.core.errors import HocketError
from hocket.hardware.device import describe
from hocket.reports.scale import Study, tables
from hocket.reports.scale.groups import groups_of
from hocket.studies.recipes import shipped
from hocket.studies.scale import StudySettings, Watch, scale

STUDIES = Path(__file__).with_name("studies")
QUICK_STEPS = 12


def settings_of(name: str, corpus: Path, quick: bool) -> tuple[StudySettings, list[str]]:
    """A study as it can be run here, and what was left out of it."""
    read = recipes.load(STUDIES / f"{name}.yaml", StudySettings)
    grids, left_out = [], []
    changes: dict[str, Any]
    reason = why_not()
    for grid in read.grids:
        links = grid.links
        if reason is not None and any(link != LOOPBACK for link in links):
            left_out.append(f"links {', '.join(links)}: {reason}")
            links = tuple(link for link in links if link == LOOPBACK)
            if not links:
                continue
        changes = {"links": links}
        if quick:  # a bit of everything
            one = {"seeds": 1, "strategies": grid.strategies[:2], "partitions": grid.partitions[-1:]}
            changes = {"links": links[-1:], **one}
        grids.append(grid.model_copy(update=changes))
    changed = (*read.set, f"corpus={json.dumps(str(corpus.absolute()))}")
    steps = QUICK_STEPS if quick else read.steps
    return read.model_copy(update={"grids": tuple(grids), "set": changed, "steps": steps}), left_out


def run(name: str, corpus: Path, out: Path, quick: bool, budget: Budget) -> tuple[str, Study | None]:
    """A study from where it stands to its end, or that of the budget: its part of the page, and itself."""
    settings, left_out = settings_of(name, corpus, quick)
    if not settings.grids:
        return f"## {name}\n\nNot run: {'; '.join(left_out)}.\n", None
    if budget.spent and not (out / name).exists():
        return f"## {name}\n\nNot begun: no minutes were left.\n", None
    watch = Watch(
        say=lambda text: print(text, file=sys.stderr, flush=True),
        cells=lambda done, of, now: print(f"{done}/{of} {now}", file=sys.stderr, flush=True),
        training=lambda _event: None,
        recognising=lambda _state: None,
    )
    found = scale(shipped("an4-study"), out / name, budget.laid_over(settings), watch)
    asked = reasons.asked_of(found.study)
    if asked and len(found.study.cells) == found.study.num_planned:
        more = reasons.with_less(settings, asked)
        found = scale(shipped("an4-study"), out / name, budget.laid_over(more), watch)
    return section(name, found.study, left_out), found.study


class Budget:
    """Minutes for all studies together; without a number as many as they take."""

    def __init__(self, minutes: float | None) -> None:
        self._ends = None if minutes is None else clock.monotonic() + 60 * minutes

    @property
    def spent(self) -> bool:
        """None are left."""
        return self._ends is not None and clock.monotonic() >= self._ends

    def laid_over(self, settings: StudySettings) -> StudySettings:
        """A study that takes what is left at most."""
        if self._ends is None:
            return settings
        left = max(1e-3, (self._ends - clock.monotonic()) / 60)
        return settings.model_copy(update={"budget_minutes": left})


def section(name: str, study: Study, left_out: Sequence[str]) -> str:
    """What a study found, as Markdown."""
    groups = groups_of(study)
    parts = [f"## {name}", tables.summary(study)]
    parts += [f"Left out: {each}" for each in (*left_out, *study.notes)]
    parts += [f"Failed: {label}: {reason}" for label, reason in study.failed]
    if study.target_loss is not None:
        parts.append(f"The loss: {study.target_loss:.4f} nats per token: {study.target_why}.")
    for caption, (head, rows) in (
        ("Means over seeds", tables.overview(groups)),
        ("WER over seeds", tables.parity(study)),
        ("Seconds to the loss, by link", tables.links(groups)),
        ("Workers at their own pace", tables.staleness(groups)),
        ("Partitions of a batch", tables.partitions(groups)),
    ):
        if rows:
            parts.append(f"**{caption}**\n\n{markdown(head, rows)}")
    head, rows = reasons.table(study)
    if rows:
        caption = (
            f"More than {100 * reasons.FAR:.0f} % worse than plain all-reduce; with less of a likely cause"
        )
        parts.append(f"**{caption}**\n\n{markdown(head, rows)}")
    parts += tables.bounds(groups)
    return "\n\n".join(parts) + "\n"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [[name.removesuffix(",") for name in head], ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Run what is not finished, print the page, and with ``--page`` write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    parser.add_argument("--corpus", help="a prepared corpus, or what prepare takes")
    parser.add_argument("--study", nargs="+", choices=known, default=known[::-1])
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--budget", type=float, help="minutes; what is left is for the next time")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--docs", type=Path, help="docs/sync: write the rows into the strategies' pages")
    parser.add_argument("--quick", action="store_true", help="whether it works, not what comes out")
    asked = parser.parse_args()
    corpus = corpus_in(asked.out, SYNTHETIC if asked.corpus is None else asked.corpus)
    budget = Budget(asked.budget)
    try:
        found = {name: run(name, corpus, asked.out, asked.quick, budget) for name in asked.study}
    except HocketError as error:
        print(f"strategies: {error}", file=sys.stderr)
        return error.exit_code
    head = (
        "# Ways for workers to agree, side by side\n\n"
        f"- date: {datetime.date.today().isoformat()}\n"
        f"- command: `python benchmarks/long/strategies.py {' '.join(sys.argv[1:])}`\n"
        f"- corpus: {corpus.name}; recipe: recipes/an4-study.yaml; one thread a worker\n"
        f"- machine: {machine()}\n"
    )
    text = "\n".join([head, *(part for part, _ in found.values())])
    sys.stdout.write(text)
    if asked.page is not None:
        asked.page.write_text(text, encoding="utf-8")
    study = found["strategies"][1] if "strategies" in found else None
    if asked.docs is not None and asked.page is not None and study is not None:
        measured_rows.fill(asked.docs, study, asked.page)
    return 0


def machine() -> str:
    """Processor, cores, versions."""
    return ", ".join(f"{name} {value}" for name, value in describe().items() if value)


if __name__ == "__main__":
    sys.exit(main())

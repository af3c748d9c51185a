"""The measured rows of each strategy, in its page of documentation: what is between two marks is replaced."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hocket.comms.links import LOOPBACK
from hocket.core import files
from hocket.core.errors import UsageError
from hocket.reports.axes import number
from hocket.reports.scale import Study
from hocket.reports.scale.groups import Group, groups_of
from hocket.reports.scale.pictures import in_bytes

MARKS = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.DOTALL)
PARTITION = "by_cost"
PAGES: dict[str, Callable[[str, dict[str, Any]], bool]] = {
    "all-reduce.md": lambda name, given: name == "all_reduce" and "compression" not in given,
    "compression.md": lambda name, given: name == "all_reduce" and "compression" in given,
    "local-sgd.md": lambda name, _: name == "local_sgd",
    "server.md": lambda name, _: name == "server",
    "gossip.md": lambda name, _: name == "gossip",
    "hogwild.md": lambda name, _: name == "hogwild",
}


def fill(folder: Path, study: Study, results: Path) -> None:
    """Write the rows into every page of ``folder`` that the study has some for.

    ``results`` is the page that they are taken from.
    """
    groups = groups_of(study)
    for name, belongs in PAGES.items():
        path = folder / name
        own = [each for each in groups if _is_shown(each, belongs)]
        if not own:
            continue
        text, count = MARKS.subn(
            lambda found, own=own, path=path: found[1] + _table(own, groups, study, results, path) + found[2],
            path.read_text(),
        )
        if count != 1:
            raise UsageError(
                f"{path}: {count} places for measured rows, not one", f"Mark it: {MARKS.pattern}"
            )
        files.write_text(path, text)


def _is_shown(group: Group, belongs: Callable[[str, dict[str, Any]], bool]) -> bool:
    cell = group.cells[0][0]
    here = (group.link, group.partition, group.scaling) == (LOOPBACK, PARTITION, "strong")
    return here and group.workers > 1 and belongs(cell.strategy, cell.settings)


def _table(own: list[Group], groups: list[Group], study: Study, results: Path, page: Path) -> str:
    links = list(dict.fromkeys(each.link for each in groups if each.workers > 1))
    parameters = f"{groups[0].details.run.num_parameters / 1e6:.2g} M parameters"
    head = ["settings", "workers", "seeds", "WER, %", "95 %", "against plain all-reduce, %", "bytes a step"]
    head += ["steps a second", *(f"s to the loss, {link}" for link in links)]
    lines = [
        f"**Measured** on {study.corpus} with {parameters}, on {study.machine['cores']} cores "
        f"of {study.machine['cpu']}; beside all others, and what the loss is: "
        f"[results]({os.path.relpath(results, page.parent)}).",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(_row(each, groups, study, links) for each in own),
    ]
    return "\n".join(lines) + "\n"


def _row(group: Group, groups: list[Group], study: Study, links: list[str]) -> str:
    key = (group.label, group.workers, group.partition)
    found = next((each for each in study.parity if (each.label, each.workers, each.partition) == key), None)
    reached = []
    for link in links:
        there = next((e for e in groups if (e.label, e.workers, e.partition, e.link) == (*key, link)), None)
        seconds = None if there is None else there.reached()
        reached.append("" if there is None else "not reached" if seconds is None else f"{seconds:.0f}")
    words = ["", "", ""]
    if found is not None:
        words = [f"{100 * found.wer:.1f}", f"{100 * found.wer_low:.1f} to {100 * found.wer_high:.1f}", ""]
        if found.change is not None and found.change_low is not None and found.change_high is not None:
            low, high = 100 * found.change_low, 100 * found.change_high
            words[2] = f"{100 * found.change:+.1f} ({low:+.1f} to {high:+.1f})"
    cells = [group.label, str(group.workers), str(len(group.cells)), *words]
    cells += [in_bytes(group.mean(lambda cell: float(cell.bytes_per_step)) or 0.0)]
    cells += [number(group.mean(lambda cell: cell.steps_per_second) or 0.0), *reached]
    return f"| {' | '.join(cells)} |"

"""Why a strategy costs words: the same strategy with less of what may be the cause (reasons.yaml)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hocket.reports.scale import Study
from hocket.reports.scale.facts import Parity
from hocket.reports.scale.groups import groups_of
from hocket.studies.scale import StudySettings
from hocket.studies.scale.settings import GridSettings, StrategySettings, strategy_of

FILE = Path(__file__).parents[1] / "long" / "reasons.yaml"
FAR = 0.10
WORKERS, PARTITION = 2, "by_cost"


def settings(text: str) -> StrategySettings:
    """A strategy as flags and studies write it."""
    return StrategySettings.model_validate({"sync": strategy_of(text)})


def known() -> dict[str, dict[str, Any]]:
    """By the label of a strategy: ``why`` it may be worse, and ``less``, the strategy with less of that."""
    return {
        settings(each["strategy"]).label: {**each, "less": settings(each["less"])}
        for each in yaml.safe_load(FILE.read_text())
    }


def asked_of(study: Study) -> list[StrategySettings]:
    """The strategies to run in addition, for those that are too far from plain all-reduce."""
    return [known()[each.label]["less"] for each in _far(study)]


def with_less(study: StudySettings, more: Sequence[StrategySettings]) -> StudySettings:
    """The study, and these strategies at two workers with as many seeds as the others have there."""
    seeds = study.grids[0].seeds
    grid = GridSettings(strategies=tuple(more), workers=(WORKERS,), seeds=seeds)
    return study.model_copy(update={"grids": (*study.grids, grid)})


def table(study: Study) -> tuple[list[str], list[list[str]]]:
    """What each lost, what was assumed, and what came of less of it."""
    head = ["strategy", "WER against plain, %", "loss over plain's", "assumed cause"]
    head += ["with less of it", "WER against plain, %", "loss over plain's", "was it the cause?"]
    of_label = {each.label: each for each in study.parity if _here(each)}
    rows = []
    for far in _far(study):
        cause = known()[far.label]
        less = of_label.get(cause["less"].label)
        row = [far.label, _change(far), _loss(study, far.label), cause["why"], cause["less"].label]
        if less is None or less.change is None or far.change is None:
            rows.append([*row, "not run", "", ""])
            continue
        share = (far.change - less.change) / far.change
        verdict = "yes" if less.change <= FAR else "no" if share < 0.25 else f"{100 * share:.0f} % of it"
        rows.append([*row, _change(less), _loss(study, less.label), verdict])
    return head, rows


def _far(study: Study) -> list[Parity]:
    causes = known()
    return [
        each
        for each in study.parity
        if _here(each) and each.label in causes and each.change is not None and each.change > FAR
    ]


def _here(each: Parity) -> bool:
    return each.workers == WORKERS and each.partition == PARTITION


def _change(each: Parity) -> str:
    assert each.change is not None and each.change_low is not None and each.change_high is not None
    low, high = 100 * each.change_low, 100 * each.change_high
    return f"{100 * each.change:+.1f} ({low:+.1f} to {high:+.1f})"


def _loss(study: Study, label: str) -> str:
    """Training loss at the end over that of plain all-reduce, means over seeds."""
    here = [
        each
        for each in groups_of(study)
        if (each.workers, each.partition, each.link) == (WORKERS, PARTITION, "loopback")
    ]
    own = next((each.mean(lambda cell: cell.loss) for each in here if each.label == label), None)
    plain = next((each.mean(lambda cell: cell.loss) for each in here if each.is_plain), None)
    return "" if own is None or not plain else f"{own / plain:.3f}"

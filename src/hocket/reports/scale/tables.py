"""The tables of a study: all cells, time to the loss over links, staleness, partitions, parity."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hocket.comms.links import LOOPBACK, Link
from hocket.reports.axes import number, percent
from hocket.reports.scale.facts import Parity, Study
from hocket.reports.scale.groups import Group
from hocket.reports.scale.pictures import in_bytes

NOTHING = "–"
Rows = list[list[str]]
_PLACES = ("workers,", "link", "partition", "scaling")


def table(caption: str, head: Sequence[str], rows: Rows) -> str:
    """A table that a phone scrolls sideways; columns with a comma in their name hold numbers.

    A column that places cells (link, partition, ...) and says the same in all rows is left out.
    """
    if not rows:
        return ""
    shown = [
        place
        for place, name in enumerate(head)
        if name not in _PLACES or len({row[place] for row in rows}) > 1
    ]
    names = [head[place] for place in shown]
    cells = "".join(f'<th class="{_class(name)}">{escape(name.removesuffix(","))}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td class="{_class(head[n])}">{escape(row[n])}</td>' for n in shown) + "</tr>"
        for row in rows
    )
    whole = f"<caption>{escape(caption)}</caption><tr>{cells}</tr>{body}"
    return f'<div class="wide"><table>{whole}</table></div>'


def _class(name: str) -> str:
    return "num" if "," in name else "text"


def overview(groups: Sequence[Group]) -> tuple[list[str], Rows]:
    """Every group of seeds as a row."""
    head = [
        *("strategy", "workers,", "link", "partition", "scaling", "seeds"),
        *("WER, %", "loss, nats", "steps a second,", "speed-up,", "efficiency, %"),
        *("bytes a step,", "to the loss, s", "training, s"),
    ]
    rows = [
        [
            *(each.label, str(each.workers), each.link, each.partition, each.scaling, each.seeds),
            _said(each.mean(lambda cell: cell.wer), lambda value: f"{100 * value:.1f}"),
            _said(each.mean(lambda cell: cell.loss), lambda value: f"{value:.3f}"),
            _said(each.mean(lambda cell: cell.steps_per_second)),
            _said(each.mean(lambda cell: cell.speedup), lambda value: f"{value:.2f}"),
            _said(each.mean(lambda cell: cell.scaling_efficiency), lambda value: f"{100 * value:.0f}"),
            in_bytes(each.mean(lambda cell: float(cell.bytes_per_step)) or 0.0),
            _said(each.reached(), lambda value: f"{value:.1f}"),
            _said(each.mean(lambda cell: cell.wall_seconds), lambda value: f"{value:.1f}"),
        ]
        for each in groups
    ]
    return head, rows


def links(groups: Sequence[Group]) -> tuple[list[str], Rows]:
    """Seconds to the loss on every link, and how much sooner than plain all-reduce there."""
    chosen = [each for each in groups if each.workers > 1 and each.scaling == "strong"]
    names = list(dict.fromkeys(each.link for each in chosen))
    if not any(name != LOOPBACK for name in names):
        return [], []
    by_place = {(each.label, each.workers, each.partition, each.link): each for each in chosen}
    head = ["strategy", "workers,"]
    for name in names:
        head += [f"{name}, s", "times sooner,"]
    rows = []
    for label, workers, partition in dict.fromkeys(key[:3] for key in by_place):
        here = [by_place.get((label, workers, partition, name)) for name in names]
        if sum(each is not None for each in here) < min(2, len(names)):
            continue
        row = [label, str(workers)]
        for name, each in zip(names, here, strict=True):
            own = None if each is None else each.reached()
            plain = _plain_reached(chosen, workers, partition, name)
            row.append("not reached" if each is not None and own is None else _said(own))
            row.append(_said(plain / own if own and plain else None, lambda value: f"{value:.2f}"))
        rows.append(row)
    return head, rows


def _plain_reached(groups: Sequence[Group], workers: int, partition: str, link: str) -> float | None:
    found = (
        each.reached()
        for each in groups
        if each.is_plain and (each.workers, each.partition, each.link) == (workers, partition, link)
    )
    return next(found, None)


def bounds(groups: Sequence[Group]) -> list[str]:
    """What a link allows at best: the time of plain all-reduce's bytes over the time of computing."""
    said = []
    for each in groups:
        if not each.is_plain or each.link == LOOPBACK or each.scaling != "strong":
            continue
        steps = each.details.run.num_steps
        by_rank = each.seconds_by_rank()
        computing = sum(rank["compute"] + rank["data"] for rank in by_rank) / len(by_rank) / steps
        sent = each.mean(lambda cell: float(cell.bytes_per_step)) or 0.0
        sending = 8 * sent / Link.parse(each.link).bits_per_second
        if computing > 0:
            said.append(
                f"{each.link}, {each.workers} workers: plain all-reduce sends {in_bytes(sent)} a step, which "
                f"takes {number(sending)} s at the link's rate, and computes {number(computing)} s: "
                f"communication over compute is {sending / computing:.2f}, so no way of sending less can "
                f"be more than {1 + sending / computing:.2f} times as fast a step."
            )
    return said


def staleness(groups: Sequence[Group]) -> tuple[list[str], Rows]:
    """How old weights were when a gradient was added, where workers go at their own pace."""
    head = ["strategy", "workers,", "link", "staleness, updates", "largest, updates", "shares of the work, %"]
    rows = []
    for each in groups:
        told = [details for _, details in each.cells if details.run.staleness_mean is not None]
        if told:
            mean = sum(details.run.staleness_mean or 0.0 for details in told) / len(told)
            most = max(details.run.staleness_max or 0 for details in told)
            shares = ", ".join(f"{100 * share:.0f}" for share in told[0].run.shares)
            rows.append([each.label, str(each.workers), each.link, f"{mean:.2f}", str(most), shares])
    return head, rows


def partitions(groups: Sequence[Group]) -> tuple[list[str], Rows]:
    """What each partition costs in padding, imbalance and words."""
    chosen = [
        each for each in groups if each.scaling == "strong" and each.link == LOOPBACK and each.workers > 1
    ]
    several = {
        (each.label, each.workers)
        for each in chosen
        if len(
            {
                other.partition
                for other in chosen
                if (other.label, other.workers) == (each.label, each.workers)
            }
        )
        > 1
    }
    head = [
        *("strategy", "workers,", "partition", "seeds", "padding, %", "slowest rank over mean, predicted"),
        *("computing of the slowest over mean,", "WER, %", "loss, nats", "steps a second,"),
    ]
    rows = [
        [
            *(each.label, str(each.workers), each.partition, each.seeds),
            f"{100 * each.details.run.padding:.1f}",
            _said(each.details.run.imbalance, lambda value: f"{value:.3f}"),
            f"{_slowest(each):.3f}",
            _said(each.mean(lambda cell: cell.wer), lambda value: f"{100 * value:.1f}"),
            _said(each.mean(lambda cell: cell.loss), lambda value: f"{value:.3f}"),
            _said(each.mean(lambda cell: cell.steps_per_second)),
        ]
        for each in chosen
        if (each.label, each.workers) in several
    ]
    return head, rows


def _slowest(group: Group) -> float:
    """Seconds that the rank with most of them computed, over the mean of all."""
    computing = [rank["compute"] for rank in group.seconds_by_rank()]
    return max(computing) * len(computing) / max(sum(computing), 1e-9)


def parity(study: Study) -> tuple[list[str], Rows]:
    """WER over seeds with intervals."""
    head = [
        "strategy",
        "workers,",
        "partition",
        "seeds,",
        "WER, %",
        "95 % interval, %",
        "against plain all-reduce, %",
    ]
    rows = [
        [
            *(each.label, str(each.workers), each.partition, str(len(each.seeds))),
            f"{100 * each.wer:.1f}",
            f"{100 * each.wer_low:.1f} to {100 * each.wer_high:.1f}",
            _change(each),
        ]
        for each in study.parity
    ]
    return head, rows


def _change(found: Parity) -> str:
    if found.change is None or found.change_low is None or found.change_high is None:
        return NOTHING
    return f"{100 * found.change:+.1f} ({100 * found.change_low:+.1f} to {100 * found.change_high:+.1f})"


def _said(value: float | None, say: object = number) -> str:
    assert callable(say)
    return NOTHING if value is None else str(say(value))


def summary(study: Study) -> str:
    """One line under the title."""
    done = len(study.cells)
    whole = "" if done == study.num_planned else f" of {study.num_planned:,}"
    scored = [cell.wer for cell, _ in study.cells if cell.wer is not None]
    best = f", WER {percent(min(scored))} to {percent(max(scored))} on {study.split}" if scored else ""
    return f"{done:,}{whole} cells on {study.corpus}{best}"

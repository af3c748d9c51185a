"""Sections of the result page: what was found, as tables and a picture."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balancing import millions
from balancing.lengths import Lengths
from balancing.measured import MORE_ROUNDS, ROUNDS, Measured, measure
from balancing.page import picture, table
from balancing.ways import Epoch, Ours, Theirs
from hocket.parallel.precision import Precision
from hocket.reports.svg import Series

INTRODUCTION = """*Useful* is the share of the ranks' time that goes to speech: what padding and
waiting leave. *Partial steps*: the worst of the steps in which not every rank had all its batches;
hocket has none. *Dropped*: utterances of an epoch that no rank gets (lhotse with `drop_last`;
without it, steps of fewer utterances end the epoch). *µs*: for one rank to find a batch. lhotse's
grid: 10, 30 and 100 buckets; `quadratic_duration` 30, also with `sync_buckets=False`;
`drop_last=False`; a buffer of 5,000; `max_cuts` 64; for speechocean762 batches of 54 s and of 6.75
s. *Best* is what leaves most time useful.
"""


@dataclass(frozen=True)
class Case:
    """A corpus, and how it is cut."""

    name: str
    lengths: Lengths
    ours: Ours
    hardest: tuple[Ours, ...]
    """Other settings, with up to one rank for each micro-batch of a step."""
    theirs: tuple[Theirs, ...]
    """Settings of lhotse's sampler; the first is the reference."""
    epochs: int
    """Epochs of ours; of lhotse's one."""


@dataclass(frozen=True)
class Answer:
    """What a case came to; ``theirs`` by degree, one for each row of the grid."""

    ours: list[Epoch]
    unrounded: list[Epoch]
    """``ours`` with ``frame_multiple: 1``: lhotse does not round either."""
    odd: list[Epoch]
    hardest: list[list[Epoch]]
    theirs: dict[int, list[Epoch]]


def best(rows: list[Epoch]) -> int:
    """The setting that leaves most of the ranks' time for speech."""
    return max(
        range(len(rows)), key=lambda number: rows[number].useful if rows[number].slowest_over_mean else 0.0
    )


def _row(degree: int, way: str, epoch: Epoch, lost: str) -> list[str]:
    return [
        str(degree),
        way,
        f"{100 * epoch.padding:.2f} %",
        f"{epoch.mean:.4f}",
        f"{epoch.p95:.4f}",
        f"{max(epoch.partial):.3f}" if epoch.partial else "none",
        f"{100 * epoch.useful:.1f} %",
        lost,
        f"{1e6 * epoch.seconds / max(1, epoch.num_batches):.0f}",
    ]


def section(case: Case, answer: Answer) -> list[str]:
    """The tables of a case."""
    count, o = len(case.lengths), case.ours
    lines = [
        f"## {case.name}",
        "",
        f"{count:,} utterances, {case.lengths.seconds / 3600:.2f} h. Micro-batches of "
        f"{o.micro_batch_seconds:g} s, {o.micro_batches_per_step} a step, `pool_steps: {o.pool_steps}`, "
        f"`frame_multiple: {o.frame_multiple}`.",
        "",
    ]
    head = [
        "ranks",
        "way",
        "padding",
        "slowest/mean",
        "95th percentile",
        "partial steps",
        "useful",
        "dropped",
        "µs",
    ]
    rows = []
    for epoch, unrounded in zip(answer.ours, answer.unrounded, strict=True):
        rows.append(_row(epoch.degree, "**hocket**", epoch, "0"))
        rows.append(_row(epoch.degree, "hocket, `frame_multiple: 1`", unrounded, "0"))
        theirs = answer.theirs.get(epoch.degree, [])
        if theirs:
            chosen = best(theirs)
            for number in dict.fromkeys((0, chosen)):
                if theirs[number].slowest_over_mean:
                    name = str(case.theirs[number]) + (" (best)" if number == chosen else "")
                    dropped = f"{max(0, count - theirs[number].num_utterances):,}"
                    rows.append(_row(epoch.degree, name, theirs[number], dropped))
    lines += [*table(head, rows), ""]
    if answer.odd:
        lines += ["Degrees that do not divide the micro-batches of a step:", ""]
        rows = []
        for epoch in answer.odd:
            bound = (
                math.ceil(o.micro_batches_per_step / epoch.degree) * epoch.degree / o.micro_batches_per_step
            )
            rows.append(
                [
                    str(epoch.degree),
                    f"{bound:.4f}",
                    f"{epoch.mean:.4f}",
                    f"{100 * (epoch.mean / bound - 1):+.2f} %",
                ]
            )
        lines += [*table(["ranks", "bound ceil(M/N)·N/M", "slowest/mean", "above the bound"], rows), ""]
    lines += ["Other settings, at their largest degrees:", ""]
    rows = []
    for settings, epochs in zip(case.hardest, answer.hardest, strict=True):
        for epoch in epochs[-3:]:
            per_slot = count / -(-count // _pool(case, settings)) / settings.micro_batches_per_step
            rows.append(
                [
                    f"{settings.micro_batches_per_step} of {settings.micro_batch_seconds:g} s, "
                    f"pool_steps {settings.pool_steps}",
                    f"{per_slot:.0f}",
                    str(epoch.degree),
                    f"{100 * epoch.padding:.2f} %",
                    f"{epoch.mean:.4f}",
                    f"{epoch.p95:.4f}",
                ]
            )
    head = [
        "micro-batches",
        "utterances of a pool / M",
        "ranks",
        "padding",
        "slowest/mean",
        "95th percentile",
    ]
    return [*lines, *table(head, rows), ""]


def _pool(case: Case, settings: Ours) -> int:
    """Utterances of a pool."""
    steps = max(1, round(case.lengths.seconds / settings.step_seconds))
    return math.ceil(len(case.lengths) / max(1, steps // settings.pool_steps))


def measured_section(corpora: list[Case], num_steps: int) -> list[str]:
    """Real times."""
    found = []
    for case in corpora:
        ours = measured_settings(case)
        degrees = [degree for degree in (2, 4, 8) if ours.micro_batches_per_step % degree == 0]
        for precision in PRECISIONS:
            for one in measure(case.lengths, ours, degrees, num_steps, precision):
                found.append((case.name, one))
    return measured_table(found, num_steps)


PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")


def measured_settings(case: Case) -> Ours:
    """The case's own where a step is small enough to be timed, else eight micro-batches of 25 s."""
    if case.ours.micro_batches_per_step <= 8:
        return case.ours
    return next((one for one in case.hardest if one.micro_batches_per_step <= 8), Ours(25.0, 8, 100))


def measured_table(found: list[tuple[str, Measured]], num_steps: int) -> list[str]:
    """What :func:`measure` found."""
    rows = [
        [
            name,
            one.precision,
            str(one.degree),
            f"{np.mean(one.predicted):.4f}",
            *(
                f"{np.mean(ratios[n]):.3f}"
                for n in (ROUNDS, MORE_ROUNDS)
                for ratios in (one.measured, one.noise)
            ),
            f"{np.quantile(one.off, 0.05) / np.median(one.off):.2f} to "
            f"{np.quantile(one.off, 0.95) / np.median(one.off):.2f}",
        ]
        for name, one in found
    ]
    head = ["corpus", "precision", "ranks", "predicted", f"measured, of {ROUNDS}", f"noise, of {ROUNDS}"]
    head += [f"measured, of {MORE_ROUNDS}", f"noise, of {MORE_ROUNDS}", "measured/predicted"]
    return [
        "## Measured cost",
        "",
        "Forward, loss and backward of the tiny preset on one thread; cut by a fitted cost "
        f"(`batch.cost: measured`). A micro-batch counts with the least processor time of {ROUNDS} or of "
        f"{MORE_ROUNDS} rounds after a warm-up; {num_steps} steps of an epoch; slowest over mean rank, in "
        "the mean. *Noise*: one micro-batch, measured anew each time, in the place of all of a step. "
        "*Measured/predicted*: of micro-batches, over its median, 5th to 95th percentile.",
        "",
        *table(head, rows),
        "",
    ]


def millions_section(count: int) -> list[str]:
    """A very large corpus."""
    with tempfile.TemporaryDirectory() as folder:
        found = millions.run(Path(folder), count, [{}, {"seconds": 6400, "micro_batches_per_step": 128}])
    rows = [
        [
            settings,
            {"first": "first batch", "middle": "in mid-epoch (a resume)"}[step],
            f"{one['seconds']:.3f} s",
            f"{one['resident_mb']:.0f} MB",
            f"{one['own_mb']:.0f} MB",
            f"{one['peak_mb']:.0f} MB",
            f"{one['elsewhere_seconds']:.3f} s",
        ]
        for settings, step, one in found
    ]
    head = ["batch", "a fresh process, to the", "plan and batch", "resident", "of it its own", "peak"]
    head.append("then one of another epoch")
    return [
        f"## {count:,} utterances",
        "",
        "Log-normal durations, columns mapped from files. Memory above what the process "
        "had after its imports; what is resident but not its own are pages of the files.",
        "",
        *table(head, rows),
        "",
    ]


def draw(answers: list[tuple[Case, Answer]]) -> str:
    """Lost time by degree: what padding and waiting leave of the ranks' time, the rest."""
    charts = []
    for case, answer in answers:
        if not answer.theirs:
            continue
        degrees = [epoch.degree for epoch in answer.ours]
        best_of = [answer.theirs[degree][best(answer.theirs[degree])] for degree in degrees]

        def lost(epochs: list[Epoch]) -> list[float]:
            return [100 * (1 - epoch.useful) for epoch in epochs]

        reference = [answer.theirs[degree][0] for degree in degrees]
        lines = [
            Series("hocket", degrees, lost(answer.ours), "line-a", markers=True),
            Series("not rounded", degrees, lost(answer.unrounded), "line-c", markers=True),
            Series("lhotse, 30 buckets", degrees, lost(reference), "line-b", markers=True),
            Series("lhotse, best of the grid", degrees, lost(best_of), "line-faint", markers=True),
        ]
        charts.append((case.name, "% of the ranks' time lost to padding and waiting", lines))
    return picture(charts, "ranks")

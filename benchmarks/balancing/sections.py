"""Sections of the result page: what was found, as tables and a picture."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balancing import millions
from balancing.lengths import Lengths
from balancing.measured import ROUNDS, measure
from balancing.page import picture, table
from balancing.ways import Epoch, Ours, Theirs
from hocket.reports.svg import Series


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
    """Epochs of ours; lhotse's one is long enough or says so by its spread."""


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
    rows = []
    for case in corpora:
        ours = case.ours if case.ours.micro_batches_per_step <= 8 else Ours(25.0, 8, 100)
        degrees = [degree for degree in (2, 4, 8) if ours.micro_batches_per_step % degree == 0]
        for precision in ("bf16", "fp32"):
            for one in measure(case.lengths, ours, degrees, num_steps, precision):
                rows.append(
                    [
                        case.name,
                        precision,
                        str(one.degree),
                        f"{np.mean(one.predicted):.4f}",
                        f"{np.mean(one.measured):.4f}",
                        f"{np.mean(one.noise):.4f}",
                        f"{np.quantile(one.off, 0.05) / np.median(one.off):.3f} to "
                        f"{np.quantile(one.off, 0.95) / np.median(one.off):.3f}",
                    ]
                )
    head = [
        "corpus",
        "precision",
        "ranks",
        "predicted",
        "measured",
        "noise alone",
        "measured/predicted (5 to 95 %)",
    ]
    return [
        "## Measured cost",
        "",
        "Forward, loss and backward of the tiny preset on one thread; cut by a fitted cost "
        f"(`batch.cost: measured`). A micro-batch counts with the least processor time of {ROUNDS} rounds; "
        f"{num_steps} steps of an epoch; slowest over mean rank, in the mean. *Noise alone*: one micro-batch "
        "in the place of all of a step.",
        "",
        *table(head, rows),
        "",
    ]


def millions_section(count: int) -> list[str]:
    """A very large corpus."""
    with tempfile.TemporaryDirectory() as folder:
        found = millions.run(Path(folder), count)
    rows = [
        [
            {"0": "first batch", "middle": "in mid-epoch (a resume)"}[step],
            f"{one['seconds']:.3f} s",
            f"{one['resident_mb']:.0f} MB",
            f"{one['own_mb']:.0f} MB",
            f"{one['peak_mb']:.0f} MB",
            f"{one['elsewhere_seconds']:.3f} s",
        ]
        for step, one in found.items()
    ]
    head = [
        "a fresh process, to the",
        "plan and batch",
        "resident",
        "of it its own",
        "peak",
        "then one of another epoch",
    ]
    return [
        f"## {count:,} utterances",
        "",
        "Log-normal durations, columns mapped from files, default batch settings. Memory above what the "
        "process had after its imports; what is resident but not its own are pages of the files.",
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

        lines = [
            Series("hocket", degrees, lost(answer.ours), "line-a", markers=True),
            Series(
                "lhotse, 30 buckets",
                degrees,
                lost([answer.theirs[d][0] for d in degrees]),
                "line-b",
                markers=True,
            ),
            Series("lhotse, best of the grid", degrees, lost(best_of), "line-faint", markers=True),
        ]
        charts.append((case.name, "% of the ranks' time lost to padding and waiting", lines))
    return picture(charts, "ranks")

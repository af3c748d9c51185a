"""The page of results."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import accelerate
import torch
import transformers
from corpus import Part
from sides import MAX_GRAD_NORM, PROCESSES, Case, Result

from hocket.hardware.device import describe
from hocket.model import workload


@dataclass(frozen=True)
class Row:
    """All trainings of a case, in pairs."""

    case: Case
    tuned: dict[int, float]
    """The peer's audio seconds a second by loader workers."""
    loader_workers: int
    ours: Sequence[Result]
    theirs: Sequence[Result]
    matrix_rate: float
    """Of all processes together."""


def write(rows: Sequence[Row], part: Part, corpus: str, words: Sequence[str], epoch_steps: int) -> str:
    """The whole page."""
    case, machine = rows[0].case, describe()
    lines = [
        "# Training beside transformers' Trainer, two processes of one thread",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/trainer_peer {' '.join(words)}`",
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {machine['cpu_capability']}",
        f"- versions: Python {machine['python']}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, accelerate {accelerate.__version__}",
        f"- corpus: {part.num_utterances} utterances of {corpus}, {part.seconds / part.num_utterances:.2f} s "
        f"in the mean, {part.vocab_size} tokens; an epoch is {epoch_steps} steps",
        f"- a step: {case.utterances * PROCESSES} utterances, "
        f"{part.seconds / part.num_utterances * case.utterances * PROCESSES:.0f} s of audio in the mean; "
        f"fused AdamW, gradients clipped at {MAX_GRAD_NORM:g}; no augmentation; dropout 0.1 after the "
        "subsampling and in the feed-forward, none elsewhere",
        f"- steady state: after {case.warmup} steps; audio without padding; medians over {len(rows[0].ours)} "
        "pairs, the ratio with its least and largest",
        "",
        "| preset | parameters | precision | steps | hocket, audio s/s | Trainer, audio s/s | ratio |",
        "|---|---|---|---|---|---|---|",
        *(_speed(row) for row in rows),
        "",
        "The ceiling: operations of matrix products and convolutions (padding computed, too), as a share of "
        "what plain products reach on as many processes at once.",
        "",
        "| preset | precision | matrix rate, GFLOP/s | hocket | Trainer | padding of hocket | of Trainer |",
        "|---|---|---|---|---|---|---|",
        *(_ceiling(row) for row in rows),
        "",
        "The loss in nats a token, dropout on, in the mean over an epoch of the same utterances, first pair.",
        "",
        "| preset | precision | steps | hocket | Trainer |",
        "|---|---|---|---|---|",
        *(line for row in rows for line in _losses(row, epoch_steps)),
        "",
        "Beside the steady state: seconds from the command to the end of the first step; and what Trainer "
        "reached with so many loader workers, of which it got the best.",
        "",
        "| preset | precision | start of hocket, s | of Trainer, s | Trainer by loader workers, audio s/s |",
        "|---|---|---|---|---|",
        *(_rest(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _speed(row: Row) -> str:
    ratios = [a.speed / b.speed for a, b in zip(row.ours, row.theirs, strict=True)]
    count = sum(part.num_parameters for part in workload.parts(row.ours[0].config))
    return (
        f"| {row.case.preset} | {count / 1e6:.1f} M | {row.case.precision} | {row.case.steps} "
        f"| {_median(row.ours, lambda r: r.speed):.1f} | {_median(row.theirs, lambda r: r.speed):.1f} "
        f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


def _ceiling(row: Row) -> str:
    ours, theirs = (_median(side, lambda r: r.flops) / row.matrix_rate for side in (row.ours, row.theirs))
    return (
        f"| {row.case.preset} | {row.case.precision} | {row.matrix_rate / 1e9:.0f} "
        f"| {ours:.0%} | {theirs:.0%} "
        f"| {_median(row.ours, lambda r: r.padding):.1%} | {_median(row.theirs, lambda r: r.padding):.1%} |"
    )


def _losses(row: Row, over: int) -> list[str]:
    ours, theirs = row.ours[0], row.theirs[0]
    marks = range(over, row.case.steps + 1, over)
    return [
        f"| {row.case.preset} | {row.case.precision} | {upto - over + 1} to {upto} "
        f"| {ours.loss(upto, over):.3f} | {theirs.loss(upto, over):.3f} |"
        for upto in marks
    ]


def _rest(row: Row) -> str:
    tuned = ", ".join(f"{count}: {speed:.1f}" for count, speed in row.tuned.items())
    return (
        f"| {row.case.preset} | {row.case.precision} | {_median(row.ours, lambda r: r.startup):.1f} "
        f"| {_median(row.theirs, lambda r: r.startup):.1f} | {tuned} |"
    )


def _median(results: Sequence[Result], of: Callable[[Result], float]) -> float:
    return statistics.median(of(result) for result in results)

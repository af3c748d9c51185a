"""Recognition as a job: many utterances, many worker processes, one file of hypotheses.

The plan (which utterances share a micro-batch) comes from the input and the settings alone; workers
only decide who computes what, and when. So the transcripts are the same for any number of workers,
and after the loss of some.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hocket.core import clock
from hocket.core.errors import RunError, UsageError
from hocket.hardware.device import choose_device
from hocket.recognition import hypotheses, inputs, opening, published
from hocket.recognition.coordinator import Coordinator, Endurance, Outcome
from hocket.recognition.hypotheses import Failure, Hypothesis
from hocket.recognition.messages import Start
from hocket.recognition.opening import check_precision
from hocket.recognition.plan import MAX_UTTERANCES, Plan, make_plan
from hocket.recognition.report import JobReport, Observer, WorkerReport
from hocket.recognition.search import SearchSettings


def recognize(
    model: str | Path,
    names: Sequence[str],
    out: Path,
    *,
    workers: int = 1,
    batch_seconds: float = 60.0,
    max_utterances: int = MAX_UTTERANCES,
    device: str = "auto",
    precision: str = "fp32",
    threads: int = 1,
    search: SearchSettings | None = None,
    endurance: Endurance | None = None,
    progress: Observer | None = None,
) -> JobReport:
    """Recognise all inputs (see :mod:`~hocket.recognition.inputs`) and write ``out``, in their order.

    ``batch_seconds`` of padded audio and ``max_utterances`` bound a micro-batch. What cannot be
    recognised is listed in ``<stem of out>.failed.jsonl`` beside ``out`` and never stops the rest.
    With one thread a transcript is the same, bit for bit of the arithmetic, for any ``workers``.

    Raises :class:`UsageError` for inputs, settings or a device that are not there, and whatever the
    model's store raises for a folder that is no model. On Ctrl-C no process is left and ``out`` is
    as it was.
    """
    began = clock.monotonic()
    if workers < 1 or threads < 1:
        raise UsageError(f"workers: {workers}, threads: {threads}: both start at 1")
    check_precision(precision)
    found = opening.find(model)
    name = (published.PREFIX if found.kind == "hf" else "") + str(found.folder.absolute())
    choose_device(device)
    plan = make_plan(inputs.collect(names), batch_seconds, max_utterances)
    cost = opening.cost(found)
    costs = [
        float(cost.micro_batch(len(part), int(plan.num_frames[part].max()))) for part in plan.micro_batches
    ]
    num_workers = min(workers, len(plan.micro_batches))

    def start(slot: int) -> Start:
        return Start(name, slot, device, precision, threads, search or SearchSettings())

    before = clock.monotonic() - began
    outcome = Coordinator(plan, start, num_workers, costs, endurance or Endurance(), progress).run()
    answers, failed = _answers(plan, outcome)
    hypotheses.write(out, answers, failed)
    wall_seconds = clock.monotonic() - began
    startup_seconds = 0.0 if outcome.first_ready is None else before + outcome.first_ready
    return _report(plan, outcome, num_workers, wall_seconds, startup_seconds, (device, precision), out)


def find_model(path: Path) -> Path:
    """The model folder of a run folder, or the path itself when it is a model folder.

    Raises :class:`RunError` when neither is there, or what is there was exported.
    """
    found = opening.find(path)
    if found.kind != "hocket":
        raise RunError(f"{path}: a model for another program", "Give the run that it was exported from.")
    return found.folder


def _answers(plan: Plan, outcome: Outcome) -> tuple[list[Hypothesis], list[Failure]]:
    """Every item once: in the list of hypotheses or in that of failures, in the order of the input."""
    found, failed = [], []
    for position, item in enumerate(plan.items):
        if (position in outcome.found) == (position in outcome.reasons):
            raise RuntimeError(f"{item.id} was answered twice or not at all")
        if position in outcome.found:
            transcript, seconds = outcome.found[position], round(plan.seconds(position), 4)
            found.append(Hypothesis.of(item.id, transcript, seconds, item.ref, item.speaker))
        else:
            failed.append(Failure(item.id, str(item.audio), outcome.reasons[position]))
    return found, failed


def _report(
    plan: Plan,
    outcome: Outcome,
    num_workers: int,
    wall_seconds: float,
    startup_seconds: float,
    how: tuple[str, str],
    out: Path,
) -> JobReport:
    audio_seconds = sum(plan.seconds(position) for position in outcome.found)
    return JobReport(
        num_utterances=len(outcome.found),
        num_failed=len(outcome.reasons),
        audio_seconds=audio_seconds,
        wall_seconds=wall_seconds,
        startup_seconds=startup_seconds,
        rtfx=audio_seconds / wall_seconds,
        rtfx_steady=audio_seconds / (wall_seconds - startup_seconds),
        workers=num_workers,
        num_micro_batches=len(plan.micro_batches),
        padding=plan.padding,
        imbalance=_imbalance(outcome.reports, num_workers),
        restarts=outcome.restarts,
        losses=tuple(outcome.losses),
        per_worker=tuple(sorted(outcome.reports, key=lambda report: (report.slot, report.pid))),
        device=how[0],
        precision=how[1],
        out=out,
        failed=hypotheses.failures_path(out) if outcome.reasons else None,
    )


def _imbalance(reports: Sequence[WorkerReport], num_workers: int) -> float:
    """Busy seconds of the busiest place over the mean of all places; 1 where nothing was done."""
    busy = [0.0] * num_workers
    for report in reports:
        busy[report.slot] += report.busy_seconds
    return max(busy) * num_workers / sum(busy) if sum(busy) > 0 else 1.0

"""Recognition as a job: many utterances, many worker processes, and files of hypotheses.

The plan (which pieces share a micro-batch) comes from the inputs and the settings alone; workers only
decide who computes what, and when. So the transcripts are the same for any number of workers, and
after the loss of some. What is finished is in a journal beside the first output: the same call again
goes on where the last one ended, however it ended, and computes nothing that is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hocket.core import clock
from hocket.core.errors import RunError, UsageError
from hocket.model import store
from hocket.recognition import fingerprint, inputs, journal, opening, outputs, tuning
from hocket.recognition.answers import Order, answers, check_order
from hocket.recognition.coordinator import Coordinator, Endurance, Outcome
from hocket.recognition.hosts import EngineName, open_hosts
from hocket.recognition.hypotheses import failures_path
from hocket.recognition.journal import Answer, Journal
from hocket.recognition.messages import Done, Start
from hocket.recognition.opening import Found
from hocket.recognition.plan import BATCH_SECONDS, MAX_UTTERANCES, Plan, make_plan
from hocket.recognition.report import JobReport, Observer, WorkerReport
from hocket.recognition.search import SearchSettings
from hocket.recognition.survey import SHORTEST_PIECES, survey

MAX_SECONDS = 30.0
"""Longest piece where the model does not know what it was trained on."""


def recognize(
    model: str | Path,
    names: Sequence[str],
    out: Path | Sequence[Path],
    *,
    workers: int | None = 1,
    batch_seconds: float | None = None,
    max_utterances: int = MAX_UTTERANCES,
    max_seconds: float | None = None,
    device: str = "auto",
    precision: str = "fp32",
    threads: int = 1,
    engine: EngineName = "processes",
    sp: int = 1,
    order: Order = "input",
    lenient: bool = False,
    fresh: bool = False,
    search: SearchSettings | None = None,
    endurance: Endurance | None = None,
    progress: Observer | None = None,
) -> JobReport:
    """Recognise all inputs (see :mod:`~hocket.recognition.inputs`) and write ``out``.

    ``out`` may be several files (see :mod:`~hocket.recognition.outputs`); the journal and the list of
    failures lie beside the first. ``workers`` None measures how many are best, and how large a
    micro-batch unless ``batch_seconds`` says so. ``batch_seconds`` of padded audio and
    ``max_utterances`` bound a micro-batch; audio longer than ``max_seconds`` (None: than the longest
    the model was trained on) is cut at silences. ``lenient`` lists names that lead nowhere as failed.
    ``sp`` processes are one worker, each with a part of the frames: for recordings whose activations are
    too much for one. ``fresh`` throws an old journal away. ``engine`` says where workers run (see
    :mod:`~hocket.recognition.hosts`). What cannot be recognised is listed in
    ``<stem of out>.failed.jsonl`` and never stops the rest. With one thread a transcript is the same,
    bit for bit of the arithmetic, for any ``workers``.

    Raises :class:`UsageError` for inputs, settings or a device that are not there, :class:`RunError`
    for a journal of another job or in use, and whatever the model's store raises for a folder that is
    no model. On Ctrl-C no process is left, ``out`` is as it was, and the journal has what was done.
    """
    began = clock.monotonic()
    outs = [out] if isinstance(out, Path) else list(out)
    if (workers is not None and workers < 1) or threads < 1:
        raise UsageError(f"workers: {workers}, threads: {threads}: both start at 1")
    check_order(order)
    outputs.check(outs)
    source = opening.find(model)
    opening.check(source, device, precision)
    opening.check_split(source, sp)
    items = inputs.collect(names, lenient)
    outputs.check(outs, len(items))
    outputs.make_folders(outs)
    earlier = {} if fresh else _settings(journal_path(outs[0]))
    longest = max_seconds or longest_piece(source)
    wanted = search or SearchSettings()
    timed = wanted.words or outputs.need_times(outs) or earlier.get("words") is True
    searched = replace(wanted, words=timed)
    with open_hosts(engine, "cpu" if source.kind == "onnx" else device, threads, sp) as hosts:

        def start(slot: int, number: int) -> Start:
            pinned, readers = hosts.pinned(slot, number, threads * sp), hosts.readers(number)
            return Start(str(source), slot, hosts.device, precision, threads, pinned, readers, searched, sp)

        found = survey(items, longest)
        size: float | None = earlier.get("batch_seconds") if batch_seconds is None else batch_seconds
        plan = make_plan(found, BATCH_SECONDS if size is None else size, max_utterances)
        tuned = None
        if workers is None and plan.micro_batches:
            tuned = tuning.choose(plan, start, size, hosts.most, hosts.launch)
            workers, size = tuned.workers, tuned.batch_seconds
            plan = make_plan(found, size, max_utterances)
        settings: dict[str, Any] = {
            "batch_seconds": BATCH_SECONDS if size is None else size,
            "max_utterances": max_utterances,
            "max_seconds": longest,
            "device": hosts.device,
            "precision": precision,
            "threads": threads,
            "words": timed,
            "search": searched.fingerprint(),
            **({"sp": sp} if sp > 1 else {}),
        }
        job = fingerprint.of_job(plan, found.sha256, source.folder, settings)
        costs = _costs(plan, source)
        with Journal(
            journal_path(outs[0]), job, len(plan.piece_item), len(plan.micro_batches), fresh
        ) as book:
            done_before = book.done.copy()
            num_workers = min(workers or 1, int((~done_before).sum()))
            before = clock.monotonic() - began
            outcome = Coordinator(
                *(plan, lambda slot: start(slot, num_workers), num_workers, costs, _recorder(plan, book)),
                *(endurance or Endurance(), progress, done_before),
                launch=hosts.launch,
            ).run()
            counts = outputs.write(outs, answers(plan, book, outcome.given_up, order))
    return _report(
        plan,
        outcome,
        counts,
        num_workers=num_workers,
        num_earlier=sum(len(plan.micro_batches[number]) for number in done_before.nonzero()[0].tolist()),
        wall_seconds=clock.monotonic() - began,
        startup_seconds=0.0 if outcome.first_ready is None else before + outcome.first_ready,
        settings=settings,
        tuned=tuned,
        outs=outs,
    )


def _costs(plan: Plan, source: Found) -> list[float]:
    """What each micro-batch costs, to hand out the largest first."""
    cost = opening.cost(source)
    parts = enumerate(plan.micro_batches)
    return [float(cost.micro_batch(len(part), plan.frames(number))) for number, part in parts]


def _recorder(plan: Plan, book: Journal) -> Callable[[Done], None]:
    """What puts an answer into the journal."""

    def record(done: Done) -> None:
        pieces = plan.micro_batches[done.number].tolist()
        rows = zip(pieces, done.transcripts, done.reasons, strict=True)
        book.add(done.number, [Answer(*row) for row in rows])

    return record


def journal_path(out: Path) -> Path:
    """Where the journal of a job is: ``hyps.jsonl.journal`` beside ``hyps.jsonl``."""
    return out.with_name(f"{out.name}.journal")


def find_model(path: Path) -> Path:
    """The model folder of a run folder, or the path itself when it is a model folder.

    Raises :class:`RunError` when neither is there, or what is there was exported.
    """
    found = opening.find(path)
    if found.kind != "hocket":
        raise RunError(f"{path}: a model for another program", "Give the run that it was exported from.")
    return found.folder


def longest_piece(model: Found) -> float:
    """Seconds of the longest audio that the model was trained on, where its folder tells."""
    told = (
        None
        if model.kind == "hf"
        else store.read_config(model.folder).get("extra", {}).get("longest_seconds")
    )
    return max(float(told), SHORTEST_PIECES) if isinstance(told, int | float) else MAX_SECONDS


def _settings(path: Path) -> dict[str, Any]:
    """The settings of the job whose journal is there already; empty where there is none."""
    settings = (journal.read_fingerprint(path) or {}).get("settings", {})
    return settings if isinstance(settings, dict) else {}


def _report(
    plan: Plan,
    outcome: Outcome,
    counts: tuple[int, int, float],
    *,
    num_workers: int,
    num_earlier: int,
    wall_seconds: float,
    startup_seconds: float,
    settings: Mapping[str, Any],
    tuned: tuning.Tuning | None,
    outs: Sequence[Path],
) -> JobReport:
    num_found, num_failed, audio_seconds = counts
    return JobReport(
        num_utterances=num_found,
        num_failed=num_failed,
        num_pieces=len(plan.piece_item) - len(plan.unreadable),
        num_earlier=num_earlier,
        audio_seconds=audio_seconds,
        wall_seconds=wall_seconds,
        startup_seconds=startup_seconds,
        rtfx=outcome.audio_seconds / wall_seconds,
        rtfx_steady=outcome.audio_seconds / (wall_seconds - startup_seconds),
        workers=num_workers,
        num_micro_batches=len(plan.micro_batches),
        padding=plan.padding,
        imbalance=_imbalance(outcome.reports, num_workers),
        restarts=outcome.restarts,
        losses=tuple(outcome.losses),
        per_worker=tuple(sorted(outcome.reports, key=lambda report: (report.slot, report.pid))),
        device=settings["device"],
        precision=settings["precision"],
        batch_seconds=settings["batch_seconds"],
        tuning=None if tuned is None else str(tuned),
        out=tuple(outs),
        journal=journal_path(outs[0]),
        failed=failures_path(outs[0]) if num_failed else None,
    )


def _imbalance(reports: Sequence[WorkerReport], num_workers: int) -> float:
    """Busy seconds of the busiest place over the mean of all places; 1 where nothing was done."""
    busy = [0.0] * num_workers
    for report in reports:
        busy[report.slot] += report.busy_seconds
    return max(busy) * num_workers / sum(busy) if sum(busy) > 0 else 1.0

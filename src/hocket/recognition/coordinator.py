"""The one that hands out micro-batches, takes answers, and replaces workers that are gone.

It never touches audio or the model. Everything it knows comes over its lines to the workers; a line
that ends is a worker that ended, however that came about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait

import numpy as np
import numpy.typing as npt

from hocket.core import clock
from hocket.core.errors import HocketError, WorkerLost
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.recognition.leases import LeaseBook
from hocket.recognition.messages import Begun, Crashed, Done, Ready, Refused, Start
from hocket.recognition.plan import Plan
from hocket.recognition.process import Worker, WorkerProcess
from hocket.recognition.report import JobProgress, Observer, WorkerReport, WorkerState

_STARTS = 3
"""Workers that may end before any has become ready: then the machine or the installation is at fault."""


@dataclass(frozen=True)
class Endurance:
    """How much goes wrong before it is given up."""

    startup_seconds: float = 600.0
    """A worker that is not ready by then is ended and replaced."""
    silence_seconds: float = 120.0
    """A worker that says nothing for this long, and for as long as the (padded) audio in its hand
    lasts, is ended and replaced."""
    max_deaths: int = 3
    """A micro-batch that this many workers died of is given up."""
    max_restarts: int = 20
    """Workers that are replaced in one job."""


@dataclass
class Outcome:
    """What came of a plan besides the answers, which were recorded one by one."""

    given_up: dict[int, str] = field(default_factory=dict)
    """Reasons of the pieces that nobody answered."""
    num_found: int = 0
    """Pieces with a transcript, of this run."""
    num_failed: int = 0
    """Pieces with a reason, of this run, and those given up."""
    audio_seconds: float = 0.0
    """Audio of the pieces with a transcript, of this run."""
    reports: list[WorkerReport] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    restarts: int = 0
    first_ready: float | None = None
    """Seconds until the first worker was ready."""


class _Worker:
    """A process and what it has done so far."""

    def __init__(self, process: Worker) -> None:
        self.process = process
        self.heard = process.started
        self.ready = False
        self.report = WorkerReport(process.slot, process.pid, *(0.0,) * 7, 0, 0, None)


class Coordinator:
    """Runs one plan on ``workers`` processes; see :meth:`run`.

    ``record`` gets each answer once, before it counts; the micro-batches in ``done`` are not run.
    """

    def __init__(
        self,
        plan: Plan,
        start: Callable[[int], Start],
        workers: int,
        costs: Sequence[float],
        record: Callable[[Done], None],
        endurance: Endurance,
        observe: Observer | None = None,
        done: npt.NDArray[np.bool_] | None = None,
        together: bool = False,
        launch: Callable[[Start], Worker] = WorkerProcess,
    ) -> None:
        self._plan, self._start, self._endurance, self._observe = plan, start, endurance, observe
        self._record, self._together, self._launch = record, together, launch
        earlier = set() if done is None else set(np.flatnonzero(done).tolist())
        self._book = LeaseBook(costs, endurance.max_deaths, earlier)
        self._num_workers = workers
        self._workers: dict[int, _Worker] = {}
        self._outcome = Outcome()
        self._began = clock.monotonic()
        self._num_earlier = sum(len(plan.micro_batches[number]) for number in earlier)
        self._seconds = float(plan.num_samples.sum()) / SAMPLE_RATE

    def run(self) -> Outcome:
        """Run to the end; no process is left, whatever happens.

        Raises :class:`WorkerLost` when no worker comes up, the :class:`HocketError` that a worker
        met in the model folder or the device, and :class:`RuntimeError` with the traceback of a
        worker's programming error.
        """
        finished = False
        try:
            for slot in range(min(self._num_workers, self._book.num_open)):
                self._spawn(slot)
            while self._book.num_open:
                self._replace_lost()
                self._hand_out()
                self._listen()
                self._end_silent()
            finished = True
            return self._outcome
        finally:
            self._end_all(patience=5.0 if finished else 0.0)

    def _spawn(self, slot: int) -> None:
        self._workers[slot] = _Worker(self._launch(self._start(slot)))

    def _replace_lost(self) -> None:
        wanted = min(self._num_workers, self._book.num_open)
        for slot in range(self._num_workers):
            if len(self._workers) >= wanted or self._outcome.restarts >= self._endurance.max_restarts:
                break
            if slot not in self._workers:
                self._outcome.restarts += 1
                self._spawn(slot)
        if not self._workers:
            self._give_up(self._book.abandon(), f"no worker was left after {self._outcome.restarts} restarts")

    def _hand_out(self) -> None:
        if self._together:  # all begin at one moment
            if not all(worker.ready for worker in self._workers.values()):
                return
            self._together = False
        for worker in self._workers.values():
            while worker.ready:
                number = self._book.lease(worker.process.slot, len(self._workers))
                if number is None:
                    break
                if len(self._book.held(worker.process.slot)) == 1:
                    worker.heard = clock.monotonic()  # it had nothing to say before
                self._tell()
                worker.process.send(self._plan.lease(number))

    def _listen(self) -> None:
        by_line = {worker.process.line: worker for worker in self._workers.values()}
        deadlines = [deadline for worker in by_line.values() if (deadline := self._deadline(worker))]
        timeout = max(0.0, min(deadlines) - clock.monotonic()) if deadlines else None
        for line in wait(list(by_line), timeout) if by_line else []:
            worker = by_line[line]  # type: ignore[index]
            try:
                while worker.process.line.poll():
                    self._hear(worker, worker.process.line.recv())
            except (EOFError, OSError):
                self._lose(worker, "")

    def _hear(self, worker: _Worker, message: object) -> None:
        worker.heard = clock.monotonic()
        match message:
            case Ready():
                worker.ready = True
                startup = worker.heard - worker.process.started
                if self._outcome.first_ready is None:
                    self._outcome.first_ready = worker.heard - self._began
                worker.report = replace(
                    worker.report,
                    startup_seconds=startup,
                    import_seconds=message.import_seconds,
                    load_seconds=message.load_seconds,
                )
                self._tell()
            case Done():
                self._take(worker, message)
            case Refused():
                error = HocketError(message.message, message.hint)
                error.exit_code = message.exit_code
                raise error
            case Crashed():
                raise RuntimeError(f"worker {worker.process.slot} failed:\n{message.traceback}")
            case Begun():
                pass

    def _take(self, worker: _Worker, done: Done) -> None:
        if not self._book.done(worker.process.slot, done.number):
            raise RuntimeError(f"worker {worker.process.slot} answered {done.number}, which it does not hold")
        self._record(done)
        pieces = self._plan.micro_batches[done.number]
        answered = [transcript is not None for transcript in done.transcripts]
        num_answered = sum(answered)
        self._outcome.num_found += num_answered
        self._outcome.num_failed += len(pieces) - num_answered
        self._outcome.audio_seconds += int(self._plan.num_samples[pieces[answered]].sum()) / SAMPLE_RATE
        before = worker.report
        worker.report = replace(
            before,
            read_seconds=before.read_seconds + done.read_seconds,
            wait_seconds=before.wait_seconds + done.wait_seconds,
            encode_seconds=before.encode_seconds + done.encode_seconds,
            decode_seconds=before.decode_seconds + done.decode_seconds,
            num_micro_batches=before.num_micro_batches + 1,
            num_utterances=before.num_utterances + num_answered,
        )
        self._tell()

    def _deadline(self, worker: _Worker) -> float | None:
        """When the worker's silence becomes too long; None while it has nothing to say."""
        if not worker.ready:
            return worker.process.started + self._endurance.startup_seconds
        held = self._book.held(worker.process.slot)
        if not held:
            return None
        audio = self._plan.padded_frames(held[0]) * HOP / SAMPLE_RATE
        return worker.heard + self._endurance.silence_seconds + audio

    def _end_silent(self) -> None:
        now = clock.monotonic()
        for worker in list(self._workers.values()):
            deadline = self._deadline(worker)
            if deadline is not None and now >= deadline and not worker.process.line.poll():
                worker.process.dump_stack()
                self._lose(worker, f"after {now - worker.heard:.0f} s of silence ")

    def _lose(self, worker: _Worker, why: str) -> None:
        """A worker is gone, or is to go: its micro-batches wait again."""
        slot = worker.process.slot
        worker.process.end(patience=0.0 if why else 1.0)
        how = f"{worker.process.describe()} {why}".rstrip()
        last_words = worker.process.last_words()
        worker.process.forget()
        del self._workers[slot]
        self._outcome.losses.append(how + (f"; its last words:\n{last_words}" if last_words else ""))
        self._outcome.reports.append(replace(worker.report, lost=how))
        if self._outcome.first_ready is None and len(self._outcome.losses) >= _STARTS:
            raise WorkerLost(
                f"{_STARTS} workers ended before any of them was ready; the last: {self._outcome.losses[-1]}",
                "Is there enough memory for the model in every worker?",
            )
        self._give_up(
            self._book.lost(slot),
            f"{self._endurance.max_deaths} workers died while they held its micro-batch; the last: {how}",
        )
        self._tell()

    def _give_up(self, numbers: list[int], reason: str) -> None:
        for number in numbers:
            pieces = self._plan.micro_batches[number].tolist()
            self._outcome.num_failed += len(pieces)
            for piece in pieces:
                self._outcome.given_up[piece] = f"{self._plan.name(piece)}: {reason}"

    def _end_all(self, patience: float) -> None:
        for worker in self._workers.values():
            worker.process.line.close()
        for worker in self._workers.values():
            worker.process.end(patience)
            worker.process.forget()
            self._outcome.reports.append(worker.report)
        self._workers.clear()

    def _tell(self) -> None:
        if self._observe is None:
            return
        states = tuple(
            WorkerState(slot, worker.process.pid, worker.ready, self._book.held(slot))
            for slot, worker in sorted(self._workers.items())
        )
        self._observe(
            JobProgress(
                num_done=self._outcome.num_found,
                num_failed=self._outcome.num_failed,
                num_earlier=self._num_earlier + len(self._plan.unreadable),
                num_utterances=len(self._plan.piece_item),
                audio_seconds_done=self._outcome.audio_seconds,
                audio_seconds=self._seconds,
                elapsed=clock.monotonic() - self._began,
                workers=states,
            )
        )

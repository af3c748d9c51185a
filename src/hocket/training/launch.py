"""Running a job: prepare its folder, start the ranks, start them again when one is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

from hocket.comms import launch
from hocket.comms.heartbeat import EXIT_HUNG, read_beats, silent_since
from hocket.comms.launch import EXIT_PEER_LOST, launched_by_others
from hocket.comms.ranks import Ranks, WorkerExit
from hocket.comms.supervision import FolderLock, is_running, while_signals
from hocket.core import events, files
from hocket.core import recipe as recipes
from hocket.core.errors import RecipeError, RunError, UsageError
from hocket.core.events import Event
from hocket.corpus import sounds
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.hardware import libraries
from hocket.parallel.check import check
from hocket.sync.leased import LeasedSettings
from hocket.training import checkpoint_store
from hocket.training.fine_tuning import Source
from hocket.training.folder import RunFolder
from hocket.training.leased import remote
from hocket.training.leased.launch import supervise
from hocket.training.recipe import TrainRecipe

__all__ = ["join", "launched_by_others", "tail", "train"]

OnEvent = Callable[[Event], None]
_POLL_SECONDS = 0.2
_SILENT_SECONDS = 2.5
"""Two heartbeats and some."""


def train(
    recipe: Path,
    *,
    run: Path,
    workers: int | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    on_event: OnEvent | None = None,
) -> dict[str, Any]:
    """Train on ``workers`` processes of this machine; returns what ``summary.json`` holds.

    Without a number: on as many as the recipe's ``layout`` takes, one where nothing is split.

    A run that a signal ended early returns ``{"steps": N, "finished": False}``: its last checkpoint
    is written, ``resume`` goes on from it, with any number of workers. Raises
    :class:`~hocket.core.errors.HocketError` for what the user can mend.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: a job needs at least one")
    folder = RunFolder(run)
    settled = resolve(recipe, overrides, folder if resume else None)
    workers = workers or settled.layout.least_workers
    check_layout(settled, workers)
    with ExitStack() as stack:
        stack.enter_context(FolderLock(folder.root))
        start(folder, settled, resume=resume)
        told = stack.enter_context(_Tail(folder.events, on_event or (lambda _event: None)))
        stack.enter_context(_Watch(folder, settled.faults.silence_seconds))
        asked = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
        stack.enter_context(while_signals(asked, lambda _signal: folder.stop.touch()))
        if isinstance(settled.sync, LeasedSettings):
            supervise(folder, settled, workers)
        else:
            _attempts(folder, settled, workers, resume)
    return told.end or {}


def tail(path: Path, on_event: OnEvent) -> AbstractContextManager[object]:
    """Hands on the events that appear in a file while inside the ``with`` block."""
    return _Tail(path, on_event)


def join(recipe: Path, *, run: Path, resume: bool = False, overrides: Sequence[str] = ()) -> int:
    """Be one rank of a job that torchrun or Slurm started; returns this process's exit status.

    Rank 0 prepares the folder, which all hosts must see, and the others wait for it.
    """
    from hocket.training.worker import run_rank

    folder = RunFolder(run)
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    settled = resolve(recipe, overrides, folder if resume or restarted else None)
    place = launch.rank_environment()
    os.environ.update(place)
    check_layout(settled, int(place["WORLD_SIZE"]))
    with ExitStack() as stack:
        if place["RANK"] == "0":
            stack.enter_context(FolderLock(folder.root))
            start(folder, settled, resume=resume or (restarted and folder.recipe.exists()))
            _forget_beats(folder)  # the others beat once they have met this rank
        if isinstance(settled.sync, LeasedSettings):
            return remote.join(folder, place)
        status = run_rank(folder, resume=resume or restarted)
    if status == EXIT_PEER_LOST and not launch.has_agent():
        print(f"hocket: {_who_is_gone(folder)}", file=sys.stderr, flush=True)
    return status


def _who_is_gone(folder: RunFolder) -> str:
    """Who ended without a word, by the heartbeats that all ranks leave in the run's folder.

    On this host by its process, too: one that a busy machine keeps waiting is silent, and not gone.
    """
    before = read_beats(folder.heartbeats)
    time.sleep(_SILENT_SECONDS)
    here = os.uname().nodename
    names = [
        f"rank {beat.rank} (pid {beat.pid} on {beat.host}, at step {beat.step})"
        for beat in silent_since(before, read_beats(folder.heartbeats))
        if beat.host != here or not is_running(beat.pid)
    ]
    who = ", ".join(names) or "another rank"
    return f"{folder.root}: {who} is gone, so this one ends\n  Start all ranks again with --resume."


def resolve(recipe: Path, overrides: Sequence[str], going: RunFolder | None = None) -> TrainRecipe:
    """Read a recipe, and find its corpus and weights: below the working folder, or beside the recipe.

    ``going`` is the run that is to go on, if one is. Once it has a checkpoint the weights that it began
    with need not be there any more.
    """
    read = recipes.load(recipe, TrainRecipe, overrides)
    bases = (Path.cwd(), recipe.resolve().parent)
    shares = tuple(
        share.model_copy(update={"path": _find_corpus(recipe, share.path, bases)}) for share in read.corpora
    )
    CorpusMixture.open(shares, "train")
    common_tokens(shares)
    settled: dict[str, Any] = {
        "corpus": shares if isinstance(read.corpus, tuple) else shares[0].path,
        "augment": sounds.settle(read.augment, bases),
    }
    if read.init is not None and going is not None and _reached(going) >= 0:
        before = recipes.load(going.recipe, TrainRecipe)
        settled["init"] = before.init
        if "model" not in read.model_fields_set:
            settled["model"] = before.model
    elif read.init is not None:
        source = Source.find(read.init, bases)
        settled["init"] = source.init
        if "model" not in read.model_fields_set:
            settled["model"] = source.config()
    return read.model_copy(update=settled)


def check_layout(recipe: TrainRecipe, workers: int) -> None:
    """Raise :class:`UsageError` when the model cannot be split as the recipe says over so many workers."""
    tokens = common_tokens(recipe.corpora)
    config = recipe.model.with_tokens(tokens.vocab_size, recipe.features.num_mel_bins)
    check(recipe.layout.fill(workers), config)


def _find_corpus(recipe: Path, named: Path, bases: Sequence[Path]) -> Path:
    for base in bases:
        folder = (base / named).resolve()
        if (folder / "corpus.json").exists():
            return folder
    raise RecipeError(
        f"{recipe}: corpus: {named} is no prepared corpus", f"Make one: hocket prepare SOURCE {named}"
    )


def start(folder: RunFolder, recipe: TrainRecipe, *, resume: bool) -> None:
    """Check the folder, and write the resolved recipe into it."""
    folder.prepare(resume=resume)
    if resume:
        before = recipes.load(folder.recipe, TrainRecipe)
        if recipe.batch.cost == "measured":  # fitted when the run first started, never again
            batch = recipe.batch.model_copy(update={"cost": before.batch.cost})
            recipe = recipe.model_copy(update={"batch": batch})
    files.write_text(folder.recipe, recipes.dump(recipe))


def worker_environment(recipe: TrainRecipe) -> dict[str, str]:
    """What the libraries of a recipe's workers must find; sparing where memory is limited."""
    return libraries.environment(recipe.threads, sparing=recipe.memory.limit_mb is not None)


def _attempts(folder: RunFolder, recipe: TrainRecipe, workers: int, resume: bool) -> None:
    """Start all ranks, and again after a lost one, until the run ends or no attempt gets further."""
    with Ranks("hocket.training.worker", worker_environment(recipe)) as ranks:
        _attempts_of(ranks, folder, recipe, workers, resume)


def _attempts_of(ranks: Ranks, folder: RunFolder, recipe: TrainRecipe, workers: int, resume: bool) -> None:
    in_vain = 0
    while True:
        reached = _reached(folder)
        attempt = 1 + max((int(event["attempt"]) for event in events.read(folder.events)), default=0)
        _forget_beats(folder)
        end = ranks.run_attempt(
            [str(folder.root), *(["--resume"] if resume or attempt > 1 else [])],
            workers=workers,
            log_dir=folder.logs / f"attempt-{attempt}",
        )
        if not end.failed:
            return
        culprit = _culprit(folder, end.failed)
        in_vain = 0 if _reached(folder) > reached else in_vain + 1
        if in_vain > recipe.faults.max_restarts:
            raise RunError(
                f"{folder.root}: {in_vain} attempts brought no new checkpoint; {culprit.describe()}",
                f"Its log: {culprit.log}",
            )
        log = events.EventLog(folder.events, attempt)
        log.write(
            "restart",
            reason=culprit.describe(),
            rank=culprit.rank,
            log=str(culprit.log),
            teardown_seconds=round(end.teardown_seconds, 3),
        )
        log.close()


def _forget_beats(folder: RunFolder) -> None:
    """Those of an earlier attempt, of ranks that there may not be any more."""
    for old in folder.heartbeats.glob("*"):
        old.unlink(missing_ok=True)  # whoever wrote it may be about to end, and beat for the last time


def _culprit(folder: RunFolder, failed: list[WorkerExit]) -> WorkerExit:
    """Who ended the attempt, when starting again may help; otherwise raises why it cannot."""
    error = folder.take_error()
    if error is not None:
        raise error
    for each in failed:
        if each.exit_code > 0 and each.exit_code not in (EXIT_PEER_LOST, EXIT_HUNG):
            raise RunError(
                f"{folder.root}: {each.describe()}, an error in the program:\n{_last_lines(each.log)}",
                f"The whole log: {each.log}",
            )
    lost = [each for each in failed if each.exit_code not in (EXIT_PEER_LOST, -signal.SIGTERM)]
    return (lost or failed)[0]


def _reached(folder: RunFolder) -> int:
    found = checkpoint_store.whole_checkpoints(folder.checkpoints)
    return checkpoint_store.step_of(found[-1]) if found else -1


def _last_lines(log: Path, number: int = 15) -> str:
    if not log.is_file():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-number:])


class _Thread(AbstractContextManager[Any]):
    """A background task that runs while inside a ``with`` block, a few times a second."""

    def __enter__(self) -> Any:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def _run(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            self.look()

    def look(self) -> None:
        raise NotImplementedError


class _Tail(_Thread):
    """Hands on the events that appear in a file from now on."""

    def __init__(self, path: Path, on_event: OnEvent) -> None:
        self._path, self._on_event = path, on_event
        self._offset = path.stat().st_size if path.exists() else 0
        self.end: dict[str, Any] | None = None

    def look(self) -> None:
        for event, offset in events.follow(self._path, self._offset):
            self._offset = offset
            if event["event"] == "end":
                self.end = {
                    name: value for name, value in event.items() if name not in ("event", "attempt", "time")
                }
            self._on_event(event)


class _Watch(_Thread):
    """Ends ranks of this host that are frozen: their heartbeat file stays as it is.

    For how long is counted in looks: neither a file of an earlier run nor a machine that slept counts.
    """

    def __init__(self, folder: RunFolder, silence_seconds: float) -> None:
        self._folder, self._limit = folder, silence_seconds
        self._seen: dict[int, tuple[int, float]] = {}
        self._silent: dict[int, float] = {}

    def look(self) -> None:
        for beat in read_beats(self._folder.heartbeats):
            written = beat.pid, beat.written
            if self._seen.get(beat.rank) != written:
                self._seen[beat.rank], self._silent[beat.rank] = written, 0.0
                continue
            self._silent[beat.rank] += _POLL_SECONDS
            if self._silent[beat.rank] <= self._limit or beat.host != os.uname().nodename:
                continue
            with suppress(ProcessLookupError):
                os.kill(beat.pid, signal.SIGKILL)
            self._silent[beat.rank] = 0.0

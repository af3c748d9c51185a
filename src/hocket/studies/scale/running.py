"""Running one cell: a real training, on this host or over links, then recognition of the test part."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hocket.comms.links import LOOPBACK, Host, Hosts, Link, ranks
from hocket.comms.supervision import die_with_parent
from hocket.core import clock, files
from hocket.core import recipe as recipes
from hocket.core.errors import RunError
from hocket.core.events import Event
from hocket.decoding.wer import edits
from hocket.recognition import hypotheses
from hocket.recognition.job import recognize
from hocket.recognition.report import JobProgress
from hocket.recognition.score import score_file
from hocket.reports.scale.facts import Measured
from hocket.studies.scale import cell
from hocket.studies.scale.cell import Scored
from hocket.studies.scale.grid import Point
from hocket.training import launch
from hocket.training.folder import RunFolder
from hocket.training.recipe import TrainRecipe


class Interrupted(Exception):
    """The user wants to stop: the cell under way is thrown away."""


def train(point: Point, folder: Path, on_event: Callable[[Event], None]) -> Measured:
    """Train one cell from the beginning, and keep what it tells.

    Raises :class:`Interrupted` when a signal ended it, and what training raises.
    """
    began = clock.monotonic()
    run = run_once(point.recipe, folder, point.workers, on_event, point.link)
    measured = cell.measure(run, point.fingerprint, clock.monotonic() - began)
    shutil.rmtree(run.checkpoints, ignore_errors=True)  # the model stays
    cell.write(folder, measured)
    return measured


def run_once(
    recipe: TrainRecipe,
    folder: Path,
    workers: int,
    on_event: Callable[[Event], None],
    link: str = LOOPBACK,
) -> RunFolder:
    """Train by a recipe from the beginning, in ``folder``/run.

    Raises :class:`Interrupted` when a signal ended it, and what training raises.
    """
    run = RunFolder(folder / "run")
    shutil.rmtree(folder, ignore_errors=True)  # of a try that came to no end
    written = folder / "recipe.yaml"
    files.write_text(written, recipes.dump(recipe))
    if link == LOOPBACK:
        told = launch.train(written, run=run.root, workers=workers, on_event=on_event)
        if not told.get("finished", False):
            raise Interrupted
    else:
        _train_over(Link.parse(link), workers, written, run, on_event)
    return run


def score(
    folder: Path, corpus: Path, split: str, workers: int, progress: Callable[[JobProgress], None]
) -> Scored:
    """Recognise ``split`` with the model of a trained cell."""
    began = clock.monotonic()
    hyps = folder / "hyps.jsonl"
    recognize(
        RunFolder(folder / "run").root,
        [f"{corpus}:{split}"],
        hyps,
        workers=workers,
        fresh=True,
        progress=progress,
    )
    report = score_file(hyps)
    pairs = [
        (found.ref.split(), found.text.split()) for found in hypotheses.read(hyps) if found.ref is not None
    ]
    scored = Scored(
        split=split,
        wer=report.wer,
        wer_low=report.wer_low,
        wer_high=report.wer_high,
        errors=[edits(ref, hyp).errors for ref, hyp in pairs],
        words=[len(ref) for ref, _ in pairs],
        took_seconds=clock.monotonic() - began,
    )
    cell.write_score(folder, scored)
    return scored


def _train_over(
    link: Link, workers: int, recipe: Path, run: RunFolder, on_event: Callable[[Event], None]
) -> None:
    """One worker on each of several hosts."""
    logs = recipe.parent / "logs"
    logs.mkdir(parents=True)
    with Hosts(workers, link) as hosts, launch.tail(run.events, on_event):
        processes = [_start(rank, hosts, recipe, run, logs / f"rank-{rank}.log") for rank in range(workers)]
        try:
            _wait(processes, logs)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    if not run.summary.exists():
        raise RunError(f"{run.root}: the run ended without a result", f"Logs: {logs}")


def _start(
    rank: int, hosts: Sequence[Host], recipe: Path, run: RunFolder, log: Path
) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(part for part in sys.path if part)
    place = {**ranks.environment(rank, hosts), "PYTHONPATH": paths}
    words = [sys.executable, "-P", "-m", "hocket", "train", str(recipe), "--run-dir", str(run.root), "--json"]
    with log.open("ab") as output:
        return subprocess.Popen(
            hosts[rank].command(words),
            env={**os.environ, **place},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the study, which then ends them
            preexec_fn=die_with_parent,
        )


def _wait(processes: Sequence[subprocess.Popen[bytes]], logs: Path) -> None:
    """Until all have ended well. Raises :class:`RunError` with the last words of the first that did not."""
    left = dict(enumerate(processes))
    while left:
        for rank, process in list(left.items()):
            try:
                status = process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            del left[rank]
            if status:
                log = logs / f"rank-{rank}.log"
                words = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise RunError(f"worker {rank} left with status {status}:\n{words}", f"Its log: {log}")

"""The whole path once: prepare a corpus, train on N workers, recognise with as many, score."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.core import clock, files
from hocket.core.errors import CorpusError, RunError
from hocket.core.events import Event
from hocket.corpus.importers.base import Progress
from hocket.corpus.index import CorpusIndex
from hocket.corpus.prepare import prepare
from hocket.corpus.report import FILE as CORPUS_FILE
from hocket.corpus.report import read_corpus
from hocket.decoding.wer import ScoreReport
from hocket.recognition.job import find_model, recognize
from hocket.recognition.report import JobProgress
from hocket.recognition.score import score_file
from hocket.reports import picture
from hocket.studies.demo_report import DemoReport
from hocket.studies.recipes import shipped
from hocket.training import launch
from hocket.training.folder import RunFolder

SYNTHETIC = "synthetic"
TEST_SPLITS = ("test", "dev")
"""What is scored: the first of these that the corpus has."""


@dataclass(frozen=True)
class Watch:
    """What is told while the demo runs."""

    say: Callable[[str], None]
    preparing: Progress
    training: Callable[[Event], None]
    recognising: Callable[[JobProgress], None]


def demo(
    out: Path,
    watch: Watch,
    *,
    workers: int = 2,
    corpus: str | None = None,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
) -> DemoReport:
    """Run the demo into the new folder ``out``.

    ``corpus`` is a prepared folder, or anything that can be prepared; None is the synthetic corpus.
    ``recipe`` None is the demo's own. Raises :class:`RunError` when ``out`` is there already, or the
    training was stopped, and whatever preparing, training and recognising raise.
    """
    if out.exists():
        raise RunError(f"{out}: it is there already", "Name another folder.")
    began = clock.monotonic()
    folder = _corpus(corpus or SYNTHETIC, out, watch)
    told = read_corpus(folder)
    split = _test_split(folder, told)
    prepared = clock.monotonic()

    watch.say(f"training on {told['splits']['train']['utterances']:,} utterances of {told['name']}")
    run = RunFolder(out / "run")
    settings = [f"corpus={json.dumps(str(folder.resolve()))}", *overrides]
    summary = launch.train(
        recipe or shipped("demo"), run=run.root, workers=workers, overrides=settings, on_event=watch.training
    )
    if not summary.get("finished", True):
        raise RunError(f"{run.root}: the training was stopped before its last step")
    trained = clock.monotonic()

    watch.say(f"recognising the {split} part")
    hyps = out / "hyps.jsonl"
    recognition = recognize(
        find_model(run.root), [f"{folder}:{split}"], hyps, workers=workers, progress=watch.recognising
    )
    recognised = clock.monotonic()
    score = score_file(hyps)
    summary = _keep_wer(run, score)
    heard, tested = _speakers(folder, "train"), _speakers(folder, split)
    return DemoReport(
        corpus=folder,
        corpus_name=str(told["name"]),
        split=split,
        num_speakers=len(tested),
        num_heard_before=len(tested & heard),
        run=run.root,
        hyps=hyps,
        page=picture.write(run.root),
        workers=workers,
        prepare_seconds=prepared - began,
        train_seconds=trained - prepared,
        recognize_seconds=recognised - trained,
        summary=summary,
        recognition=recognition,
        score=score,
    )


def _corpus(source: str, out: Path, watch: Watch) -> Path:
    """The prepared folder of a source, made below ``out`` where it is not prepared yet."""
    if (Path(source) / CORPUS_FILE).is_file():
        return Path(source)
    folder = out / "corpus"
    watch.say(f"preparing {source}")
    prepare(source, folder, progress=watch.preparing)
    return folder


def _test_split(folder: Path, told: Mapping[str, Any]) -> str:
    for split in TEST_SPLITS:
        if split in told["splits"]:
            return split
    raise CorpusError(
        f"{folder}: no split called {' or '.join(TEST_SPLITS)} to score",
        "Give some utterances the split test, and prepare the corpus again.",
    )


def _speakers(folder: Path, split: str) -> set[str]:
    return set(CorpusIndex.open(folder, split).speakers)


def _keep_wer(run: RunFolder, score: ScoreReport) -> dict[str, Any]:
    """Note the WER in the run's summary; returns the summary."""
    summary: dict[str, Any] = json.loads(run.summary.read_text())
    summary |= {"wer": score.wer, "wer_interval": [score.wer_low, score.wer_high]}
    files.write_json(run.summary, summary)
    return summary

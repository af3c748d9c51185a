"""What a demo came to, as facts and as a table that ends with what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from hocket.decoding.wer import ScoreReport
from hocket.recognition.report import JobReport
from hocket.reports.axes import duration, number, percent
from hocket.reports.tables import Row, facts, shares, workers
from hocket.studies.recipes import shipped


@dataclass(frozen=True)
class DemoReport:
    """What the demo did. Seconds are of the wall clock."""

    corpus: Path
    corpus_name: str
    split: str
    """The split that was recognised and scored."""
    num_speakers: int
    """Known speakers of that split."""
    num_heard_before: int
    """Those of them who also speak in training."""
    run: Path
    hyps: Path
    page: Path
    workers: int
    prepare_seconds: float
    train_seconds: float
    recognize_seconds: float
    summary: Mapping[str, Any]
    """Of the training."""
    recognition: JobReport
    score: ScoreReport


def draw(report: DemoReport) -> RenderableType:
    """The table of a demo, and the commands for a corpus of one's own."""
    score, summary, recognition = report.score, report.summary, report.recognition
    interval = f"{100 * score.wer_low:.1f} to {100 * score.wer_high:.1f} %"
    heard = f"{report.num_heard_before or 'none'} of them in training"
    voices = f", {report.num_speakers} voices, {heard}" if report.num_speakers else ""
    training = f"{number(summary['audio_per_second'])} s of speech a second, {workers(summary['workers'])}"
    recognising = f"{number(recognition.rtfx_steady)} s of speech a second, {workers(recognition.workers)}"
    padding = f"{percent(summary['padding'])} in training, {percent(recognition.padding)} in recognition"
    spent = (report.prepare_seconds, report.train_seconds, report.recognize_seconds)
    prepared, trained, recognised = map(duration, spent)
    rows: list[Row] = [
        ("WER", f"{percent(score.wer)}  ({interval} at {score.confidence:.0%})"),
        ("measured on", f"{score.num_utterances:,} utterances of the {report.split} part{voices}"),
        ("training", f"{training}, {summary['precision']}, {summary['steps']:,} steps"),
        ("recognition", recognising),
        ("time of a step", shares(summary["seconds"])),
        ("of the matrix rate", percent(summary["matrix_share"])),
        ("padding", padding),
        ("slowest rank", f"{summary['imbalance']:.3f} times the mean, by predicted cost"),
        ("took", f"{prepared} to prepare, {trained} to train, {recognised} to recognise"),
        ("pictures", str(report.page)),
    ]
    return Group(facts(rows, "hocket demo"), Text(_next(report), no_wrap=True))


def _next(report: DemoReport) -> str:
    recipe = shipped("an4")
    if recipe.is_relative_to(Path.cwd()):
        recipe = recipe.relative_to(Path.cwd())
    return f"""
Next, with speech of your own: a table with a line for each utterance, say my/table.jsonl,

  {{"audio": "a.wav", "text": "what is said", "speaker": "anna", "split": "train"}}

  hocket prepare my/table.jsonl corpora/my
  hocket train {recipe} --workers {report.workers} --run runs/my --set corpus=corpora/my
  hocket recognize runs/my corpora/my:dev --workers {report.workers} --out hyps.jsonl
  hocket score hyps.jsonl

Or let the model of this demo hear a file:

  hocket recognize {report.run} FILE.wav --out hyps.jsonl
"""

"""The table that a demo ends with."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from hocket.decoding.wer import Scored, score
from hocket.recognition.report import JobReport
from hocket.studies.demo_report import DemoReport, draw


def report() -> DemoReport:
    recognition = JobReport(
        num_utterances=20,
        num_failed=0,
        num_pieces=20,
        num_earlier=0,
        audio_seconds=60.0,
        wall_seconds=6.0,
        startup_seconds=2.0,
        rtfx=10.0,
        rtfx_steady=15.0,
        workers=2,
        num_micro_batches=3,
        padding=0.25,
        imbalance=1.1,
        restarts=0,
        losses=(),
        per_worker=(),
        device="cpu",
        precision="fp32",
        batch_seconds=60.0,
        tuning=None,
        out=(Path("hyps.jsonl"),),
        journal=Path("hyps.jsonl.journal"),
        failed=None,
    )
    return DemoReport(
        corpus=Path("demo/corpus"),
        corpus_name="synthetic",
        split="test",
        num_speakers=8,
        num_heard_before=0,
        run=Path("demo/run"),
        hyps=Path("demo/hyps.jsonl"),
        page=Path("demo/run/report.html"),
        workers=2,
        prepare_seconds=30.0,
        train_seconds=150.0,
        recognize_seconds=6.0,
        summary={
            "audio_per_second": 321.0,
            "workers": 2,
            "precision": "bf16",
            "steps": 700,
            "seconds": {"compute": 90.0, "communication": 5.0, "wait": 4.0, "data": 1.0},
            "matrix_share": 0.613,
            "padding": 0.007,
            "imbalance": 1.002,
        },
        recognition=recognition,
        score=score([Scored(str(n), "go left" if n else "go", "go left") for n in range(20)]),
    )


def test_it_says_how_well_how_fast_where_the_time_went_and_what_next() -> None:
    said = io.StringIO()
    Console(file=said, width=200).print(draw(report()))
    text = said.getvalue()
    for wanted in (
        "2.5 %  (0.0 to ",
        "20 utterances of the test part, 8 voices, none of them in training",
        "321 s of speech a second, 2 workers, bf16, 700 steps",
        "15 s of speech a second, 2 workers",
        "compute 90.0 %, communication 5.0 %, wait 4.0 %, data 1.0 %",
        "61.3 %",
        "0.7 % in training, 25.0 % in recognition",
        "1.002 times the mean",
        "30 s to prepare, 2 min 30 s to train, 6.0 s to recognise",
        "demo/run/report.html",
        "hocket prepare my/table.jsonl corpora/my\n",
        "an4.yaml --workers 2 --run runs/my --set corpus=corpora/my\n",
        "hocket recognize demo/run FILE.wav --out hyps.jsonl\n",
    ):
        assert wanted in text

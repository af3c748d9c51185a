"""Training runs, corpora and page heads for the benchmarks of training."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from hocket.core import events, files
from hocket.corpus.prepare import prepare
from hocket.hardware.device import cpu_name
from hocket.training.launch import train

SYNTHETIC = "synthetic:utterances=400"
_SAMPLE_RATE = 16_000


def trained(recipe: Path, folder: Path, name: str, workers: int, *settings: str) -> Path:
    """The folder of a finished run; one of the same settings that is there is not run again.

    Leaves the program with status 130 when a signal ended the run.
    """
    told = json.dumps([recipe.read_text(), workers, *settings])
    run = folder / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"
    if not (run / "summary.json").is_file():
        print(f"training {run.name}", file=sys.stderr, flush=True)
        shutil.rmtree(run, ignore_errors=True)  # of a try that came to no end
        if not train(recipe, run=run, workers=workers, overrides=settings).get("finished", False):
            print("interrupted: the same command goes on with this run", file=sys.stderr)
            raise SystemExit(130)
    return run


def events_of(run: Path, kind: str) -> list[events.Event]:
    """A run's events of one kind."""
    return [event for event in events.read(run / "events.jsonl") if event["event"] == kind]


def corpus_in(folder: Path, source: str) -> Path:
    """A corpus prepared from ``source`` in a folder; the folder itself where it is a prepared one."""
    if Path(source, "corpus.json").is_file():
        return Path(source).absolute()
    out = folder / "corpus"
    if not (out / "corpus.json").is_file():
        prepare(source, out)
    return out.absolute()


def with_outlier(manifest: Path, folder: Path, times: float) -> Path:
    """A corpus of a JSONL manifest and one more training utterance, ``times`` as long as its longest.

    The outlier is made of utterances in a row, texts and all.
    """
    out = folder / "corpus"
    if (out / "corpus.json").is_file():
        return out.absolute()
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        row["audio"] = str((manifest.parent / row["audio"]).absolute())
    parts = [row for row in rows if row["split"] == "train"]
    wanted = times * max(row["duration"] for row in parts)
    taken: list[dict[str, Any]] = []
    while sum(row["duration"] for row in taken) < wanted:
        taken.append(parts[len(taken)])
    sounds = [_sound(Path(row["audio"])) for row in taken]
    folder.mkdir(parents=True, exist_ok=True)
    audio = (folder / "outlier.flac").absolute()
    soundfile.write(audio, np.concatenate(sounds), _SAMPLE_RATE)
    text = " ".join(row["text"] for row in taken)
    seconds = sum(len(sound) for sound in sounds) / _SAMPLE_RATE
    outlier = {"id": "outlier", "audio": str(audio), "duration": seconds, "text": text, "split": "train"}
    table = folder / "with-outlier.jsonl"
    files.write_text(table, "".join(json.dumps(row) + "\n" for row in (*rows, outlier)))
    prepare(str(table), out)
    return out.absolute()


def _sound(path: Path) -> np.ndarray:
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != _SAMPLE_RATE:
        raise SystemExit(f"{path}: {rate} samples a second, not {_SAMPLE_RATE}")
    return np.asarray(sound.mean(axis=1), np.float32)


def head(title: str) -> list[str]:
    """A page's first lines: what was run, when and on what."""
    return [
        f"# {title}",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python {' '.join(sys.argv)}`",
        f"- machine: {cpu_name()}",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        "",
    ]


def give(lines: list[str], page: Path | None) -> None:
    """Print a page, and with a path write it."""
    text = "\n".join(lines) + "\n"
    print(text)
    if page is not None:
        page.write_text(text, encoding="utf-8")

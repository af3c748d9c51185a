"""The same utterances for both sides: a part of a prepared corpus, and its features in one file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from hocket.corpus import audio
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import LogMel
from hocket.corpus.index import CorpusIndex
from hocket.corpus.tokens import Tokens

LARGEST_SUBSAMPLING = 8
SYNTHETIC = "synthetic:utterances=1200"


@dataclass(frozen=True)
class Part:
    """Utterances as hocket and as the peer read them."""

    folder: Path
    features: Path
    num_utterances: int
    seconds: float
    """Of audio, together."""
    vocab_size: int


def hocket(*words: str) -> None:
    """Run a command as a user does; what it says is shown when it fails."""
    done = subprocess.run([sys.executable, "-m", "hocket", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"hocket {' '.join(words)}:\n{done.stdout}{done.stderr}")


def synthetic(scratch: Path) -> Path:
    """A prepared corpus where none was given."""
    hocket("prepare", SYNTHETIC, str(scratch / "synthetic"))
    return scratch / "synthetic"


def take(corpus: Path, num_utterances: int, scratch: Path) -> Part:
    """The first ``num_utterances`` of the training split (which is shuffled) that any preset can align."""
    index = CorpusIndex.open(corpus, "train")
    lines: list[str] = []
    for row in range(len(index)):
        if len(lines) < num_utterances and _alignable(index, row):
            lines.append(json.dumps(_line(index, row)))
    if len(lines) < num_utterances:
        raise ValueError(f"{corpus}: {len(lines)} utterances can be taken, {num_utterances} are wanted")
    table, folder, features = scratch / "part.jsonl", scratch / "part", scratch / "features.pt"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    hocket("prepare", str(table), str(folder), "--dev", "0", "--subsampling", str(LARGEST_SUBSAMPLING))
    part, tokens = CorpusIndex.open(folder, "train"), Tokens.load(folder)
    if len(part) != num_utterances:
        raise ValueError(f"{folder}: {num_utterances - len(part)} utterances were left out")
    log_mel = LogMel(80)
    rows = []
    for row in range(len(part)):
        heard = part.utterance(row)
        samples = audio.read(heard.audio, heard.channel, heard.start, heard.num)
        rows.append(
            {"features": log_mel(samples), "tokens": torch.tensor(part.token_ids(row).astype("int64"))}
        )
    torch.save(rows, features)
    seconds = float(part.num_samples.sum()) / SAMPLE_RATE
    return Part(folder, features, len(part), seconds, tokens.vocab_size)


def _alignable(index: CorpusIndex, row: int) -> bool:
    """CTC needs a frame for each token, and one between equal ones; a tenth to spare."""
    ids = index.token_ids(row)
    needed = len(ids) + int((ids[1:] == ids[:-1]).sum())
    return int(index.num_samples[row]) / 160 / LARGEST_SUBSAMPLING > 1.1 * needed + 1


def _line(index: CorpusIndex, row: int) -> dict[str, object]:
    heard = index.utterance(row)
    line: dict[str, object] = {"id": heard.id, "audio": str(heard.audio.resolve()), "text": heard.text}
    if heard.start:
        line |= {"start": heard.start / heard.sample_rate, "duration": heard.num / heard.sample_rate}
    return line | ({} if heard.channel is None else {"channel": heard.channel})

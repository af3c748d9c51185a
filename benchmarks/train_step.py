"""A train step beside the same model in transformers: forward, loss and backward, paired.

Both models have the same configuration, the same inputs and the same dropout: after the subsampling and
inside the feed-forward (transformers has none at residual outputs, hocket none inside attention). In the
convolution module there is batch norm there, in training mode, and layer norm here. They take turns;
what counts is the median of the ratios of neighbouring steps.

    python benchmarks/train_step.py [--preset tiny small] [--rounds 20] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from trainer_peer.parakeet import parakeet

from hocket.core.work import MicroBatch
from hocket.hardware.device import cpu_name
from hocket.model import FastConformerCTC, ModelConfig, build
from hocket.model.presets import PRESETS

NUM_UTTERANCES, NUM_FRAMES, NUM_TOKENS, VOCAB_SIZE = 8, 300, 25, 32
Step = Callable[[], None]


def utterances() -> MicroBatch:
    """Eight utterances of 2.7 to 3 s."""
    generator = torch.Generator().manual_seed(0)
    lens = torch.linspace(0.9 * NUM_FRAMES, NUM_FRAMES, NUM_UTTERANCES).long()
    features = torch.randn(NUM_UTTERANCES, NUM_FRAMES, 80, generator=generator)
    features[torch.arange(NUM_FRAMES) >= lens[:, None]] = 0.0
    tokens = torch.randint(0, VOCAB_SIZE - 1, (NUM_UTTERANCES, NUM_TOKENS), generator=generator)
    ids = [str(row) for row in range(NUM_UTTERANCES)]
    return MicroBatch(
        0, ids, features, lens, tokens, torch.full((NUM_UTTERANCES,), NUM_TOKENS), dropout_key=1
    )


def steps(ours: FastConformerCTC, theirs: torch.nn.Module, precision: str) -> tuple[Step, Step]:
    """One train step of each."""
    batch = utterances()
    mask = torch.arange(NUM_FRAMES) < batch.feature_lens_B[:, None]

    def context() -> contextlib.AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()

    def our_step() -> None:
        with context():
            loss = ours.loss(batch)
        loss.backward()
        ours.zero_grad()

    def their_step() -> None:
        with context():
            loss = theirs(input_features=batch.features_BTF, attention_mask=mask, labels=batch.tokens_BU).loss
        loss.backward()
        theirs.zero_grad()

    return our_step, their_step


def measure(pair: tuple[Step, Step], rounds: int) -> tuple[float, float, float]:
    """Least milliseconds of each, and the median ratio of neighbouring steps."""
    times: list[tuple[float, float]] = []
    for turn in range(rounds + 2):
        start = time.perf_counter()
        pair[0]()
        middle = time.perf_counter()
        pair[1]()
        if turn >= 2:
            times.append((middle - start, time.perf_counter() - middle))
    ratio = statistics.median(b / a for a, b in times)
    return min(a for a, _ in times) * 1e3, min(b for _, b in times) * 1e3, ratio


def report(presets: list[str], rounds: int) -> str:
    """The result file: command, machine, versions, table."""
    lines = [
        "# Train step beside transformers' ParakeetForCTC, one CPU thread",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/train_step.py --preset {' '.join(presets)} --rounds {rounds}`",
        f"- machine: {cpu_name()}, one thread",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        f"- {NUM_UTTERANCES} utterances of {NUM_FRAMES} feature frames and {NUM_TOKENS} tokens",
        "",
        "| preset | parameters | precision | hocket, ms | transformers, ms | ratio (median of pairs) |",
        "|---|---|---|---|---|---|",
    ]
    for preset in presets:
        config = ModelConfig(preset=preset, vocab_size=VOCAB_SIZE, dropout=0.0)
        ours, theirs = build(config, seed=0).train(), parakeet(config)
        count = sum(parameter.numel() for parameter in ours.parameters())
        for precision in ("fp32", "bf16"):
            mine, other, ratio = measure(steps(ours, theirs, precision), rounds)
            lines.append(
                f"| {preset} | {count / 1e6:.2f} M | {precision} | {mine:.0f} | {other:.0f} | {ratio:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", nargs="+", choices=list(PRESETS), default=["tiny", "small"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = report(options.preset, options.rounds)
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

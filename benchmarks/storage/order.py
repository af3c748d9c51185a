"""How random the order of training is, when it goes through blocks: who meets whom in a step.

python -m storage.order [--count 100000] [--epochs 8]      (in benchmarks/)

``neighbours`` is the chance that two utterances of the same block share a step of an epoch, beside that of
any two; ``met again`` the part of those whom an utterance shares a step with that it has shared one with in
an earlier epoch. Blocks of one utterance are a full shuffle.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from balancing import lengths

from hocket.batching import BatchPlan, BatchSettings
from hocket.model import ModelConfig, workload


def steps_of(columns: lengths.Lengths, epochs: int) -> tuple[np.ndarray, int]:
    """The step of every utterance in every epoch (epochs, utterances), and steps of an epoch."""
    cost = workload.cost(ModelConfig.model_validate({"preset": "tiny", "vocab_size": 32}))
    plan = BatchPlan(columns, BatchSettings(), cost, seed=1, speed_percents=(90, 100, 110))
    found = np.empty((epochs, len(columns)), np.int64)
    for epoch in range(epochs):
        for step in range(plan.steps_per_epoch):
            for spec in plan.global_batch(epoch * plan.steps_per_epoch + step).micro_batches:
                found[epoch, spec.rows] = step
    return found, plan.steps_per_epoch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    whole = lengths.generated(arguments.count)
    draw = np.random.default_rng(0)
    write = sys.stdout.write
    write(f"{arguments.count:,} utterances, {arguments.epochs} epochs, default settings\n\n")
    write("| utterances in a block | neighbours | any two | met again |\n| ---: | ---: | ---: | ---: |\n")
    for size in (1, 16, 64, 256):
        block = (np.arange(arguments.count) // size).astype(np.int32)
        columns = lengths.Lengths(whole.num_samples, whole.num_tokens, whole.speaker, block, whole.key)
        steps, _ = steps_of(columns, arguments.epochs)
        one = draw.integers(0, arguments.count - 1, 400_000)
        other = draw.integers(0, arguments.count, len(one))
        near = one + 1
        same = block[near] == block[one]
        neighbours = float((steps[:, one] == steps[:, near])[:, same].mean()) if same.any() else float("nan")
        anyone = float((steps[:, one] == steps[:, other]).mean())
        met = again = 0
        for utterance in draw.integers(0, arguments.count, 400).tolist():
            known: set[int] = set()
            for epoch in range(arguments.epochs):
                mates = set(np.flatnonzero(steps[epoch] == steps[epoch, utterance]).tolist()) - {utterance}
                if epoch:
                    met, again = met + len(mates), again + len(mates & known)
                known |= mates
        write(f"| {size} | {neighbours:.3%} | {anyone:.3%} | {again / met:.2%} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

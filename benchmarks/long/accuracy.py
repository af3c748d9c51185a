"""What precision and averaging do to accuracy: fp32 and bf16, the last weights, their moving average, a mean.

Trains a recipe in both precisions with several seeds; out of the checkpoints of every run come three models,
the last weights, the moving average (``ema``) and the mean of the last checkpoints, and all are scored.
WER with 95 % of a bootstrap over seeds and utterances. It goes on where it ended.

    python benchmarks/long/accuracy.py [--recipe RECIPE] [--corpus CORPUS] [--seeds 3] [--workers 2]
        [--precisions bf16 fp32] [--folder runs/accuracy] [--page benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from training_runs import SYNTHETIC, corpus_in, give, head, trained

from hocket.core import files
from hocket.corpus.report import read_corpus
from hocket.decoding.wer import edits
from hocket.recognition import hypotheses
from hocket.recognition.job import recognize
from hocket.studies.batch.knee import interval_of
from hocket.studies.recipes import shipped
from hocket.training.checkpoint_average import average

KEPT, DECAY = 5, 0.999
MODELS = {
    "last weights": {"last": 1},
    f"moving average, {DECAY}": {"last": 1, "ema": True},
    f"mean of {KEPT} checkpoints": {"last": KEPT},
}
Counts = tuple[list[int], list[int]]
"""Errors and words of each utterance."""


def counts(run: Path, name: str, corpus: Path, split: str, workers: int) -> Counts:
    """Of one model of a run, made, recognised with and scored where it is not yet."""
    place = run.parent / f"{run.name}-{list(MODELS).index(name)}"
    kept = place / "counts.json"
    if not kept.is_file():
        model = place / "model"
        shutil.rmtree(place, ignore_errors=True)  # of a try that came to no end
        average([run], model, **MODELS[name])
        hyps = place / "hyps.jsonl"
        recognize(model, [f"{corpus}:{split}"], hyps, workers=workers, fresh=True)
        pairs = [(e.ref.split(), e.text.split()) for e in hypotheses.read(hyps) if e.ref is not None]
        files.write_json(kept, [[edits(*pair).errors for pair in pairs], [len(ref) for ref, _ in pairs]])
    errors, words = json.loads(kept.read_text())
    return errors, words


def main() -> None:
    """Run what is not there yet, print, and with ``--page`` write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=shipped("an4-study"))
    parser.add_argument("--corpus", default=SYNTHETIC, help="a prepared corpus, or what prepare takes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--set", dest="settings", action="append", default=[], help="lay over the recipe")
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--page", type=Path)
    o = parser.parse_args()
    corpus = corpus_in(o.folder, o.corpus)
    split = next(name for name in ("test", "dev") if name in read_corpus(corpus)["splits"])
    alike = (
        *o.settings, f"corpus={json.dumps(str(corpus))}", f"ema.decay={DECAY}", "validation.every_steps=0",
        "checkpoint.every_steps=40", f"checkpoint.keep_last={KEPT}", "tensorboard=false",
    )  # fmt: skip
    rows = []
    for precision in o.precisions:
        runs = [
            trained(
                o.recipe, o.folder, f"{precision}-seed{seed}", o.workers,
                *alike, f"precision={precision}", f"seed={seed}",
            )
            for seed in range(1, o.seeds + 1)
        ]  # fmt: skip
        seconds = statistics.median(
            json.loads((run / "summary.json").read_text())["wall_seconds"] for run in runs
        )
        for name in MODELS:
            found = [counts(run, name, corpus, split, o.workers) for run in runs]
            rates = [sum(errors) / sum(words) for errors, words in found]
            low, high = interval_of(found, name)
            each = ", ".join(f"{100 * rate:.1f}" for rate in rates)
            rows.append(
                f"| {precision} | {name} | {100 * statistics.fmean(rates):.1f} % "
                f"| {100 * low:.1f} to {100 * high:.1f} | {each} | {seconds:.0f} |"
            )
            print(rows[-1], file=sys.stderr, flush=True)
    lines = [
        *head("Precision and averaging: word error rates"),
        f"{o.recipe.name}, {o.seeds} seeds, {o.workers} workers, the {split} part, greedy search. Training "
        "in seconds, median.",
        "",
        "| precision | model | WER | 95 % | by seed | training, s |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    give(lines, o.page)


if __name__ == "__main__":
    main()

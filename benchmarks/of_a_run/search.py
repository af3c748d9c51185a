"""Beam search with a language model of the training texts: WER, time beside greedy, and times of words.

    python benchmarks/of_a_run/search.py RUN CORPUS [--beam 8] [--beside RUN] [--out NAME.md]

CORPUS is a prepared corpus with the splits train, dev and test. Weights are chosen on dev as
``hocket lm tune`` does, with a language model of the texts of train; test is searched with one of the texts
of train and dev, which is all there was to train on. Time is the processor's, of one thread: greedy is
reading, features, encoder and greedy search together, in the micro-batches of a job. ``--beside`` names
another model, trained or not, whose greedy job the same search is held against.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rapidfuzz.distance import Levenshtein

from hocket.batching import cut_by_budget
from hocket.core.transcript import Word
from hocket.corpus import audio
from hocket.corpus.audio import HOP, SAMPLE_RATE
from hocket.corpus.index import CorpusIndex, Utterance
from hocket.decoding import Scored, ngram, score
from hocket.decoding.alignment import align
from hocket.decoding.beam import BeamSearch, BeamSettings
from hocket.decoding.fusion import Weights
from hocket.decoding.greedy import greedy_paths
from hocket.decoding.paths import TokenPath, words
from hocket.hardware.device import describe, fix_arithmetic
from hocket.model import store
from hocket.recognition import opening, weights
from hocket.recognition.plan import BATCH_SECONDS


class Split:
    """Log-probabilities of a split, computed in the micro-batches of a job."""

    def __init__(self, corpus: Path, split: str, model: opening.Found) -> None:
        index = CorpusIndex.open(corpus, split)
        rows = range(len(index))
        self.encoder, self.vocabulary = opening.load(model, "cpu")
        self.ids, self.refs = [index.id(row) for row in rows], [index.utterance(row).text for row in rows]
        frames = [index.samples_of(row) // HOP for row in rows]
        log_probs: dict[int, npt.NDArray[np.float32]] = {}
        greedy: dict[int, TokenPath] = {}
        began = time.process_time()
        for part in cut_by_budget(frames, round(BATCH_SECONDS * SAMPLE_RATE / HOP)):
            features = [self._features(index.utterance(row)) for row in part.tolist()]
            found_BTV, lens_B = self.encoder.encode(features, frames[part[0]])
            paths = greedy_paths(found_BTV, lens_B, self.vocabulary.blank)
            for place, row in enumerate(part.tolist()):
                log_probs[row], greedy[row] = found_BTV[place, : lens_B[place]].numpy(), paths[place]
        self.greedy_seconds = time.process_time() - began
        self.log_probs, self.greedy = [log_probs[row] for row in rows], [greedy[row] for row in rows]

    def _features(self, utterance: Utterance) -> torch.Tensor:
        part = (utterance.audio, utterance.channel, utterance.start, utterance.num)
        return self.encoder.features(audio.read(*part))

    def wer(self, texts: list[str]) -> float:
        """Of one text for each utterance."""
        rows = zip(self.ids, texts, self.refs, strict=True)
        return score(Scored(id, text, ref) for id, text, ref in rows).wer

    def beam(self, settings: BeamSettings) -> tuple[list[list[int]], float]:
        """Tokens of each utterance, and the seconds it took."""
        search = BeamSearch(settings, self.vocabulary)
        began = time.process_time()
        return [search.search(found)[0].tokens for found in self.log_probs], time.process_time() - began

    def words(self, path: TokenPath, row: int) -> tuple[Word, ...]:
        """With times."""
        return words(path, self.log_probs[row], self.vocabulary, self.encoder.frame_seconds)


def main() -> None:
    """Choose weights on dev, report test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--beside")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    fix_arithmetic(1)
    model = opening.find(options.run)
    with tempfile.TemporaryDirectory() as folder:
        lm = Path(folder) / "lm.arpa"
        ngram.train(texts(options.corpus, "train"), 3).write(lm)
        tuned = weights.tune(
            options.run, [f"{options.corpus}:dev"], BeamSettings(options.beam, lm=lm), device="cpu"
        )
        ngram.train(texts(options.corpus, "train") + texts(options.corpus, "dev"), 3).write(lm)
        chosen = Weights(tuned.lm_scale, tuned.word_score)
        test = Split(options.corpus, "test", model)
        found, seconds = test.beam(BeamSettings(options.beam, lm=lm, weights=chosen))
    greedy = [test.vocabulary.text(path.tokens) for path in test.greedy]
    apart: dict[str, list[float]] = {"greedy": [], "beam": []}
    for row, ref in enumerate(test.refs):
        path = align(test.log_probs[row], test_tokens(options.run, ref), test.vocabulary.blank)
        aligned = align(test.log_probs[row], found[row], test.vocabulary.blank)
        if path is not None and aligned is not None:
            said = test.words(path, row)
            apart["greedy"] += distances(said, test.words(test.greedy[row], row))
            apart["beam"] += distances(said, test.words(aligned, row))
    rows = [
        "| what | figure |",
        "| --- | --- |",
        f"| greedy WER | {100 * test.wer(greedy):.2f} % |",
        f"| WER with the LM | {100 * test.wer([test.vocabulary.text(t) for t in found]):.2f} % |",
        f"| weights chosen on dev, of {len(tuned.tried)} pairs | LM {tuned.lm_scale:g}, "
        f"word {tuned.word_score:g}{', at the limit: ' * bool(tuned.at_limit)}{', '.join(tuned.at_limit)} |",
        f"| dev: greedy WER, with the LM | {100 * tuned.greedy_wer:.2f} %, {100 * tuned.wer:.2f} % |",
        f"| greedy job, one thread | {test.greedy_seconds:.2f} s |",
        f"| beam search on top | {seconds:.2f} s: {1 + seconds / test.greedy_seconds:.2f} times greedy |",
        *(beside(options.beside, options.corpus, seconds) if options.beside else ()),
        *(
            f"| {name}: times of words to the reference's | median {1e3 * statistics.median(all_):.0f} ms, "
            f"95th percentile {1e3 * float(np.percentile(all_, 95)):.0f} ms, {len(all_)} of them |"
            for name, all_ in apart.items()
        ),
    ]
    print("\n".join(rows))
    if options.out is not None:
        command = f"`python benchmarks/of_a_run/search.py RUN CORPUS --beam {options.beam}`"
        head = f"# Beam search\n\n{command}, {datetime.date.today()}; {json.dumps(describe())}\n"
        options.out.write_text("\n".join([head, *rows, ""]))


def beside(run: str, corpus: Path, search_seconds: float) -> list[str]:
    """What the search is beside another model's greedy job on test."""
    other = Split(corpus, "test", opening.find(run))
    num = sum(tensor.numel() for tensor in store.load(opening.find(run).folder).parameters())
    share = 1 + search_seconds / other.greedy_seconds
    return [
        f"| greedy job of a model of {num / 1e6:.1f} M parameters | {other.greedy_seconds:.2f} s |",
        f"| the same beam search on top of that | {share:.2f} times greedy |",
    ]


def texts(corpus: Path, split: str) -> list[str]:
    """Of a prepared corpus."""
    index = CorpusIndex.open(corpus, split)
    return [index.utterance(row).text for row in range(len(index))]


def distances(said: tuple[Word, ...], got: tuple[Word, ...]) -> list[float]:
    """Seconds between starts and ends of the words that were recognised right, among wrong ones too."""
    numbers: dict[str, int] = {}
    ids = [[numbers.setdefault(word.text, len(numbers)) for word in side] for side in (said, got)]
    found = []
    for op in Levenshtein.opcodes(*ids):
        if op.tag == "equal":
            pairs = zip(said[op.src_start : op.src_end], got[op.dest_start : op.dest_end], strict=True)
            found += [abs(t) for a, b in pairs for t in (a.start - b.start, a.end - b.end)]
    return found


def test_tokens(run: str, text: str) -> list[int]:
    """The reference as tokens of the run."""
    from hocket.corpus.tokens import Tokens

    return Tokens.load(opening.find(run).folder).encode(text)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

"""Rates of recognition on this machine, by recognising noise with a few small models, in each way there is.

Encoder and greedy search are timed as a worker runs them, one thread each, beside a reference kernel; the
models are those that training's rates come from, unlike any preset. The process that measures is started as
a worker is, with the same environment:

    python -m hocket.recognition.measuring FILE DEVICE THREADS
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hocket.core import clock, files, seeds
from hocket.decoding.vocabulary import Vocabulary
from hocket.hardware.device import choose_device, describe, fix_arithmetic
from hocket.hardware.memory import keep_freed_memory
from hocket.model import build, onnx_graph
from hocket.model.ctc import FastConformerCTC
from hocket.planning import calibrating
from hocket.planning.calibration import solve
from hocket.planning.demand import F64, WHOLE
from hocket.planning.recognizing.rates import WAYS, MeasuredRates, RecognitionRates, Way, counts_of
from hocket.planning.reference import Reference
from hocket.planning.trials import all_trials
from hocket.recognition import onnx_export
from hocket.recognition.encoders import Encoder, OnnxEncoder, TorchEncoder
from hocket.recognition.recognizer import Recognizer

_MODULE = "hocket.recognition.measuring"
_ROUNDS = 3

Told = Callable[[str, int, int], None]


def measure(path: Path, device: str, told: Told = lambda what, done, of: None) -> None:
    """Measure in a process of its own, and leave the rates in ``path``; about a minute on a core.

    Raises :class:`~hocket.core.errors.RunError` when that process fails.
    """
    calibrating.measure(path, device, 1, told, module=_MODULE)


def rates_here(device: torch.device, starting: float, told: Told) -> MeasuredRates:
    """Measure in this process, which has one thread, and took ``starting`` seconds until it was ready."""
    reference = Reference(device)
    lacking = dict[str, str]()
    encoding: dict[Way, tuple[float, ...]] = {}
    errors: list[float] = []
    trials = [trial for trial in all_trials() if trial.cut == WHOLE]
    done, of = 0, len(trials) * len(WAYS)
    for way in WAYS:
        reason = why_not(way, device)
        if reason is not None:
            lacking[str(way)] = reason
            done += len(trials)
            continue
        counts: list[F64] = []
        seconds: list[float] = []
        for trial in trials:
            told(f"{way}, {trial.config.hidden_size} channels", done, of)
            model = build(trial.config, seed=0).eval()
            counts += [counts_of(trial.config, rows, frames) for rows, frames in trial.shapes]
            seconds += _timed(_recognizer(model, way, device), trial.shapes, reference)
            done += 1
        rates = solve(counts, seconds)
        said = np.array(counts) @ rates
        errors.append(float(np.median(np.abs(said / seconds - 1))))
        encoding[way] = tuple(rates.tolist())
    told("done", of, of)
    rates_found = RecognitionRates(encoding, starting, max(errors))
    return MeasuredRates(describe(), device.type, rates_found, lacking)


def why_not(way: Way, device: torch.device) -> str | None:
    """Why a way cannot be had on this machine; None where it can."""
    if way.backend == "torch":
        return None
    if device.type != "cpu":
        return "ONNX Runtime computes on the CPU"
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        return None
    return "it needs packages that are not here: pip install 'hocket[onnx]'"


def _recognizer(model: FastConformerCTC, way: Way, device: torch.device) -> Recognizer:
    encoder: Encoder
    if way.backend == "torch":
        encoder = TorchEncoder(model, device, way.precision)
    else:
        with tempfile.TemporaryDirectory(prefix="hocket-") as folder:
            path = Path(folder) / "model.onnx"
            graph = onnx_graph.graph(model, onnx_export.metadata(model), int8=way.precision == "int8")
            files.write_bytes(path, graph.SerializeToString())
            encoder = OnnxEncoder(path)
    num_tokens = model.config.vocab_size
    pieces = (*(f" {number}" for number in range(num_tokens - 1)), "")
    return Recognizer(encoder, Vocabulary(pieces, num_tokens - 1, " "))


def _timed(recognizer: Recognizer, shapes: Sequence[tuple[int, int]], reference: Reference) -> list[float]:
    """Seconds of each shape (rows, frames): median over rounds relative to the reference, times its least."""
    draw = seeds.generator("recognition")
    noise = [
        [torch.from_numpy(draw.standard_normal((frames, 80), np.float32)) for _ in range(rows)]
        for rows, frames in shapes
    ]

    def once(number: int) -> tuple[float]:
        start = reference.now()
        recognizer.recognize(noise[number], shapes[number][1])
        return (reference.now() - start,)

    for number in range(len(shapes)):  # kernels are prepared
        once(number)
    ratios = [
        [reference.beside(partial(once, number))[0] for number in range(len(shapes))] for _ in range(_ROUNDS)
    ]
    return [float(ratio) * reference.least for ratio in np.median(np.array(ratios), axis=0)]


def main() -> None:
    """Measure as the command line says."""
    starting = clock.spent()  # a worker loads the same libraries, and computes all the while
    path, device, threads = sys.argv[1:4]
    fix_arithmetic(int(threads))
    keep_freed_memory()

    def told(what: str, done: int, of: int) -> None:
        sys.stdout.write(f"{done} {of} {what}\n")
        sys.stdout.flush()

    rates_here(choose_device(device), starting, told).write(Path(path))


if __name__ == "__main__":
    main()

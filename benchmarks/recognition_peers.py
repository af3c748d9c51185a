"""Audio-seconds per second of hocket and its peers, on the same models, files and cores.

Models of 5 M and 30 M parameters with random weights, in fp32 and int8; files of noise in FLAC, of
log-normal lengths, unless ``--audio`` names a folder. Everything counts that a job does after its start:
reading and decoding audio, features, encoder, search. Contestants take turns, round by round:

* hocket: ``hocket recognize`` on an exported folder, one worker with one thread for each core
* sherpa-default: sherpa-onnx as its examples use it: file by file, its own number of threads
* sherpa-tuned: a process with one thread for each core, files sorted by length, the best of several batches
* onnx-asr: file by file, as its documentation shows
* ceiling: ONNX Runtime alone on ready-made features of equal length, one process for each core

    python benchmarks/recognition_peers.py [--seconds 20] [--rounds 3] [--models 5M 30M] [--out NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000
MODELS: dict[str, dict[str, Any]] = {
    "5M": {"preset": "small", "hidden_size": 176, "num_layers": 7, "ff_size": 704},
    "30M": {"preset": "medium"},
}
GRAPHS = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
TUNED_BATCHES = (1, 4, 16)


def make_audio(folder: Path, num: int = 120) -> None:
    """Noise in FLAC; lengths like those of read speech."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number, seconds in enumerate(np.clip(generator.lognormal(1.5, 0.6, num), 1.0, 20.0)):
        wave = generator.normal(0, 0.05, round(seconds * RATE)).astype(np.float32)
        soundfile.write(folder / f"{number:03}.flac", wave, RATE)


def make_model(folder: Path, shape: dict[str, Any]) -> int:
    """An exported model with random weights; its number of parameters."""
    from hocket.corpus.tokens import CharTokens
    from hocket.model import ModelConfig, build, store
    from hocket.recognition.export import export

    tokens = CharTokens(" " + "".join(chr(0x4E00 + number) for number in range(499)))
    config = ModelConfig.model_validate(shape).with_tokens(tokens.vocab_size)
    run = folder.with_name(f"{folder.name}-run")
    store.save(run / "model", build(config, seed=0))
    tokens.save(run / "model")
    report = export(run, folder, "onnx", int8=True)
    # What onnx-asr looks for beside the graph.
    (folder / "vocab.txt").write_text((folder / "tokens.txt").read_text())
    return report.num_parameters


# Pieces: each runs in processes of its own, prints one line when it is ready and one with its figures.


def sorted_files(audio: Path) -> list[Path]:
    return sorted(audio.rglob("*.flac"), key=lambda path: soundfile.info(path).frames)


def forever(files: list[Path], size: int, part: int, parts: int) -> Iterator[list[Path]]:
    """This process's batches, over and over."""
    batches = [files[start : start + size] for start in range(0, len(files), size)][part::parts]
    while True:
        yield from batches


def sherpa(graph: Path, threads: int | None) -> Callable[[list[Path]], float]:
    import sherpa_onnx

    chosen = {} if threads is None else {"num_threads": threads}
    tokens = str(graph.with_name("tokens.txt"))
    recognizer = sherpa_onnx.OfflineRecognizer.from_nemo_ctc(model=str(graph), tokens=tokens, **chosen)

    def step(paths: list[Path]) -> float:
        streams, seconds = [], 0.0
        for path in paths:
            wave, _ = soundfile.read(path, dtype="float32")
            streams.append(recognizer.create_stream())
            streams[-1].accept_waveform(RATE, wave)
            seconds += len(wave) / RATE
        recognizer.decode_streams(streams)
        assert all(isinstance(stream.result.text, str) for stream in streams)
        return seconds

    return step


def onnx_asr(graph: Path) -> Callable[[list[Path]], float]:
    import onnx_asr as peer

    quantization = "int8" if "int8" in graph.name else None
    model = peer.load_model("nemo-conformer-ctc", str(graph.parent), quantization=quantization)

    def step(paths: list[Path]) -> float:
        seconds = 0.0
        for path in paths:
            wave, _ = soundfile.read(path, dtype="float32")
            assert isinstance(model.recognize(wave, sample_rate=RATE), str)
            seconds += len(wave) / RATE
        return seconds

    return step


def ceiling(graph: Path) -> Callable[[list[Path]], float]:
    import torch

    from hocket.recognition.encoders import OnnxEncoder

    encoder = OnnxEncoder(graph)
    features = [torch.randn(500, 80) for _ in range(12)]

    def step(_: list[Path]) -> float:
        encoder.encode(features, 500)
        return 60.0

    return step


def piece(name: str, graph: Path, audio: Path, seconds: float, size: int, part: int, parts: int) -> None:
    """Work for that long, after one step to warm up; print what was done."""
    step = {
        "sherpa-default": lambda: sherpa(graph, None),
        "sherpa-tuned": lambda: sherpa(graph, 1),
        "onnx-asr": lambda: onnx_asr(graph),
        "ceiling": lambda: ceiling(graph),
    }[name]()
    batches = forever(sorted_files(audio), size, part, parts)
    step(next(batches))
    print("ready", flush=True)
    sys.stdin.readline()
    began, done = time.perf_counter(), 0.0
    while time.perf_counter() - began < seconds:
        done += step(next(batches))
    print(json.dumps({"audio": done, "wall": time.perf_counter() - began}), flush=True)


def run_peer(name: str, graph: Path, audio: Path, seconds: float, size: int, cores: list[int]) -> float:
    """Audio-seconds per second of all processes of a contestant together."""
    single = name in ("sherpa-default", "onnx-asr")
    places: list[list[int]] = [cores] if single else [[core] for core in cores]
    processes = []
    for part, place in enumerate(places):
        words = [sys.executable, __file__, "--piece", name, str(graph), str(audio)]
        words += [str(seconds), str(size), str(part), str(len(places))]
        pinned = ["taskset", "-c", ",".join(map(str, place)), *words]
        processes.append(subprocess.Popen(pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    rates = []
    try:
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
        if any(line != "ready\n" for line in lines):
            raise RuntimeError(f"{name} did not start")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            rates.append(told["audio"] / told["wall"])
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return sum(rates)


def run_hocket(graph: Path, audio: Path, seconds: float, cores: list[int], rate: float) -> float:
    """The steady rate of a job long enough for ``seconds`` at a guessed ``rate``."""
    lasting = sum(soundfile.info(path).duration for path in audio.rglob("*.flac"))
    times = max(1, round(seconds * rate / lasting))
    precision = next(name for name, file in GRAPHS.items() if file == graph.name)
    with tempfile.TemporaryDirectory() as folder:
        words = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", "hocket", "recognize"]
        words += [str(graph.parent), *[str(audio)] * times, "--out", f"{folder}/hyps.jsonl", "--json"]
        words += ["--precision", precision, "--workers", str(len(cores)), "--device", "cpu"]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["rtfx_steady"])


def contest(graph: Path, audio: Path, seconds: float, rounds: int, cores: list[int]) -> dict[str, float]:
    """Medians over rounds; a contestant that cannot run is left out, with the reason on standard error."""
    rates: dict[str, list[float]] = {}
    guess = run_hocket(graph, audio, 5.0, cores, 50.0 * len(cores))
    plans = [("sherpa-default", 1), *(("sherpa-tuned", size) for size in TUNED_BATCHES), ("onnx-asr", 1)]
    for _ in range(rounds):
        rates.setdefault("hocket", []).append(run_hocket(graph, audio, seconds, cores, guess))
        for name, size in [*plans, ("ceiling", 1)]:
            label = f"{name}, batches of {size}" if name == "sherpa-tuned" else name
            try:
                rates.setdefault(label, []).append(run_peer(name, graph, audio, seconds, size, cores))
            except (RuntimeError, ValueError) as error:
                print(f"{graph}: {label}: {error}", file=sys.stderr)
    return {label: statistics.median(found) for label, found in rates.items() if found}


def main() -> None:
    """Make models and audio, let everybody run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--cores", type=int, nargs="+", default=sorted(os.sched_getaffinity(0))[:2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from hocket.hardware.device import describe

    rows = ["| model | precision | contestant | audio-s/s | hocket is |", "| --- | --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as folder:
        audio = options.audio or Path(folder) / "audio"
        if options.audio is None:
            make_audio(audio)
        for name in options.models:
            num = make_model(Path(folder) / name, MODELS[name])
            for precision, file in GRAPHS.items():
                found = contest(
                    Path(folder) / name / file, audio, options.seconds, options.rounds, options.cores
                )
                for label, rate in found.items():
                    ratio = f"{found['hocket'] / rate:.2f} times"
                    rows.append(f"| {num / 1e6:.1f} M | {precision} | {label} | {rate:.0f} | {ratio} |")
                    print(rows[-1], flush=True)
    if options.out is not None:
        versions = {
            package: importlib.metadata.version(package)
            for package in ("onnxruntime", "sherpa-onnx", "onnx-asr")
        }
        machine = json.dumps({**describe(), **versions, "cores used": options.cores})
        command = " ".join(["python benchmarks/recognition_peers.py", *sys.argv[1:]])
        head = f"# Recognition beside its peers\n\n`{command}`, {datetime.date.today()}; {machine}\n"
        options.out.write_text("\n".join([head, *rows, ""]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--piece"]:
        told_name, told_graph, told_audio, told_seconds, *told = sys.argv[2:]
        piece(told_name, Path(told_graph), Path(told_audio), float(told_seconds), *map(int, told))
    else:
        main()

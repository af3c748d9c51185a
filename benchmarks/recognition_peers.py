"""Audio-seconds per second of hocket and its peers, on the same models, files and cores.

Models of 5 M and 30 M parameters with random weights, in fp32 and int8; files of noise in FLAC, of
log-normal lengths, unless ``--audio`` names a folder. Everything counts that a job does after its start:
reading and decoding audio, features, encoder, search. Contestants take turns, round by round:

* hocket: ``hocket recognize`` on an exported folder, one worker with one thread for each core
* sherpa-default: sherpa-onnx as its examples use it: file by file, its own number of threads
* sherpa-tuned: files sorted by length; the best of several batches, and of a process for each core or one
  with a thread for each, by a short trial of each
* onnx-asr: file by file, as its documentation shows
* ceiling: ONNX Runtime alone, one process for each core, on ready-made features: the same files in
  micro-batches sorted by length, every row as long as the longest; the best of several sizes, by a trial

    python benchmarks/recognition_peers.py [--seconds 60] [--rounds 1] [--models 5M 30M] [--out NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import functools
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

RATE, HOP = 16_000, 160
MODELS: dict[str, dict[str, Any]] = {
    "5M": {"preset": "small", "hidden_size": 176, "num_layers": 7, "ff_size": 704},
    "30M": {"preset": "medium"},
}
GRAPHS = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
SETTINGS: dict[str, list[tuple[int, bool]]] = {
    "sherpa-default": [(1, True)],
    "sherpa-tuned": [(1, False), (4, False), (16, False), (1, True), (8, True)],
    "onnx-asr": [(1, True)],
    "ceiling": [(10, False), (30, False), (60, False)],
}
"""Of each contestant: files of a batch (of the ceiling: seconds), and whether one process has all cores."""
TRIAL_SECONDS = 6.0
CORES = sorted(os.sched_getaffinity(0))[:2]


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


def by_number(files: list[Path], size: int) -> list[list[Path]]:
    return [files[start : start + size] for start in range(0, len(files), size)]


def by_seconds(files: list[Path], seconds: int) -> list[list[Path]]:
    """Micro-batches as hocket cuts them."""
    from hocket.batching import cut_by_budget

    frames = np.array([soundfile.info(path).frames // HOP for path in files])
    return [[files[place] for place in part] for part in cut_by_budget(frames, seconds * RATE // HOP)]


def in_some_order(batches: list[list[Path]]) -> Iterator[list[Path]]:
    """Over and over, so that a part of them is like all of them."""
    generator = np.random.default_rng(1)
    while True:
        yield from (batches[place] for place in generator.permutation(len(batches)))


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
    frames = functools.cache(lambda path: soundfile.info(path).frames // HOP)

    def step(paths: list[Path]) -> float:
        longest = max(map(frames, paths))
        encoder.encode([torch.zeros(longest, 80) for _ in paths], longest)
        return len(paths) * longest * HOP / RATE

    return step


def piece(name: str, graph: Path, audio: Path, seconds: float, size: int, threads: int) -> None:
    """Work for that long, after one step to warm up; print what was done."""
    step = {
        "sherpa-default": lambda: sherpa(graph, None),
        "sherpa-tuned": lambda: sherpa(graph, threads),
        "onnx-asr": lambda: onnx_asr(graph),
        "ceiling": lambda: ceiling(graph),
    }[name]()
    files = sorted_files(audio)
    batches = in_some_order(by_seconds(files, size) if name == "ceiling" else by_number(files, size))
    step(next(batches))
    print("ready", flush=True)
    sys.stdin.readline()
    began, done = time.perf_counter(), 0.0
    while time.perf_counter() - began < seconds:
        done += step(next(batches))
    print(json.dumps({"audio": done, "wall": time.perf_counter() - began}), flush=True)


def run_peer(name: str, graph: Path, audio: Path, seconds: float, setting: tuple[int, bool]) -> float:
    """Audio-seconds per second of all processes of a contestant together."""
    size, single = setting
    places = [CORES] if single else [[core] for core in CORES]
    processes = []
    for place in places:
        words = [sys.executable, __file__, "--piece", name, str(graph), str(audio)]
        words += [str(seconds), str(size), str(len(place))]
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


def run_hocket(graph: Path, audio: Path, seconds: float, rate: float) -> float:
    """The steady rate of a job long enough for ``seconds`` at a guessed ``rate``."""
    lasting = sum(soundfile.info(path).duration for path in audio.rglob("*.flac"))
    times = max(1, round(seconds * rate / lasting))
    precision = next(name for name, file in GRAPHS.items() if file == graph.name)
    with tempfile.TemporaryDirectory() as folder:
        words = ["taskset", "-c", ",".join(map(str, CORES)), sys.executable, "-m", "hocket", "recognize"]
        words += [str(graph.parent), *[str(audio)] * times, "--out", f"{folder}/hyps.jsonl", "--json"]
        words += ["--precision", precision, "--workers", str(len(CORES)), "--device", "cpu"]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["rtfx_steady"])


def tune(name: str, graph: Path, audio: Path) -> tuple[int, bool]:
    """The setting of a contestant that is fastest in a trial of each."""
    settings = SETTINGS[name]
    if len(settings) == 1:
        return settings[0]
    return max(settings, key=lambda setting: run_peer(name, graph, audio, TRIAL_SECONDS, setting))


def contest(graph: Path, audio: Path, seconds: float, rounds: int) -> dict[str, tuple[str, float]]:
    """What each is, and its median over rounds; one that cannot run is left out, and it is said why."""
    guess = run_hocket(graph, audio, TRIAL_SECONDS, 100.0 * len(CORES))
    contestants: dict[str, tuple[str, Callable[[], float]]] = {
        "hocket": ("", lambda: run_hocket(graph, audio, seconds, guess))
    }
    for name in SETTINGS:
        try:
            size, single = tune(name, graph, audio)
        except (RuntimeError, ValueError) as error:
            print(f"{graph}: {name}: {error}", file=sys.stderr)
            continue
        run = functools.partial(run_peer, name, graph, audio, seconds, (size, single))
        unit = "s" if name == "ceiling" else "files"
        tuned = f"batches of {size} {unit}, {'one process' if single else 'a process a core'}"
        contestants[name] = ("" if len(SETTINGS[name]) == 1 else tuned, run)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (_, run) in contestants.items():
            rates[name].append(run())
    return {name: (contestants[name][0], statistics.median(found)) for name, found in rates.items()}


def main() -> None:
    """Make models and audio, let everybody run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from hocket.hardware.device import describe

    rows = [
        "| model | precision | contestant | tuned to | audio-s/s | hocket is |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        audio = options.audio or Path(folder) / "audio"
        if options.audio is None:
            make_audio(audio)
        for name in options.models:
            num = make_model(Path(folder) / name, MODELS[name])
            for precision, file in GRAPHS.items():
                found = contest(Path(folder) / name / file, audio, options.seconds, options.rounds)
                for label, (tuned, rate) in found.items():
                    ratio = f"{found['hocket'][1] / rate:.2f} times"
                    rows.append(
                        f"| {num / 1e6:.1f} M | {precision} | {label} | {tuned} | {rate:.0f} | {ratio} |"
                    )
                    print(rows[-1], flush=True)
    if options.out is not None:
        versions = {
            package: importlib.metadata.version(package)
            for package in ("onnxruntime", "sherpa-onnx", "onnx-asr")
        }
        machine = json.dumps({**describe(), **versions, "cores used": CORES})
        command = " ".join(["python benchmarks/recognition_peers.py", *sys.argv[1:]])
        head = f"# Recognition beside its peers\n\n`{command}`, {datetime.date.today()}; {machine}\n"
        options.out.write_text("\n".join([head, *rows, ""]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--piece"]:
        told_name, told_graph, told_audio, told_seconds, *told = sys.argv[2:]
        piece(told_name, Path(told_graph), Path(told_audio), float(told_seconds), *map(int, told))
    else:
        main()

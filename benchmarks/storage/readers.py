"""Reading rate in the order of training, beside lhotse Shar's own reader and WebDataset over the same tars.

python -m storage.readers CORPUS [--rounds 5] [--readers 1 2] [--address URL]      (in benchmarks/)

All is decoded to float32 at its own rate and resampled to 16 kHz by the same function. hocket reads in the
order of training; the others in the order of their shards, which asks less of them. Sides take turns; each
reader is a process of its own with one thread, pinned to a core. ``cold`` drops the system's memory of files
before each turn (needs root); with --address all read over HTTP.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import soundfile

from hocket.corpus import audio

SIDES = ("hocket", "lhotse", "webdataset")


def hocket_side(corpus: Path, address: str | None, part: tuple[int, int], cache: str | None) -> Iterator[int]:
    """Samples of each utterance, through storage."""
    from hocket.corpus.index import CorpusIndex
    from hocket.corpus.shard_source import StorageSettings
    from hocket.studies.storage import read_pass

    index = CorpusIndex.open(corpus, "train")
    settings = StorageSettings(
        cache=None if cache is None else Path(cache), cache_gb=0 if cache is None else 20
    )
    one = read_pass(index, address, settings, part=part)
    yield from [round(one.audio_seconds * audio.SAMPLE_RATE / one.utterances)] * one.utterances


def lhotse_side(corpus: Path, address: str | None, part: tuple[int, int], cache: str | None) -> Iterator[int]:
    """The same through ``CutSet.from_shar``: every such shard."""
    from lhotse import CutSet

    folder = corpus / "train" / "shar"
    names = sorted(path.name for path in folder.glob("cuts.*"))[part[0] :: part[1]]

    def place(name: str) -> str:
        return str(folder / name) if address is None else f"{address}/train/shar/{name}"

    tars = [name.replace("cuts", "recording").replace("jsonl.gz", "tar") for name in names]
    fields = {"cuts": [place(name) for name in names], "recording": [place(name) for name in tars]}
    for cut in CutSet.from_shar(fields=fields):
        x_CN = cut.load_audio()
        yield len(audio.resample(x_CN[0], cut.sampling_rate))


def webdataset_side(
    corpus: Path, address: str | None, part: tuple[int, int], cache: str | None
) -> Iterator[int]:
    """The same through ``webdataset.WebDataset``: every such shard."""
    import webdataset

    names = sorted(path.name for path in (corpus / "train" / "shar").glob("*.tar"))[part[0] :: part[1]]
    base = str(corpus) if address is None else f"pipe:curl -s {address}"
    for sample in webdataset.WebDataset([f"{base}/train/shar/{name}" for name in names], shardshuffle=False):
        data = next(value for name, value in sample.items() if name.split(".")[-1] in _ENDINGS)
        x_N, rate = soundfile.read(io.BytesIO(data), dtype="float32")
        yield len(audio.resample(x_N if x_N.ndim == 1 else x_N[:, 0], rate))


_ENDINGS = {name.removeprefix(".") for name in audio.AUDIO_SUFFIXES}
READ = {"hocket": hocket_side, "lhotse": lhotse_side, "webdataset": webdataset_side}


def one_reader(arguments: argparse.Namespace) -> None:
    """A reader: imports, says so, waits for the word, and reads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {arguments.number % (os.cpu_count() or 1)})
    if arguments.side == "lhotse":
        import lhotse  # noqa: F401
    elif arguments.side == "webdataset":
        import webdataset  # noqa: F401
    else:
        import hocket.studies.storage  # noqa: F401
    audio.resample(audio.np.zeros(100, audio.np.float32), 24_000)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    begun = time.perf_counter()
    part = (arguments.number, arguments.of)
    lengths = list(READ[arguments.side](arguments.corpus, arguments.address, part, arguments.cache))
    seconds = time.perf_counter() - begun
    told = {"utterances": len(lengths), "samples": sum(lengths), "seconds": seconds}
    sys.stdout.write(json.dumps(told) + "\n")


def turn(corpus: Path, side: str, readers: int, cold: bool, address: str | None) -> tuple[float, int]:
    """Seconds from the word to the last reader's end, and the utterances read."""
    command = [sys.executable, "-m", "storage.readers", str(corpus), "--side", side, "--of", str(readers)]
    if address is not None:
        command += ["--address", address]
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [*command, "--number", str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=own,
        )
        for number in range(readers)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    if cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate()[0]) for process in processes]
    return max(one["seconds"] for one in told), sum(one["utterances"] for one in told)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--address")
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    parser.add_argument("--cache")
    arguments = parser.parse_args()
    if arguments.side:
        one_reader(arguments)
        return
    size = sum(path.stat().st_size for path in (arguments.corpus / "train" / "shar").glob("*.tar")) / 1e6
    sys.stdout.write(
        "| readers | | side | utterances/s | MB/s | hocket over it, median of rounds (range) |\n"
    )
    sys.stdout.write("| ---: | --- | --- | ---: | ---: | ---: |\n")
    for readers in arguments.readers:
        for cold in (True, False):
            seconds: dict[str, list[float]] = {side: [] for side in SIDES}
            for number in range(arguments.rounds):
                order = SIDES if number % 2 == 0 else SIDES[::-1]
                counts = set()
                for side in order:
                    took, count = turn(arguments.corpus, side, readers, cold, arguments.address)
                    seconds[side].append(took)
                    counts.add(count)
                assert len(counts) == 1, f"sides read different numbers of utterances: {counts}"
            (count,) = counts
            for side in SIDES:
                middle = sorted(seconds[side])[arguments.rounds // 2]
                ratios = sorted(
                    theirs / ours for theirs, ours in zip(seconds[side], seconds["hocket"], strict=True)
                )
                ratio = f"{ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                row = f"| {readers} | {'cold' if cold else 'warm'} | {side} | {count / middle:.0f} "
                sys.stdout.write(f"{row}| {size / middle:.1f} | {ratio} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

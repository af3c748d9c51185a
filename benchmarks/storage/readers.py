"""Reading rate in the order of training, beside lhotse Shar's own reader and WebDataset over the same tars.

python -m storage.readers CORPUS [--rounds 5] [--readers 1 2] [--address URL]      (in benchmarks/)

Every side delivers the same: each utterance decoded to an array of float32 at 16 kHz (resampled by one
function where it has another rate); with ``--most 0`` it is looked that all deliver equally many samples.
Peers have what serves them best: lhotse goes straight to libsndfile and tries no other library first,
WebDataset takes only the recordings out of the tars, reads them through a large buffer, and decodes as its
users do who have no torchaudio, by ``soundfile.read``. ``webdataset-fast`` decodes as hocket does, which is
by dr_flac where the extra ``fast`` is installed (say which it was). ``decoding`` does nothing but that, with
recordings that lie in memory before its time begins: no reader can be faster. hocket reads in the order of
training and looks at every checksum; the others read in the order of their shards and check nothing, which
asks less of them. Sides take turns; each reader is a process of its own with one thread, pinned to a core.
``cold`` drops the system's memory of files before each turn (needs root); with --address all read over HTTP.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import soundfile

from hocket.corpus import audio, flac
from hocket.corpus.index import CorpusIndex, Utterance

SIDES = ("hocket", "lhotse", "webdataset", "webdataset-fast", "decoding")


def hocket_side(
    corpus: Path, address: str | None, part: tuple[int, int], cache: str | None, most: int | None
) -> Iterator[int]:
    """Samples, all at the first of the utterances, through storage."""
    from hocket.corpus.storage.shard_source import StorageSettings
    from hocket.studies.storage import read_pass

    index = CorpusIndex.open(corpus, "train")
    settings = StorageSettings(
        cache=None if cache is None else Path(cache), cache_gb=0 if cache is None else 20
    )
    one = read_pass(index, address, settings, part=part, most=most)
    yield round(one.audio_seconds * audio.SAMPLE_RATE)
    yield from [0] * (one.utterances - 1)


def lhotse_side(
    corpus: Path, address: str | None, part: tuple[int, int], cache: str | None, most: int | None
) -> Iterator[int]:
    """The same through ``CutSet.from_shar``: every such shard."""
    from lhotse import CutSet
    from lhotse.audio import set_current_audio_backend

    set_current_audio_backend("LibsndfileBackend")
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
    corpus: Path,
    address: str | None,
    part: tuple[int, int],
    cache: str | None,
    most: int | None,
    *,
    fast: bool = False,
) -> Iterator[int]:
    """The same through ``webdataset.WebDataset``: every such shard."""
    import webdataset

    names = sorted(path.name for path in (corpus / "train" / "shar").glob("*.tar"))[part[0] :: part[1]]
    base = str(corpus) if address is None else f"pipe:curl -s {address}"
    shards = [f"{base}/train/shar/{name}" for name in names]
    for sample in webdataset.WebDataset(shards, shardshuffle=False, select_files=_is_audio):
        yield decoded(next(value for name, value in sample.items() if _is_audio(name)), fast)


_ENDINGS = {name.removeprefix(".") for name in audio.AUDIO_SUFFIXES}


def _is_audio(name: str) -> bool:
    return name.rpartition(".")[2] in _ENDINGS


def decoded(data: bytes, fast: bool) -> int:
    """Samples at 16 kHz of a recording, decoded."""
    whole = flac.decode(data) if fast else None
    x_N, rate = whole or soundfile.read(io.BytesIO(data), dtype="float32")
    return len(audio.resample(x_N if x_N.ndim == 1 else x_N[:, 0], rate))


class DecodingSide:
    """Decoding alone: the recordings are read when it is made."""

    def __init__(self, corpus: Path, part: tuple[int, int], most: int | None) -> None:
        index = CorpusIndex.open(corpus, "train")
        self._recordings = [
            _bytes_of(index.utterance(row))
            for row in itertools.islice(range(part[0], len(index), part[1]), most)
        ]

    def __call__(self, *_: object) -> Iterator[int]:
        """Samples of each."""
        return (decoded(data, True) for data in self._recordings)


def _bytes_of(utterance: Utterance) -> bytes:
    assert isinstance(utterance.member, tuple)
    begin, size = utterance.member
    with utterance.audio.open("rb") as file:
        file.seek(begin)
        return file.read(size)


READ = {
    "hocket": hocket_side,
    "lhotse": lhotse_side,
    "webdataset": webdataset_side,
    "webdataset-fast": partial(webdataset_side, fast=True),
}


def one_reader(arguments: argparse.Namespace) -> None:
    """A reader: imports, says so, waits for the word, and reads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {arguments.number % (os.cpu_count() or 1)})
    if arguments.side == "lhotse":
        import lhotse  # noqa: F401
    elif arguments.side.startswith("webdataset"):
        import webdataset  # noqa: F401
    else:
        import hocket.studies.storage  # noqa: F401
    with suppress(ImportError):
        import miniaudio  # noqa: F401
    audio.resample(audio.np.zeros(100, audio.np.float32), 24_000)
    part = (arguments.number, arguments.of)
    most = arguments.most // arguments.of if arguments.most else None
    read = (
        DecodingSide(arguments.corpus, part, most) if arguments.side == "decoding" else READ[arguments.side]
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    begun = time.perf_counter()
    source = read(arguments.corpus, arguments.address, part, arguments.cache, most)
    lengths = list(itertools.islice(source, most))
    seconds = time.perf_counter() - begun
    told = {"utterances": len(lengths), "samples": sum(lengths), "seconds": seconds}
    sys.stdout.write(json.dumps(told) + "\n")


def turn(
    corpus: Path, side: str, readers: int, cold: bool, address: str | None, most: int
) -> tuple[float, float]:
    """Utterances and seconds of speech a second, from the word to the last reader's end."""
    command = [sys.executable, "-m", "storage.readers", str(corpus), "--side", side, "--of", str(readers)]
    command += ["--most", str(most)]
    if address is not None:
        command += ["--address", address]
    own = {**os.environ, "OMP_NUM_THREADS": "1", "GOPEN_BUFFER": str(1 << 20)}
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
    seconds = max(one["seconds"] for one in told)
    samples = sum(one["samples"] for one in told)
    if not most and samples != CorpusIndex.open(corpus, "train").total_samples:
        raise SystemExit(f"{side} delivers {samples} samples")
    speech = samples / audio.SAMPLE_RATE
    return sum(one["utterances"] for one in told) / seconds, speech / seconds


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
    parser.add_argument("--most", type=int, default=600, help="utterances of a turn; 0: all")
    arguments = parser.parse_args()
    if arguments.side:
        one_reader(arguments)
        return
    index = CorpusIndex.open(arguments.corpus, "train")
    assert index.places is not None
    megabytes = float(index.places.size.sum()) / 1e6 / (index.total_samples / audio.SAMPLE_RATE)
    head = "| readers | | side | utterances/s | MB/s | s of speech/s | hocket over it, median (range) |\n"
    sys.stdout.write(head + "| ---: | --- | --- | ---: | ---: | ---: | ---: |\n")
    for readers in arguments.readers:
        for cold in (True, False):
            rates: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
            for number in range(arguments.rounds):
                for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                    told = turn(arguments.corpus, side, readers, cold, arguments.address, arguments.most)
                    rates[side].append(told)
            for side in SIDES:
                utterances, speech = sorted(rates[side], key=lambda one: one[1])[arguments.rounds // 2]
                pairs = zip(rates[side], rates["hocket"], strict=True)
                ratios = sorted(ours[1] / theirs[1] for theirs, ours in pairs)
                ratio = f"{ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                row = f"| {readers} | {'cold' if cold else 'warm'} | {side} | {utterances:.0f} "
                sys.stdout.write(f"{row}| {megabytes * speech:.2f} | {speech:.0f} | {ratio} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

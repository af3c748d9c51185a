"""An hour-long file of joined utterances: its word errors, its memory, and whether all workers work.

python benchmarks/of_a_run/recognition_long.py RUN CORPUS:SPLIT [--minutes 60] [--out RESULT.md]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from hocket.corpus import audio
from hocket.recognition import inputs, score

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recognition_material import MemoryWatch, answer, page, start


def join(names: list[str], minutes: float, folder: Path, name: str) -> Path:
    """A table of one recording of so many minutes, made of utterances with a text, and its words."""
    items = [item for item in inputs.collect(names) if item.ref is not None]
    order = np.random.default_rng(5).permutation(len(items))
    path = folder / f"{name}.flac"
    words: list[str] = []
    written = place = 0
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
        while written < minutes * 60 * 16_000:
            item = items[order[place % len(items)]]
            samples = audio.read(item.audio, item.channel, item.start, item.num, item.member)
            file.write(samples)
            written, place = written + len(samples), place + 1
            words.append(item.ref or "")
    table = folder / f"{name}.jsonl"
    table.write_text(json.dumps({"id": name, "audio": str(path), "text": " ".join(words)}) + "\n")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--max-seconds", type=float)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    longest = [] if options.max_seconds is None else ["--max-seconds", options.max_seconds]
    rows = [
        "| audio | pieces | WER, % | peak of the coordinator, MiB | peak of a worker, MiB | busy, % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {
            "the utterances one by one": options.inputs,
            "2 minutes": [str(join(options.inputs, 2.0, folder, "short"))],
            f"{options.minutes:g} minutes": [str(join(options.inputs, options.minutes, folder, "long"))],
        }
        for number, (title, names) in enumerate(tables.items()):
            hyps = folder / f"{number}.jsonl"
            process = start(
                "recognize", options.run, *names, "--out", hyps, "--workers", options.workers, *longest
            )
            watch = MemoryWatch(process, every=0.1)
            told = answer(process)
            watch.join()
            wer = score.score_file(hyps).wer
            steady = told["wall_seconds"] - told["startup_seconds"]
            busy = [
                (worker["encode_seconds"] + worker["decode_seconds"] + worker["read_seconds"]) / steady
                for worker in told["per_worker"]
            ]
            peaks = [max(sample[column] for sample in watch.samples) / 2**20 for column in (1, 2)]
            shares = ", ".join(f"{100 * min(1.0, share):.0f}" for share in busy)
            rows.append(
                f"| {title} | {told['num_pieces']} | {100 * wer:.2f} | {peaks[0]:.0f} | {peaks[1]:.0f} "
                f"| {shares} |"
            )
            print(rows[-1], flush=True)
    text = (
        "Busy: reading, encoding and searching, of the time from the first worker's being ready to the end, "
        "the writing of results included. Reading runs beside computing, so the sum may pass 100."
    )
    page("A long recording", text, rows, options.out)


if __name__ == "__main__":
    main()

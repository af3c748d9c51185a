"""The same transcripts for any workers, engine, batch size, and after an interruption; other arithmetic.

All that must be equal runs in fp32 and is compared with the job of one worker, byte for byte. ``stopped``
is a job of two workers of which every process is killed as soon as its journal has some micro-batches, and
that is then started again. Ray's row is there where Ray is installed. Other arithmetic (bf16, and ONNX
Runtime in fp32 and int8) may change words: how many utterances, and what it does to the word errors.

python benchmarks/of_a_run/recognition_parity.py RUN INPUT... [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hocket.recognition import hypotheses
from hocket.recognition.compare import differing
from hocket.recognition.export import export
from hocket.recognition.job import find_model, recognize
from hocket.recognition.plan import BATCH_SECONDS
from hocket.recognition.score import score

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recognition_material import answer, page, start

LARGE = 256
"""Utterances: more than a micro-batch can hold."""


def stopped(model: Path, inputs: list[str], out: Path) -> None:
    """A job of two workers that is killed in the middle, and started again by the same command."""
    command = ["recognize", model, *inputs, "--workers", 2, "--batch-seconds", BATCH_SECONDS, "--out", out]
    journal = out.with_name(out.name + ".journal")
    process = start(*command)
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.002)
    if process.poll() is not None:
        raise SystemExit("the job ended before it could be stopped: name more inputs")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if out.exists():
        raise SystemExit("there are results of a job that was killed")
    answer(start(*command))


def main() -> None:
    """Recognise the inputs each way and compare with the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model, inputs = find_model(options.run), options.inputs

    def job(workers: int, size: int, seconds: float, engine: str = "processes") -> Callable[[Path], object]:
        return lambda out: recognize(
            *(model, inputs, out),
            **{"workers": workers, "max_utterances": size, "batch_seconds": seconds, "engine": engine},
        )

    ways: dict[str, Callable[[Path], object]] = {"1 worker": job(1, LARGE, BATCH_SECONDS)}
    ways |= {f"{workers} workers": job(workers, LARGE, BATCH_SECONDS) for workers in (2, 3)}
    if importlib.util.find_spec("ray"):
        ways["2 workers, Ray's actors"] = job(2, LARGE, BATCH_SECONDS, "ray")
    ways["2 workers, stopped, started again"] = lambda out: stopped(model, inputs, out)
    ways |= {f"at most {size} utterances a batch": job(1, size, 600.0) for size in (1, 8, 64)}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(model, folder / "exported", "onnx", int8=True)
        others = {
            "torch, bf16": (model, "bf16"),
            "ONNX Runtime, fp32": (folder / "exported", "fp32"),
            "ONNX Runtime, int8": (folder / "exported", "int8"),
        }
        rows = ["| | answers | sha256 | differing |", "| --- | --- | --- | --- |"]
        first = folder / "0.jsonl"
        for number, (title, run) in enumerate(ways.items()):
            out = folder / f"{number}.jsonl"
            run(out)
            found = hypotheses.read(out)
            apart = differing(hypotheses.read(first), found)
            digest = hashlib.sha256(out.read_bytes()).hexdigest()[:12]
            listed = "; ".join(f"{each.id}: {each.text_a!r} / {each.text_b!r}" for each in apart)
            rows.append(f"| {title} | {len(found)} | {digest} | {len(apart)} {listed} |")
            print(rows[-1], flush=True)

        reference = hypotheses.read(first)
        rows += ["", "| arithmetic | differing | WER |", "| --- | --- | --- |"]
        rows.append(f"| torch, fp32 | | {100 * score(reference).wer:.2f} % |")
        for number, (title, (path, precision)) in enumerate(others.items()):
            out = folder / f"other-{number}.jsonl"
            recognize(path, inputs, out, workers=1, precision=precision, batch_seconds=BATCH_SECONDS)
            found = hypotheses.read(out)
            num = len(differing(reference, found))
            rows.append(f"| {title} | {num} of {len(found)} | {100 * score(found).wer:.2f} % |")
            print(rows[-1], flush=True)
    text = f"{len(reference)} utterances of {', '.join(map(str, inputs))}, fp32 unless it says otherwise."
    page("Transcripts by workers, engines, batches and arithmetic", text, rows, options.out)


if __name__ == "__main__":
    main()

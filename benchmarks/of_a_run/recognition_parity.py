"""The same transcripts for any number of workers, and how far batch sizes change them.

python benchmarks/of_a_run/recognition_parity.py RUN INPUT... [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import tempfile
from pathlib import Path

from hocket.hardware.device import describe
from hocket.recognition import hypotheses
from hocket.recognition.compare import differing
from hocket.recognition.job import find_model, recognize

WORKERS = (1, 2, 3)
BATCH_SIZES = (1, 8, 64)


def main() -> None:
    """Recognise the inputs each way and compare with the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = find_model(options.run)
    rows = [
        "| workers | utterances in a batch, at most | answers | sha256 | differing |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        first: Path | None = None
        for workers, size in [*((w, 256) for w in WORKERS), *((1, s) for s in BATCH_SIZES)]:
            out = Path(folder) / f"{workers}-{size}.jsonl"
            recognize(model, options.inputs, out, workers=workers, max_utterances=size, batch_seconds=600.0)
            first = first or out
            apart = differing(hypotheses.read(first), hypotheses.read(out))
            digest = hashlib.sha256(out.read_bytes()).hexdigest()[:12]
            listed = "; ".join(f"{d.id}: {d.text_a!r} / {d.text_b!r}" for d in apart)
            rows.append(
                f"| {workers} | {size} | {len(hypotheses.read(out))} | {digest} | {len(apart)} {listed} |"
            )
            print(rows[-1], flush=True)
    if options.out is not None:
        command = f"`python benchmarks/of_a_run/recognition_parity.py RUN {' '.join(options.inputs)}`"
        machine = json.dumps(describe())
        head = (
            f"# Transcripts over workers and batch sizes\n\n{command}, {datetime.date.today()}; {machine}\n"
        )
        options.out.write_text("\n".join([head, *rows, ""]))


if __name__ == "__main__":
    main()

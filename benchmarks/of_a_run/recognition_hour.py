"""An hour-long recording in one piece: one process, and several that share its frames, write the same.

python benchmarks/of_a_run/recognition_hour.py RUN CORPUS:SPLIT [--minutes 60] [--sp 2] [--out RESULT.md]

RUN is of a model with a limited context (model.left_context, model.right_context), so that its time is linear
in the length. The recording is made of utterances with a text, joined.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from recognition_long import join

from hocket.model import store
from hocket.recognition import hypotheses, job, score

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recognition_material import MemoryWatch, answer, page, start


def main() -> None:
    """Recognise the utterances, then the recording by one process and by a group; compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--sp", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = store.load_config(job.find_model(options.run))
    longest = ["--max-seconds", 90 * options.minutes]
    rows = [
        "| audio | processes | WER, % | wall, s | encoding, s | peak of a worker's first process, MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    texts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hour = [str(join(options.inputs, options.minutes, folder, "hour"))]
        group = ["--layout", f"sp={options.sp}"]
        ways = [("the utterances one by one", options.inputs, 1, [])]
        ways += [(f"{options.minutes:g} minutes in one piece", hour, 1, longest)]
        ways += [(f"{options.minutes:g} minutes in one piece", hour, options.sp, [*longest, *group])]
        for number, (title, names, processes, how) in enumerate(ways):
            hyps = folder / f"{number}.jsonl"
            process = start("recognize", options.run, *names, "--out", hyps, *how)
            watch = MemoryWatch(process, every=0.1)
            told = answer(process)
            watch.join()
            encoding = sum(worker["encode_seconds"] for worker in told["per_worker"])
            peak = max(sample[2] for sample in watch.samples) / 2**20
            rows.append(
                f"| {title} | {processes} | {100 * score.score_file(hyps).wer:.2f} "
                f"| {told['wall_seconds']:.1f} | {encoding:.1f} | {peak:.0f} |"
            )
            print(rows[-1], flush=True)
            texts.append([hypothesis.text for hypothesis in hypotheses.read(hyps)])
    same = texts[1] == texts[2]
    text = (
        f"Context: {config.left_context} frames back, {config.right_context} ahead, "
        f"{config.num_layers} layers. The transcripts of one process and of {options.sp} "
        f"{'are the same' if same else 'DIFFER'}: {len(texts[1][0]):,} characters."
    )
    page("An hour in one piece", text, rows, options.out)
    if not same:
        raise SystemExit("transcripts differ")


if __name__ == "__main__":
    main()

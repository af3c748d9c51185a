"""What a job costs beside its encoder, and what two workers give against two lone processes.

In turns, several times: the encoder alone on ready-made batches of equal lengths (one process, one
thread, nothing else); a job of one worker; a job of two; two jobs of one worker at the same time, each
on half of the inputs. Audio seconds per second from the moment that workers are ready.

    python benchmarks/of_a_run/recognition_speed.py RUN INPUT... [--repeat 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from hocket.recognition import inputs
from hocket.recognition.job import find_model
from hocket.recognition.plan import BATCH_SECONDS

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from recognition_material import answer, page, start

ENCODER = """
import sys, time, torch
from pathlib import Path
from hocket.hardware.device import fix_arithmetic
from hocket.recognition.recognizer import Recognizer
fix_arithmetic(1)
folder, batch_seconds, length, seconds = Path(sys.argv[1]), *map(float, sys.argv[2:])
recognizer = Recognizer.load(folder, "cpu")
frames = round(length * 100)
num = max(1, int(batch_seconds * 100) // frames)
bins = recognizer.features(torch.zeros(16000).numpy()).shape[1]
batch = [torch.randn(frames, bins) for _ in range(num)]
recognizer.recognize(batch, frames)
began, spent, done = time.perf_counter(), 0.0, 0
while time.perf_counter() - began < seconds:
    spent += recognizer.recognize(batch, frames).encode_seconds
    done += 1
print(done * num * frames / 100 / spent)
"""


def encoder_alone(model: Path, batch_seconds: float, length: float, seconds: float) -> float:
    """Audio seconds per second of the encoder on ready-made batches."""
    words = [str(model), str(batch_seconds), str(length), str(seconds)]
    done = subprocess.run([sys.executable, "-c", ENCODER, *words], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--repeat", type=int, default=1, help="Times that the inputs are named.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-seconds", type=float, default=BATCH_SECONDS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = find_model(options.run)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = list(inputs.collect(options.inputs)) * options.repeat
        tables = []
        for part, chosen in (("all", items), ("even", items[::2]), ("odd", items[1::2])):
            tables.append(folder / f"{part}.jsonl")
            rows = [
                {"id": f"{number}", "audio": str(item.audio.absolute()), "channel": item.channel}
                for number, item in enumerate(chosen)
            ]
            tables[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
        speeds: dict[str, list[float]] = {"encoder": [], "one": [], "two": [], "apart": []}
        count = 0

        def job(table: Path, workers: int) -> subprocess.Popen[str]:
            nonlocal count
            count += 1
            return start(
                *("recognize", model, table, "--out", folder / f"{count}.jsonl", "--workers", workers),
                *("--batch-seconds", options.batch_seconds, "--device", "cpu"),
            )

        for _ in range(options.rounds):
            one = answer(job(tables[0], 1))
            speeds["one"].append(one["rtfx_steady"])
            length = one["audio_seconds"] / one["num_utterances"]
            steady = min(60.0, one["wall_seconds"] - one["startup_seconds"])
            speeds["encoder"].append(encoder_alone(model, options.batch_seconds, length, steady))
            speeds["two"].append(answer(job(tables[0], 2))["rtfx_steady"])
            both = [job(tables[1], 1), job(tables[2], 1)]
            speeds["apart"].append(sum(answer(process)["rtfx_steady"] for process in both))
            print({name: round(values[-1], 1) for name, values in speeds.items()}, flush=True)
    worker = one["per_worker"][0]
    parts = {name: round(value, 2) for name, value in worker.items() if name.endswith("_seconds")}
    middle = {name: statistics.median(values) for name, values in speeds.items()}
    encoder, apart = middle["encoder"], middle["apart"]
    page(
        "What a job costs beside its encoder",
        f"{one['num_utterances']:,} utterances of {length:.2f} s in the mean; medians of {options.rounds} "
        f"rounds. The worker of the last job of one: {json.dumps(parts)}.",
        [
            "| what | audio seconds per second | ratio |",
            "| --- | --- | --- |",
            f"| encoder alone, batches of equal lengths | {encoder:.1f} | 1 |",
            f"| a job of one worker | {middle['one']:.1f} | {middle['one'] / encoder:.3f} of the encoder |",
            f"| two jobs of one worker at once | {apart:.1f} | 1 |",
            f"| a job of two workers | {middle['two']:.1f} | {middle['two'] / apart:.3f} of two jobs |",
        ],
        options.out,
    )


if __name__ == "__main__":
    main()

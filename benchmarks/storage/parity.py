"""The weights of the same recipe from files, shards, a far store and a warm cache, on one and two workers.

python -m storage.parity SOURCE OUT [--steps 12]      (in benchmarks/)

SOURCE is what ``hocket prepare`` takes. Under ``numerics.exact`` all weights must be the same bit for bit,
and every step must have learnt from the same utterances.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from faulty_store import serving
from hocket.core import events


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    out: Path = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    hocket = [sys.executable, "-m", "hocket"]
    plain, shards = out / "plain", out / "shards"
    subprocess.run([*hocket, "prepare", arguments.source, str(plain)], check=True)
    subprocess.run(
        [*hocket, "prepare", arguments.source, str(shards), "--shards", "--shard-mb", "4"], check=True
    )
    found: dict[str, tuple[str, list[int]]] = {}
    with serving(shards) as server:
        sides = {
            "files": (plain, None, "a", 1),
            "shards": (shards, None, "a", 1),
            "far store, cold": (shards, server.address, "b", 2),
            "far store, warm": (shards, server.address, "b", 2),
            "far store, too little room": (shards, server.address, "c", 2),
        }
        for name, (corpus, store, cache, workers) in sides.items():
            before = server.num_bytes
            one = {"path": str(corpus), **({} if store is None else {"store": store})}
            room = 1e-3 if cache == "c" else 1.0
            recipe = {
                "corpus": [one],
                "steps": arguments.steps,
                "device": "cpu",
                "model": {
                    "preset": "tiny",
                    "hidden_size": 32,
                    "num_layers": 2,
                    "num_heads": 2,
                    "ff_size": 64,
                },
                "batch": {"seconds": 60, "micro_batches_per_step": 4, "pool_steps": 4},
                "numerics": {"exact": True},
                "loading": {"cache_mb": 0, "storage": {"cache": str(out / cache), "cache_gb": room}},
                "tensorboard": False,
            }
            file, run = out / "recipe.yaml", out / f"run-{len(found)}"
            file.write_text(yaml.safe_dump(recipe))
            command = [*hocket, "train", str(file), "--run", str(run), "--workers", str(workers)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            summary = json.loads((run / "summary.json").read_text())
            steps = [step["utterances"] for step in events.surviving_steps(run / "events.jsonl")]
            found[name] = summary["weights_sha256"], steps
            served = (server.num_bytes - before) / 1e6
            sys.stdout.write(
                f"{name}, {workers} workers: {summary['weights_sha256']}, {served:.1f} MB served\n"
            )
            sys.stdout.flush()
    same = len({json.dumps(told) for told in found.values()}) == 1
    sys.stdout.write("all the same\n" if same else "NOT the same\n")
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()

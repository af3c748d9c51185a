"""How long training waits for data, by store, behind a link of known rate and delay; how full the link is.

python -m storage.training CORPUS OUT [--mbit 200] [--delay-ms 20] [--s3-python PYTHON] [--steps 60]

In benchmarks/, as root. CORPUS is prepared with --shards. Each run begins with an empty cache of blocks,
reads all audio in every step (no features are kept), and trains on two workers. The first steps, which start
threads and connections, are left out of the waits, and named. What came over the link stands beside what the
blocks of the corpus have: what is more was asked for twice, or is headers of the network (3 %, and
acknowledgements). Below the need of training (``--mbit 4``) the link should be full and that no more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import yaml

from hocket.core import events
from hocket.corpus.index import CorpusIndex
from storage import servers

LEFT_OUT = 3


def recipe(
    corpus: Path, store: str | None, cache: Path, options: dict[str, Any], arguments: Any
) -> dict[str, Any]:
    """A recipe that trains from a store."""
    one: dict[str, Any] = {"path": str(corpus)}
    if store is not None:
        one["store"] = store
    return {
        "corpus": [one],
        "steps": arguments.steps,
        "device": "cpu",
        "precision": "bf16",
        "model": {"preset": arguments.model},
        "batch": {"seconds": arguments.seconds, "micro_batches_per_step": 4},
        "loading": {"cache_mb": 0, "storage": {"cache": str(cache), "options": options}},
        "validation": {"take": "last"},
        "tensorboard": False,
    }


class Traffic(AbstractContextManager["Traffic"]):
    """What comes over the link, seen twice a second."""

    COUNTER = Path("/sys/class/net/hk0/statistics/rx_bytes")

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def megabytes(self) -> float:
        """All that came."""
        return (self._samples[-1][1] - self._samples[0][1]) / 1e6 if self._samples else 0.0

    def mbit(self, seconds: float) -> float:
        """Mbit/s from the first traffic on, for so many seconds; acknowledgements alone do not count."""
        pairs = list(itertools.pairwise(self._samples))
        rates = [(then - now, after - before) for (now, before), (then, after) in pairs]
        busy = [place for place, (took, num) in enumerate(rates) if num / took > 1e4]
        if not busy:
            return 0.0
        begin, last = pairs[busy[0]][1], pairs[busy[-1]][0]  # without the first and last half seconds
        until = min(begin[0] + seconds, last[0])
        end = max((sample for sample in self._samples if begin[0] < sample[0] <= until), default=last)
        return (end[1] - begin[1]) * 8e-6 / (end[0] - begin[0]) if end[0] > begin[0] else 0.0

    def _watch(self) -> None:
        while True:
            if self.COUNTER.is_file():
                self._samples.append((time.perf_counter(), int(self.COUNTER.read_text())))
            if self._over.wait(0.5):
                return


def run(name: str, corpus: Path, store: str | None, options: dict[str, Any], arguments: Any) -> None:
    """Train once and print a row."""
    own = arguments.out / name.replace(" ", "-").replace(",", "")
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    file = own / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(corpus, store, own / "cache", options, arguments)))
    command = [sys.executable, "-m", "hocket", "train", str(file), "--run", str(own / "run")]
    with Traffic() as traffic:
        subprocess.run([*command, "--workers", str(arguments.workers)], check=True, stdout=subprocess.DEVNULL)
    steps = events.surviving_steps(own / "run" / "events.jsonl")
    first = sum(step["seconds"]["data"] for step in steps[:LEFT_OUT])
    retries = sum(step.get("storage", {}).get("retries", 0) for step in steps)
    steps = steps[LEFT_OUT:]
    total = sum(sum(step["seconds"].values()) for step in steps)
    waits = sorted(step["seconds"]["data"] for step in steps)
    row = (
        f"| {name} | {sum(waits) / total:.2%} | {1000 * waits[len(waits) // 2]:.1f} | {1000 * waits[-1]:.0f} "
    )
    sys.stdout.write(
        f"{row}| {1000 * total / len(steps):.0f} | {first:.1f} | {traffic.mbit(first):.1f} "
        f"| {traffic.mbit(math.inf):.1f} "
        f"| {traffic.megabytes():.1f} | {retries:.0f} |\n"
    )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mbit", type=float, default=200.0)
    parser.add_argument("--delay-ms", type=float, default=20.0)
    parser.add_argument("--s3-python", help="an interpreter with moto[server]; without it S3 is left out")
    parser.add_argument("--no-disk", action="store_true", help="leave the local disk out")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seconds", type=float, default=120.0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    size = 0.0
    for split in ("train", "dev"):  # which is validated on
        if (arguments.corpus / split).is_dir():
            places = CorpusIndex.open(arguments.corpus, split).places
            assert places is not None
            size += float(places.block_length.sum()) / 1e6
    sys.stdout.write(json.dumps(vars(arguments), default=str) + f", the first {LEFT_OUT} steps left out; ")
    sys.stdout.write(f"{size:.1f} MB in blocks of what is read\n\n")
    sys.stdout.write(
        "| store | wait of step time | median wait, ms | longest, ms | step, ms | wait of the first, s "
        "| Mbit/s meanwhile | Mbit/s in all | MB over the link | retries of rank 0 |\n"
    )
    sys.stdout.write("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
    if not arguments.no_disk:
        run("local disk", arguments.corpus, None, {}, arguments)
    with ExitStack() as stack:
        stack.enter_context(servers.link(arguments.mbit))
        root, scratch = arguments.corpus.resolve(), arguments.out.resolve() / "nginx"
        with servers.nginx(root, scratch, behind_link=True, delay_ms=arguments.delay_ms) as address:
            run(
                f"nginx {arguments.mbit:g} Mbit/s {arguments.delay_ms:g} ms",
                arguments.corpus,
                address,
                {},
                arguments,
            )
        if arguments.s3_python:
            with servers.s3(root, arguments.s3_python, behind_link=True, delay_ms=arguments.delay_ms) as (
                address,
                endpoint,
            ):
                options = {"endpoint_url": endpoint}
                run(
                    f"S3 {arguments.mbit:g} Mbit/s {arguments.delay_ms:g} ms",
                    arguments.corpus,
                    address,
                    options,
                    arguments,
                )


if __name__ == "__main__":
    main()

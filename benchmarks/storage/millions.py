"""A hundred million utterances: open, the first batch, one in mid-epoch, and a resume there, on two workers.

python -m storage.millions FOLDER [--count 100000000]      (in benchmarks/; the folder is kept)

The index is generated, with places in shards; each step is measured in two fresh processes at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from hocket.batching import BatchPlan, BatchSettings
from hocket.batching.future import Future
from hocket.corpus import index as index_file
from hocket.corpus import places
from hocket.corpus.columns import ColumnWriter
from hocket.corpus.index import CorpusIndex
from hocket.corpus.places import Shard
from hocket.model import ModelConfig, workload

BLOCK, CHUNK, ITEM_BYTES, SHARD_BLOCKS = 64, 64 * 16384, 120_000, 40


def generate(folder: Path, count: int) -> None:
    """Write an index and places of ``count`` utterances, a chunk at a time."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(1)
    total = 0
    with ColumnWriter(folder / "train" / index_file.FILE, index_file.SCHEMA) as writer:
        for first in range(0, count, CHUNK):
            num = min(CHUNK, count - first)
            samples = (np.clip(draw.lognormal(2.36, 0.5, num), 1, 35) * 16000).astype(np.int64)
            tokens = np.maximum(1, samples // 1_300).astype(np.int32) // 16 + 1
            total += int(samples.sum())
            names = pa.array([f"u{row}" for row in range(first, first + num)], pa.large_string())
            # What a step does not look at is left empty: texts and tokens are read by row, like ids.
            nothing = pa.array([""] * num, pa.large_string())
            no_tokens = pa.LargeListArray.from_arrays(
                pa.array(np.zeros(num + 1, np.int64)), pa.array(np.empty(0, np.int32))
            )
            writer.add(
                {
                    "id": names,
                    "audio": nothing,
                    "channel": np.full(num, -1, np.int32),
                    "start": np.zeros(num, np.int64),
                    "num": samples,
                    "sample_rate": np.full(num, 16000, np.int32),
                    "text": nothing,
                    "speaker": draw.integers(0, 10_000, num).astype(np.int32),
                    "num_samples": samples,
                    "num_tokens": tokens,
                    "token_ids": no_tokens,
                    "block": (np.arange(first, first + num) // BLOCK).astype(np.int32),
                    "key": draw.integers(0, 2**64, num, dtype=np.uint64),
                }
            )
        writer.finish(
            {
                "version": index_file.VERSION,
                "split": "train",
                "fingerprint": "generated",
                "speakers": [f"s{number}" for number in range(10_000)],
                "total_samples": total,
                "stretches": [(0, BLOCK)],
            }
        )
    num_blocks = -(-count // BLOCK)
    shards = []
    for number, first in enumerate(range(0, num_blocks, SHARD_BLOCKS)):
        blocks = min(SHARD_BLOCKS, num_blocks - first)
        rows = min(count, (first + blocks) * BLOCK) - first * BLOCK
        offset = np.arange(rows, dtype=np.int64) * ITEM_BYTES + 512
        shards.append(
            (
                Shard(f"train/shar/recording.{number:06d}.tar", rows * ITEM_BYTES + 512, "0" * 64, rows),
                {
                    "offset": offset,
                    "size": np.full(rows, ITEM_BYTES - 1024, np.int64),
                    "crc": np.zeros(rows, np.uint32),
                    "start": np.zeros(rows, np.int64),
                    "block_offset": offset[::BLOCK],
                    "block_length": np.full(blocks, BLOCK * ITEM_BYTES, np.int64),
                },
            )
        )
    places.write(folder, "train", "generated", "generated", shards)


def measure(folder: Path, what: str) -> dict[str, float]:
    """Seconds and memory of one process for one of the steps."""
    cost = workload.cost(ModelConfig.model_validate({"preset": "tiny", "vocab_size": 32}))
    before = memory()
    begun = time.perf_counter()
    index = CorpusIndex.open(folder, "train")
    opened = time.perf_counter() - begun
    if what != "open":
        plan = BatchPlan(index, BatchSettings(), cost, seed=0, speed_percents=(90, 100, 110))
        step = plan.steps_per_epoch // 2 if what in ("middle", "resume") else 0
        batch = plan.global_batch(step)
        for spec in batch.micro_batches:
            for row in spec.rows.tolist():
                index.utterance(row)
        if what == "resume":  # what storage asks besides, when a run goes on
            future = Future(plan, 2 * plan.steps_per_epoch)
            next(future.upcoming(step))
            future.next_use(0, np.arange(index.num_blocks), step)
    seconds = time.perf_counter() - begun
    after = memory()
    return {
        "open": opened,
        "seconds": seconds,
        "resident_mb": after["VmRSS"],
        "peak_mb": after["VmHWM"],
        "own_mb": after["RssAnon"],
        "before_mb": before["VmRSS"],
    }


def memory() -> dict[str, float]:
    """MB by the kernel's names."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1e3 for name in ("VmHWM", "VmRSS", "RssAnon")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100_000_000)
    parser.add_argument("--measure", choices=("open", "first", "middle", "resume"))
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(measure(arguments.folder, arguments.measure)))
        return
    if not (arguments.folder / "train" / places.FILE).is_file():
        begun = time.perf_counter()
        generate(arguments.folder, arguments.count)
        sys.stdout.write(f"generated in {time.perf_counter() - begun:.0f} s\n\n")
    size = sum(path.stat().st_size for path in (arguments.folder / "train").iterdir()) / 1e9
    sys.stdout.write(f"{arguments.count:,} utterances, {size:.1f} GB of index and places\n\n")
    sys.stdout.write("| step | seconds, slower of two | resident of both, MB | their own, MB |\n")
    sys.stdout.write("| --- | ---: | ---: | ---: |\n")
    for what in ("open", "first", "middle", "resume"):
        command = [sys.executable, "-m", "storage.millions", str(arguments.folder), "--measure", what]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = [json.loads(process.communicate()[0]) for process in both]
        slower = max(one["seconds"] for one in told)
        resident, own = (sum(one[name] for one in told) for name in ("peak_mb", "own_mb"))
        sys.stdout.write(f"| {what} | {slower:.2f} | {resident:.0f} | {own:.0f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

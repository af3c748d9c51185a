"""Bytes on the wire for a step's gradients: whole in fp32, and as 1 bit with error feedback.

Each worker is a process on a host of its own (network namespaces joined by a switch, needs root), and
exchanges the gradients of a model of 5 M parameters over gloo, as training does. Two counts: what the
communicator says it sent (tensors), and what left the host's interface (with TCP's headers and answers).
Without root the workers run on one host, and the interface is not counted.

    python benchmarks/compression_bytes.py [--workers 2 4] [--rounds 5] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from hocket.comms.communicator import TorchCommunicator
from hocket.comms.links import Hosts, Link, ranks, why_not
from hocket.comms.links.hosts import INTERFACE
from hocket.comms.supervision import die_with_parent
from hocket.hardware.device import cpu_name
from hocket.model import ModelConfig, build
from hocket.parallel.buckets import make_buckets
from hocket.sync.compression import CompressionSettings

MODEL = {"preset": "small", "hidden_size": 176, "ff_size": 800, "vocab_size": 32}
COUNTER = Path(f"/sys/class/net/{INTERFACE}/statistics/tx_bytes")
NAMES = ("none", "one_bit")
LINK = Link.parse("1gbit")


def work(name: str, only_matrices: bool, rounds: int) -> dict[str, Any]:
    """One rank: exchange the gradients so many times; bytes of a round."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    communicator = TorchCommunicator()
    model = build(ModelConfig.model_validate(MODEL), seed=0)
    chosen = [(n, p) for n, p in model.named_parameters() if p.dim() > 1 or not only_matrices]
    buckets = make_buckets([(n, torch.nn.Parameter(p.detach())) for n, p in chosen], 4.0)
    exchange = TypeAdapter(CompressionSettings).validate_python(name).make(communicator, buckets)
    draw = torch.Generator().manual_seed(communicator.rank)

    def once() -> None:
        for bucket in buckets:
            bucket.flat.normal_(generator=draw)
            exchange.start(bucket, 1.0)
        exchange.finish()
        exchange.settle(torch.zeros(()))

    once()  # connections are made at the first use
    communicator.barrier()
    counted, left = communicator.bytes_sent, _left()
    for _ in range(rounds):
        once()
    counted, left = communicator.bytes_sent - counted, _left() - left
    communicator.barrier()
    return {
        "parameters": sum(p.numel() for _, p in chosen),
        "counted": counted / rounds,
        "left": left / rounds,
    }


def _left() -> int:
    return int(COUNTER.read_text()) if "HOCKET_COUNTS" in os.environ else 0


def measure(name: str, only_matrices: bool, workers: int, rounds: int) -> dict[str, Any]:
    """Rank 0's bytes of a round."""
    words = [sys.executable, str(Path(__file__).absolute()), "--rounds", str(rounds), "--work", name]
    words += ["--only-matrices"] if only_matrices else []
    with ExitStack() as stack:
        if why_not() is None:
            hosts = stack.enter_context(Hosts(workers, LINK, name="hocket-bytes"))
            started = [
                (hosts[rank].command(words), {**ranks.environment(rank, hosts), "HOCKET_COUNTS": "1"})
                for rank in range(workers)
            ]
        else:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = str(free.getsockname()[1])
            place = {"WORLD_SIZE": str(workers), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            started = [
                (words, {**place, "RANK": str(rank), "OMP_NUM_THREADS": "1"}) for rank in range(workers)
            ]
        processes = [
            subprocess.Popen(
                command, env={**os.environ, **own}, stdout=subprocess.PIPE, preexec_fn=die_with_parent
            )
            for command, own in started
        ]
        told = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{name}, {workers} workers: a rank failed")
    found: dict[str, Any] = json.loads(told[0])
    return found


def page(workers: Sequence[int], rounds: int, words: Sequence[str]) -> str:
    """The result file."""
    rows = []
    for number in workers:
        for only_matrices in (True, False):
            whole, small = (measure(name, only_matrices, number, rounds) for name in NAMES)
            wire = "| not counted | | |"
            if whole["left"]:
                wire = (
                    f"| {whole['left'] / 1e6:.3f} | {small['left'] / 1e6:.4f} "
                    f"| **{whole['left'] / small['left']:.1f}** |"
                )
            rows.append(
                f"| {number} | {'matrices' if only_matrices else 'all'} | {whole['parameters'] / 1e6:.3f} M "
                f"| {whole['counted'] / 1e6:.3f} | {small['counted'] / 1e6:.4f} "
                f"| **{whole['counted'] / small['counted']:.1f}** {wire}"
            )
    lines = [
        "# Bytes on the wire: 1 bit with error feedback beside fp32",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `{' '.join(['python benchmarks/compression_bytes.py', *words])}`",
        f"- machine: {cpu_name()}; workers on hosts of their own, {LINK.name} (namespaces), gloo",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        "- MB that rank 0 sends for the gradients of one step; counted: tensors, as `bytes_per_step` has",
        "  them; left the host: the interface's own count, with headers and acknowledgements",
        "",
        "| workers | of | parameters | fp32, counted | 1 bit, counted | times fewer | fp32, left the host "
        "| 1 bit, left the host | times fewer |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--only-matrices", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        print(json.dumps(work(asked.work, asked.only_matrices, asked.rounds)), flush=True)
        os._exit(0)
    text = page(asked.workers, asked.rounds, sys.argv[1:])
    sys.stdout.write(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

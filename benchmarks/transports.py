"""Which transport for a parameter server: latency, throughput, and what a killed peer does.

Two processes on loopback; the peer sends back what it gets. Each transport is used as its makers show
it: our own lines (hocket.comms.wire), torch RPC (TensorPipe), gloo point to point, ZeroMQ (REQ/REP,
no copies). Rounds of the transports are interleaved, so that a busy machine disturbs all alike.

    python benchmarks/transports.py [--rounds 5] [--megabytes 20]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

SMALL = 256
PATIENCE = 20.0
Ask = Callable[[torch.Tensor], torch.Tensor]


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wire(rank: int, port: int, secret: str) -> Ask | None:
    from hocket.comms.wire import Listener, connect
    from hocket.core.errors import WorkerLost

    if rank == 1:

        def serve(line: Any) -> None:
            buffer = torch.empty(0)
            while True:
                message = line.receive(buffer)
                buffer = message.tensors[0]
                line.send("echo", [buffer])

        listener = Listener(secret, "peer", serve, port=port, max_payload=1 << 30)
        threading.Event().wait()
        listener.close()
    while True:
        try:
            line = connect(("127.0.0.1", port), secret, "asker", max_payload=1 << 30)
            break
        except WorkerLost:
            time.sleep(0.05)
    line.set_patience(PATIENCE)
    answers: dict[int, torch.Tensor] = {}

    def ask(tensor: torch.Tensor) -> torch.Tensor:
        into = answers.setdefault(tensor.numel(), torch.empty_like(tensor))
        line.send("ask", [tensor])
        return line.receive(into).tensors[0]

    return ask


def echo(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def torch_rpc(rank: int, port: int, secret: str) -> Ask | None:
    import torch.distributed.rpc as rpc

    options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{port}", rpc_timeout=PATIENCE)
    rpc.init_rpc(f"rank{rank}", rank=rank, world_size=2, rpc_backend_options=options)
    if rank == 1:
        time.sleep(3600)
    return lambda tensor: rpc.rpc_sync("rank1", echo, args=(tensor,))


def gloo(rank: int, port: int, secret: str) -> Ask | None:
    from datetime import timedelta

    import torch.distributed as dist

    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        timeout=timedelta(hours=1),  # it waits while the others are measured
    )
    size = torch.empty(1, dtype=torch.int64)
    if rank == 1:
        while True:
            dist.recv(size, 0)
            tensor = torch.empty(int(size))
            dist.recv(tensor, 0)
            dist.send(tensor, 0)
    answers: dict[int, torch.Tensor] = {}

    def ask(tensor: torch.Tensor) -> torch.Tensor:
        into = answers.setdefault(tensor.numel(), torch.empty_like(tensor))
        dist.send(torch.tensor([tensor.numel()]), 1)
        dist.send(tensor, 1)
        dist.recv(into, 1)
        return into

    return ask


def zeromq(rank: int, port: int, secret: str) -> Ask | None:
    import zmq

    context = zmq.Context()
    if rank == 1:
        server = context.socket(zmq.REP)
        server.bind(f"tcp://127.0.0.1:{port}")
        while True:
            server.send(server.recv(copy=False), copy=False)
    client = context.socket(zmq.REQ)
    client.setsockopt(zmq.RCVTIMEO, int(1000 * PATIENCE))
    client.setsockopt(zmq.LINGER, 0)
    client.connect(f"tcp://127.0.0.1:{port}")

    def ask(tensor: torch.Tensor) -> torch.Tensor:
        client.send(memoryview(tensor.numpy()).cast("B"), copy=False)
        return torch.frombuffer(client.recv(copy=False).buffer, dtype=torch.float32)

    return ask


TRANSPORTS = {"own lines": wire, "torch RPC": torch_rpc, "gloo p2p": gloo, "ZeroMQ": zeromq}


def run(rank: int, name: str, port: int, secret: str, pipe: Any, size: int) -> None:
    torch.set_num_threads(1)
    ask = TRANSPORTS[name](rank, port, secret)
    assert ask is not None
    small, large = torch.randn(SMALL), torch.randn(size)
    assert torch.equal(ask(large), large)
    while True:
        order = pipe.recv()
        if order == "measure":
            latency = min(_timed(ask, small) for _ in range(200))
            throughput = 2 * large.nbytes / min(_timed(ask, large) for _ in range(5))
            pipe.send((latency, throughput))
        else:
            pipe.send("waiting")
            start = time.perf_counter()
            try:
                while True:
                    ask(small)
            except BaseException as error:
                told = str(error).strip().splitlines()
                pipe.send((time.perf_counter() - start, type(error).__name__, (told or [""])[-1][:120]))
            os._exit(0)


def _timed(ask: Ask, tensor: torch.Tensor) -> float:
    start = time.perf_counter()
    ask(tensor)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=20.0)
    options = parser.parse_args()
    size = int(options.megabytes * 1e6 / 4)
    context = multiprocessing.get_context("spawn")
    pairs = {}
    for name in TRANSPORTS:
        port, secret = _port(), "benchmark"
        ours, theirs = context.Pipe()
        processes = [
            context.Process(target=run, args=(rank, name, port, secret, theirs, size), daemon=True)
            for rank in (0, 1)
        ]
        for process in processes:
            process.start()
        pairs[name] = (ours, processes)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in TRANSPORTS}
    for _ in range(options.rounds):
        for name, (pipe, _) in pairs.items():
            pipe.send("measure")
            found[name].append(pipe.recv())
    for name, (pipe, processes) in pairs.items():
        pipe.send("die")
        pipe.recv()
        killed = time.perf_counter()
        assert processes[1].pid is not None
        os.kill(processes[1].pid, signal.SIGKILL)
        told = pipe.recv() if pipe.poll(PATIENCE + 20) else (None, "nothing", "it still waits")
        noticed = time.perf_counter() - killed
        print(
            json.dumps(
                {
                    "transport": name,
                    "latency_us": round(1e6 * statistics.median(latency for latency, _ in found[name]), 1),
                    "gigabytes_per_second": round(
                        statistics.median(rate for _, rate in found[name]) / 1e9, 3
                    ),
                    "noticed_sigkill_seconds": round(noticed, 4),
                    "told": f"{told[1]}: {told[2]}",
                }
            ),
            flush=True,
        )
    for _, processes in pairs.values():
        for process in processes:
            process.kill()


if __name__ == "__main__":
    main()

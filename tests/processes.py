"""Running a function as several real processes in one gloo group, for tests.

They are forked from a server that has imported what takes long, once for all tests.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def run_processes(
    world_size: int, work: Callable[..., T], *arguments: Any, seconds: float = 240.0
) -> list[T]:
    """``work(*arguments)`` on every rank; the results by rank. ``work`` must be importable."""
    context = _context()
    results: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{Path(folder, 'store')}"
        processes = [
            context.Process(
                target=_rank, args=(rank, world_size, store, work, arguments, results), daemon=True
            )
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            found: dict[int, Any] = {}
            while len(found) < world_size:
                rank, value, error = results.get(timeout=seconds)
                if error is not None:
                    raise AssertionError(f"rank {rank} failed:\n{error}")
                found[rank] = pickle.loads(value)
        finally:
            for process in processes:
                process.join(timeout=0 if len(found) < world_size else 30)
                process.kill()
    return [found[rank] for rank in range(world_size)]


def start_apart(work: Callable[..., None], *arguments: Any) -> Any:
    """``work(*arguments)`` in a process of its own, in no group; it must be importable."""
    process = _context().Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed.fsdp", "hocket.training.assembly"])
    return context


def _rank(
    rank: int, world_size: int, store: str, work: Callable[..., Any], arguments: tuple[Any, ...], results: Any
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", store, timedelta(seconds=120), world_size, rank)
        value = work(*arguments)
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
        raise
    results.put((rank, pickle.dumps(value), None))  # bytes: tensors would be handed over as open files

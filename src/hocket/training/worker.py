"""One rank of a training job: forked by hocket's own launcher, or started by torchrun or Slurm."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from datetime import timedelta
from pathlib import Path

# What is imported when first used elsewhere is imported here, before workers are forked: resampling
# needs the first, optimisers the second.
import scipy.signal  # noqa: F401
import torch
import torch._dynamo
import torch.distributed as dist

from hocket.comms.heartbeat import Heartbeat
from hocket.comms.launch import EXIT_PEER_LOST, rank_environment, ranks_per_host
from hocket.comms.mesh import Mesh
from hocket.core import clock
from hocket.core import recipe as recipes
from hocket.core.errors import EXIT_FAILED, HocketError
from hocket.hardware.device import backend, choose_device, fix_arithmetic
from hocket.hardware.memory import keep_freed_memory
from hocket.parallel.check import across_hosts
from hocket.training.assembly import assemble
from hocket.training.folder import RunFolder
from hocket.training.recipe import TrainRecipe

_COLLECTIVE_LIMIT = timedelta(minutes=30)
"""A collective that takes longer is lost; heartbeats notice a silent rank long before."""


def main() -> None:
    """Entry point of a rank that hocket's own launcher forked (:mod:`hocket.comms.nursery`)."""
    parser = argparse.ArgumentParser(prog="hocket.training.worker")
    parser.add_argument("run", type=Path)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher hears the keyboard and asks us to stop
    status = run_rank(RunFolder(arguments.run), resume=arguments.resume)
    sys.stdout.flush()
    sys.stderr.flush()
    # Leave at once: threads of a broken process group would keep an ordinary exit waiting.
    os._exit(status)


def run_rank(folder: RunFolder, *, resume: bool) -> int:
    """Train as one rank; the exit status says what a launcher should make of it."""
    try:
        _train(folder, resume=resume)
    except HocketError as error:
        folder.write_error(error)
        return EXIT_FAILED
    except Exception as error:
        traceback.print_exc()
        if _peer_lost(error):
            print("this rank ends because another one did", file=sys.stderr)
            return EXIT_PEER_LOST
        return EXIT_FAILED
    return 0


def _train(folder: RunFolder, *, resume: bool) -> None:
    starting = clock.Stopwatch()
    place = rank_environment()
    os.environ.update(place)
    rank, world_size, local_rank = (
        int(place["RANK"]),
        int(place["WORLD_SIZE"]),
        int(place.get("LOCAL_RANK", "0")),
    )
    # Before the recipe is read: the rank that writes it comes here when it has.
    with starting.time("rendezvous"):
        dist.init_process_group(backend(), timeout=_COLLECTIVE_LIMIT)
    recipe = recipes.load(folder.recipe, TrainRecipe)
    fix_arithmetic(recipe.threads)
    keep_freed_memory()
    device = choose_device(recipe.device, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    heartbeat = Heartbeat(folder.heartbeats, rank, recipe.faults.silence_seconds)
    try:
        mesh = Mesh(recipe.layout.fill(world_size), device)
        trainer = assemble(recipe, folder, mesh, device, heartbeat, resume=resume, starting=starting)
        warning = across_hosts(mesh.layout, ranks_per_host())
        if warning is not None:
            trainer.journal.write("warning", reason=warning)
        finished = trainer.run()
        seconds_by_rank = trainer.rank_seconds.by_rank()
        if rank == 0:
            summary = trainer.result(seconds_by_rank) if finished else {"steps": trainer.progress.step}
            trainer.journal.write("end", finished=finished, **summary)
        trainer.journal.close()
        trainer.seat.world.barrier()
    finally:
        heartbeat.close()


def _peer_lost(error: BaseException) -> bool:
    """True for what collectives raise when another process is gone.

    gloo raises a plain RuntimeError; its text names the file of its transport.
    """
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text
        for sign in ("gloo/transport", "Connection reset by peer", "Connection closed by peer", "NCCL")
    )

"""One rank of a probe, forked by :mod:`hocket.hardware.probing.launch`; what it measured goes into a file."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from hocket.comms.communicator import TorchCommunicator
from hocket.comms.launch import rank_environment
from hocket.core import clock
from hocket.core.events import EventLog
from hocket.hardware.device import backend, choose_device, fix_arithmetic
from hocket.hardware.probing import reading
from hocket.hardware.probing.jobs import Place, of_round
from hocket.hardware.probing.kernels import Reference
from hocket.hardware.probing.settings import ProbeSettings

SETTINGS, FILE, PROGRESS = "settings.json", "bytes", "progress.jsonl"
_LEAST_ROUNDS, _USUAL_ROUNDS = 2, 5
_SHARE = 0.6
"""Of the time that is given, for measuring; the rest goes into warming up and waiting."""
_LIMIT = timedelta(minutes=5)


def main() -> None:
    """Measure round by round, and leave ``rank-K.json`` in the folder on the command line."""
    folder = Path(sys.argv[1])
    settings = ProbeSettings.read(folder / SETTINGS)
    place = rank_environment()
    os.environ.update(place)
    fix_arithmetic(1)
    dist.init_process_group(backend(), timeout=_LIMIT)
    found = _measure(settings, _place(int(place.get("LOCAL_RANK", "0"))), folder)
    (folder / f"rank-{place['RANK']}.json").write_text(json.dumps(found))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads of the process group would keep an ordinary exit waiting


def _place(local_rank: int) -> Place:
    world = TorchCommunicator()
    device = choose_device("auto", local_rank)
    names = ["cpu"] * world.world_size
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # All ranks are on this host: the name of each one's device is known to all.
        devices = [choose_device("cuda", rank) for rank in range(world.world_size)]
        names = [torch.cuda.get_device_name(each).replace("/", "-") for each in devices]
    name = names[world.rank]
    pair = None
    if world.world_size > 1:
        group = dist.new_group([0, 1], timeout=_LIMIT)
        pair = TorchCommunicator(group) if world.rank < 2 else None
    return Place(world, pair, device, names.index(name) == world.rank, name)


def _measure(settings: ProbeSettings, place: Place, folder: Path) -> dict[str, object]:
    """Samples of each key, one a round; seconds of the reference product; how many rounds."""
    jobs = of_round(settings, place, folder / FILE, reading.cold_by(folder / FILE))
    reference = Reference()
    samples: dict[str, list[float]] = {}
    steady: list[float] = []
    log = EventLog(folder / PROGRESS, 1) if place.rank == 0 else None
    usual = min(settings.rounds, _USUAL_ROUNDS)
    each = settings.seconds * _SHARE / (usual * len(jobs))
    begun, rounds = clock.monotonic(), 0
    while True:
        for number, job in enumerate(jobs):
            place.world.barrier()  # the reference meets the same neighbours each time: all ranks at it
            steady.append(reference.seconds())
            place.world.barrier()
            if job.run is not None:
                samples.setdefault(job.key, []).append(job.run(each))
            if log is not None:
                log.write("job", done=rounds * len(jobs) + number + 1, of=len(jobs) * usual, key=job.key)
        rounds += 1
        took = clock.monotonic() - begun
        more = rounds < _LEAST_ROUNDS or (
            rounds < settings.rounds and took * (rounds + 1) / rounds < settings.seconds
        )
        # The first rank decides; the others may have other clocks.
        decision = torch.tensor([float(more)])
        place.world.broadcast(decision, 0)
        if not decision.item():
            return {"samples": samples, "reference": steady, "rounds": rounds, "device": place.name}

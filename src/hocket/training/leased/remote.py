"""Runs whose workers somebody else starts: srun, or one command on each machine.

Rank 0 starts the supervisor as a process of its own, ``python -m hocket.training.leased.remote RUN
WORKERS HOST``; all ranks, also rank 0, join it as workers, over the folder that all of them see.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hocket.comms.rendezvous import NAME
from hocket.comms.supervision import die_with_parent, while_signals
from hocket.core import recipe as recipes
from hocket.core.errors import EXIT_FAILED, HocketError, RunError
from hocket.training.folder import RunFolder
from hocket.training.leased import worker
from hocket.training.leased.crew import Elsewhere
from hocket.training.leased.launch import supervise
from hocket.training.recipe import TrainRecipe

_STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]


def join(folder: RunFolder, place: Mapping[str, str]) -> int:
    """Be one worker; on rank 0 the supervisor's parent, too. This process's exit status.

    The run's folder and its recipe are ready; ``place`` has ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``. Raises
    on rank 0 what the supervisor said when it ended before it had begun.
    """
    rank = int(place["RANK"])
    supervisor: subprocess.Popen[bytes] | None = None
    if rank == 0:
        (folder.root / NAME).unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", "hocket.training.leased.remote", str(folder.root)]
        paths = os.pathsep.join(part for part in sys.path if part)
        supervisor = subprocess.Popen(
            [*command, place["WORLD_SIZE"], place["MASTER_ADDR"]], env={**os.environ, "PYTHONPATH": paths}
        )

    def look() -> None:
        if supervisor is not None and supervisor.poll() is not None:
            raise folder.take_error() or RunError(
                f"{folder.root}: the supervisor left with status {supervisor.returncode} before it had begun"
            )

    with while_signals(_STOPS, lambda _signal: folder.stop.touch()):
        status = worker.run(folder, rank, int(place.get("LOCAL_RANK", "0")), look)
    return status if supervisor is None else supervisor.wait()


def main() -> None:
    """Entry point of the supervisor."""
    die_with_parent()
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 hears the keyboard and leaves a file
    folder, num_workers, host = RunFolder(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
    try:
        recipe = recipes.load(folder.recipe, TrainRecipe)
        supervise(folder, recipe, num_workers, host=host, spawn=lambda rank: Elsewhere(f"worker {rank}"))
    except HocketError as error:
        folder.write_error(error)
        print(f"the supervisor ends: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()

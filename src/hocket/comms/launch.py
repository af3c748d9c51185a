"""Starting the ranks of a job on this host through torchrun's elastic agent, in this process.

One call starts one *attempt*: all ranks, once. What ended it comes back as data, so that the job
decides what a failure means; the agent itself never restarts anything. The same worker runs under
``torchrun`` and Slurm, where somebody else starts the ranks: see :func:`launched_by_others`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, launch_agent

EXIT_PEER_LOST = 75
"""Exit status of a worker that ended because another one did."""


@dataclass(frozen=True)
class WorkerExit:
    """How one rank ended: an exit status, or the number of a signal."""

    rank: int
    pid: int
    exit_code: int
    """Negative: minus the number of the signal that ended it."""
    log: Path

    def describe(self) -> str:
        """For people: ``rank 2 (pid 4711) was ended by SIGKILL``."""
        who = f"rank {self.rank} (pid {self.pid})"
        if self.exit_code < 0:
            return f"{who} was ended by {signal.Signals(-self.exit_code).name}"
        return f"{who} left with status {self.exit_code}"


def run_attempt(
    module: str,
    arguments: Sequence[str],
    *,
    workers: int,
    log_dir: Path,
    environment: Mapping[str, str],
    grace_seconds: int = 10,
) -> list[WorkerExit]:
    """Start ``python -m module arguments`` as ``workers`` ranks, wait for all, say who failed.

    Returns the failed ranks, the first to fail first; empty when all left with 0. Standard output
    and error of each rank go to files under ``log_dir``. Ranks left over after a failure get
    SIGTERM and, ``grace_seconds`` later, SIGKILL.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    log_dir.mkdir(parents=True, exist_ok=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        run_id=f"hocket-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint=f"localhost:{_free_port()}",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=str(log_dir), redirects=Std.ALL),
        # Signals for the job are the launcher's business: it asks the ranks to stop in a file.
        signals_to_handle="SIGQUIT",
    )
    if "shutdown_timeout" in {field.name for field in fields(LaunchConfig)}:
        config.shutdown_timeout = grace_seconds
    saved = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        launch_agent(config, sys.executable, ["-m", module, *arguments])
    except ChildFailedError as error:
        failures = sorted(error.failures.items(), key=lambda item: item[1].timestamp)
        return [
            WorkerExit(
                rank, failure.pid, failure.exitcode, Path(str(failure.error_file)).parent / "stderr.log"
            )
            for rank, failure in failures
        ]
    except SignalException as error:
        raise KeyboardInterrupt from error
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return []


def launched_by_others(environment: Mapping[str, str] = os.environ) -> bool:
    """True when torchrun or Slurm (``srun``) has started this process as one rank of a job."""
    return (
        "TORCHELASTIC_RUN_ID" in environment
        or ("RANK" in environment and "WORLD_SIZE" in environment)
        or ("SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1)
    )


def rank_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT`` for this process.

    Under Slurm they are derived from its own variables: the first host of the node list leads, on a
    port made from the job id.
    """
    if "RANK" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        return {name: environment[name] for name in names if name in environment}
    job = int(environment.get("SLURM_JOB_ID", "0"))
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_NTASKS"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": environment.get(
            "MASTER_ADDR", _first_host(environment.get("SLURM_JOB_NODELIST", "localhost"))
        ),
        "MASTER_PORT": environment.get("MASTER_PORT", str(20000 + job % 20000)),
    }


def _first_host(node_list: str) -> str:
    """First host of Slurm's compact form: ``node[003-005,9],other`` gives ``node003``."""
    head, bracket, rest = node_list.partition("[")
    if not bracket or "," in head:
        return head.split(",")[0]
    number = rest.split("]")[0].split(",")[0].split("-")[0]
    return head + number


def _log(log_dir: Path, local_rank: int) -> Path:
    """Standard error of a rank; the agent puts folders of its own in between."""
    return next(log_dir.glob(f"*/*/{local_rank}/stderr.log"), log_dir)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])

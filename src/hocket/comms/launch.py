"""Who starts the ranks of a job, and what each rank then finds in its environment.

hocket starts them itself on one host (:mod:`hocket.comms.ranks`); torchrun and Slurm start the same worker
on any number of hosts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

EXIT_PEER_LOST = 75
"""Exit status of a worker that ended because another one did."""


def launched_by_others(environment: Mapping[str, str] = os.environ) -> bool:
    """True when torchrun or Slurm (``srun``) has started this process as one rank of a job."""
    return (
        "TORCHELASTIC_RUN_ID" in environment
        or ("RANK" in environment and "WORLD_SIZE" in environment)
        or ("SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1)
    )


def has_agent(environment: Mapping[str, str] = os.environ) -> bool:
    """True when an agent (hocket's launcher, torchrun) watches this rank, and says who was lost."""
    return "TORCHELASTIC_USE_AGENT_STORE" in environment


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


def ranks_per_host(environment: Mapping[str, str] = os.environ) -> int:
    """How many ranks of this job run on one host, as far as who started them says."""
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE"):
        number = environment.get(name, "").partition("(")[0].partition(",")[0]
        if number.isdecimal():
            return int(number)
    return int(environment.get("WORLD_SIZE", "1"))


def _first_host(node_list: str) -> str:
    """First host of Slurm's compact form: ``node[003-005,9],other`` gives ``node003``."""
    head, bracket, rest = node_list.partition("[")
    if not bracket or "," in head:
        return head.split(",")[0]
    number = rest.split("]")[0].split(",")[0].split("-")[0]
    return head + number

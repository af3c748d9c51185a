"""What page and terminal say alike: what to buy, the command, ranks and hosts, and what would be better."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hocket.reports.axes import brief, duration, number

_PAID = {"dollars": "$", "kilowatt_hours": "kWh"}


def paid(answer: Mapping[str, Any]) -> dict[str, str]:
    """What the plan knows of cost: names of fields, and heads of their columns."""
    return {name: head for name, head in _PAID.items() if answer["chosen"][name] is not None}


def by_workers(answer: Mapping[str, Any], mark: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table of the best way for each number of devices; ``mark`` is at the chosen one."""
    known, least = paid(answer), answer["by_workers"][0]
    head = ["", f"{answer['unit']}s", "best layout", "a step", "the run", "times as fast", "of ideal"]
    rows = []
    for each in answer["by_workers"]:
        gain = least["run_seconds"] / each["run_seconds"]
        rows.append(
            [
                mark if each == answer["chosen"] else "",
                f"{each['workers']:,}",
                each["layout"],
                brief(each["step_seconds"]),
                duration(each["run_seconds"]),
                f"{gain:.2f}",
                f"{100 * gain * least['workers'] / each['workers']:.0f} %",
                *(number(each[name]) for name in known),
            ]
        )
    return [*head, *known.values()], rows


def command(answer: Mapping[str, Any], written: Path | None) -> str:
    """What to type: on one host, or on several under Slurm."""
    chosen = answer["chosen"]
    words = ["hocket", "train", str(written or answer["recipe"])]
    if written is None:
        words += [word for setting in answer["settings"] for word in ("--set", setting)]
        if chosen["layout"] not in ("single", f"dp_replicate={chosen['workers']}"):
            words += ["--layout", chosen["layout"]]
    if answer["hosts"] == 1:
        return shlex.join([*words, "--workers", str(chosen["workers"])])
    placed = answer["placement"]
    how = ["srun", f"--nodes={answer['hosts']}", f"--ntasks={chosen['workers']}"]
    if placed is not None and not placed["as_numbered"]:
        how = [
            "SLURM_HOSTFILE=FILE",  # a line for each rank: the name of its host
            *how,
            "--distribution=arbitrary",
        ]
    name = Path(answer["recipe"]).stem
    return shlex.join([*how, *words, "--run-dir", f"runs/{name}"])


def better(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Ways that learn something else than the recipe says and are better than the plan, the best first."""
    name = {"time": "run_seconds", "cost": "dollars", "energy": "kilowatt_hours"}[answer["objective"]]
    most = answer["chosen"][name]
    return [each for each in answer["candidates"] if not each["same_answer"] and each[name] < most]


def ranks_of_hosts(placed: Mapping[str, Any], most: int = 4) -> str:
    """``host 0: 0-3; host 1: 4-7``."""
    hosts = placed["ranks_of_host"]
    said = [f"host {host}: {ranges(ranks)}" for host, ranks in list(hosts.items())[:most]]
    if len(hosts) > most:
        said.append(f"and so on, to host {list(hosts)[-1]}")
    if not placed["as_numbered"]:
        said.append("SLURM_HOSTFILE names the host of each rank, a line each")
    return "; ".join(said)


def ranges(numbers: Sequence[int]) -> str:
    """``0-3`` of ascending numbers without a gap, ``0,4,8`` of others."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ",".join(map(str, numbers))

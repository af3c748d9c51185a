"""What page and terminal say alike of a plan of recognition: the rows of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hocket.planning.explain import size
from hocket.planning.recognizing.candidate import batch_words
from hocket.reports.axes import duration, number

Told = Mapping[str, Any]

_PAID = {
    "dollars": "$ for all",
    "dollars_an_hour": "$ an hour",
    "dollars_per_1000_hours": "$ for 1,000 h of speech",
}


def title(answer: Told) -> str:
    """What is recognised, and where."""
    places = list(dict.fromkeys(each["hardware"] for each in answer["candidates"]))
    return f"recognising with {answer['model']} on {', '.join(places)}"


def ways(answer: Told, candidates: Sequence[Told], mark: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table; ``mark`` is at the chosen candidate, a star where words may be lost."""
    chosen = answer["chosen"]
    job = chosen["job_seconds"] is not None
    delayed = chosen["latency_p99_seconds"] is not None
    paid = {name: head for name, head in _PAID.items() if any(each[name] is not None for each in candidates)}
    head = ["", "hardware", "workers", "backend", "precision", "micro-batch", "speech/s"]
    head += ["the job"] if job else []
    head += ["text after", "busy"] if delayed else []
    rows = []
    for each in candidates:
        row = [
            mark if each == chosen else "" if each["same_text"] else "*",
            each["hardware"],
            f"{each['workers']:,}",
            each["backend"],
            each["precision"],
            batch_words(each["batch_seconds"]),
            number(each["rtfx"]),
        ]
        row += [duration(each["job_seconds"])] if job else []
        row += [_after(each), f"{100 * each['busy']:.0f} %"] if delayed else []
        row += [size(each["memory_bytes"]), *(_money(each[name]) for name in paid)]
        rows.append(row)
    return [*head, "memory", *paid.values()], rows


def _after(each: Told) -> str:
    return f"{1000 * each['latency_p99_seconds']:,.0f} ms"


def _money(dollars: float | None) -> str:
    return "" if dollars is None else f"{dollars:,.2f}" if dollars >= 0.1 else number(dollars)


def reasons(answer: Told) -> list[tuple[str, str, int]]:
    """(way, why, how many) of what was left out, each way of each hardware once with its first reason."""
    found: dict[str, list[str]] = {}
    for each in answer["refused"]:
        name = f"{each['backend']} {each['precision']} on {each['hardware']}"
        found.setdefault(name, []).append(f"{batch_words(each['batch_seconds'])}: {each['reason']}")
    return [(name, why[0], len(why)) for name, why in found.items()]


def commands(answer: Told) -> list[str]:
    """What to type."""
    return list(answer["commands"])

"""What workers report, put together step by step for the events and the progress of the run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hocket.core.protocols import StepReport


@dataclass
class _Step:
    """What came in for one step so far."""

    parts: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    norm: float | None = None
    skipped: bool = False
    announced: bool = False


@dataclass
class Fairness:
    """Who did how much of the run."""

    micro_batches: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    staleness_sum: int = 0
    staleness_max: int = 0
    num_parts: int = 0
    num_bytes: float = 0.0
    told: dict[int, float] = field(default_factory=dict)
    """Bytes on the wire that each worker has told of so far."""
    seconds: dict[int, dict[str, float]] = field(default_factory=dict)
    """Seconds of each worker by kind."""

    def seconds_by_rank(self, num_workers: int) -> list[dict[str, float]]:
        """Seconds of each worker by kind, by rank; nothing of one that did no work."""
        return [
            {kind: round(value, 3) for kind, value in self.seconds.get(rank, {}).items()}
            for rank in range(num_workers)
        ]

    def as_dict(self) -> dict[str, Any]:
        """For the summary: shares by rank (0 to 1), and staleness in updates."""
        total = max(1, sum(self.micro_batches.values()))
        return {
            "shares": {str(rank): round(n / total, 6) for rank, n in sorted(self.micro_batches.items())},
            "staleness_mean": round(self.staleness_sum / max(1, self.num_parts), 4),
            "staleness_max": self.staleness_max,
            "num_bytes": int(self.num_bytes),
        }


class Ledger:
    """Parts come in any order; steps go out in theirs, once all of a step is known."""

    def __init__(self, num_parts: int, num_workers: int, announces: bool, fairness: Fairness) -> None:
        self._num_parts, self._num_workers, self._announces = num_parts, num_workers, announces
        self._steps: dict[int, _Step] = defaultdict(_Step)
        self.fairness = fairness

    def part(self, rank: int, facts: dict[str, Any]) -> None:
        """A worker has done a part of a step."""
        self._steps[facts["step"]].parts.append((rank, facts))
        fairness = self.fairness
        fairness.micro_batches[rank] += facts["num_micro_batches"]
        fairness.staleness_sum += facts["staleness"]
        fairness.staleness_max = max(fairness.staleness_max, facts["staleness"])
        fairness.num_parts += 1
        spent = fairness.seconds.setdefault(rank, {})
        for kind, value in facts["seconds"].items():
            spent[kind] = spent.get(kind, 0.0) + value
        total = facts["counts"]["bytes_sent"] + facts["counts"]["bytes_received"]
        facts["num_bytes"] = total - fairness.told.get(rank, 0.0)
        fairness.told[rank] = total
        fairness.num_bytes += facts["num_bytes"]

    def updated(self, step: int, norm: float | None, skipped: bool) -> None:
        """The update of a whole step was made, or skipped."""
        self._steps[step].norm, self._steps[step].skipped = norm, skipped
        self._steps[step].announced = True

    def take(self, step: int) -> _Step | None:
        """All of a step, once it is all there; then it is forgotten."""
        found = self._steps.get(step)
        if found is None or len(found.parts) < self._num_parts or (self._announces and not found.announced):
            return None
        return self._steps.pop(step)

    def report(self, found: _Step) -> StepReport:
        """A step as the progress of the run counts it."""
        facts = [facts for _, facts in found.parts]
        kept = [each for each in facts if not each["skipped"]]
        busy = [0.0] * self._num_workers
        for rank, each in found.parts:
            busy[rank] += each["seconds"]["compute"] + each["seconds"]["data"]
        norm = found.norm
        if norm is None:  # no update of the whole step: the mean over its parts
            norm = sum(each["grad_norm"] for each in kept) / len(kept) if kept else 0.0
        return StepReport(
            loss_sum=sum(each["loss"] for each in kept),
            grad_norm=norm,
            skipped=found.skipped or not kept,
            num_dropped=sum(each["num_dropped"] for each in facts),
            utterances=sum(each["utterances"] for each in facts),
            stop=False,
            busy_seconds=tuple(busy),
            sync_seconds=0.0,
            bytes_sent=self._bytes_of(found),
        )

    def details(self, found: _Step) -> dict[str, Any]:
        """What the event of a step says beside what every strategy says."""
        by_worker = [0] * self._num_workers
        for rank, facts in found.parts:
            by_worker[rank] += facts["num_micro_batches"]
        staleness = [facts["staleness"] for _, facts in found.parts]
        return {
            "by_worker": by_worker,
            "staleness": round(sum(staleness) / len(staleness), 4),
            "staleness_max": max(staleness),
            "bytes_per_step": self._bytes_of(found),
        }

    def _bytes_of(self, found: _Step) -> int:
        """Bytes on the wire for a step, both ways, in the mean over workers: as a ring's rank sends."""
        return int(sum(facts["num_bytes"] for _, facts in found.parts)) // self._num_workers

    def seconds(self, found: _Step) -> dict[str, float]:
        """Seconds by kind, of the first worker that took part."""
        first = min(rank for rank, _ in found.parts)
        total: dict[str, float] = defaultdict(float)
        for rank, facts in found.parts:
            if rank == first:
                for kind, seconds in facts["seconds"].items():
                    total[kind] += seconds
        return dict(total)

"""Steps of many data-parallel ranks on paper: who computes how long, what waits for whom, what is hidden.

Every rank computes forward and backward at its own pace, drawn anew for each step. A bucket of gradients is
summed as soon as all ranks have it and the bucket before is done, beside the backward pass that goes on; the
step ends when the last bucket is summed and the optimiser has run. Nobody ends an all-reduce before its last
rank has joined, so a step waits for its slowest rank. What an all-reduce then takes is asked of a function,
which :func:`all_reduce_on` makes from a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hocket.core import seeds
from hocket.core.errors import UsageError
from hocket.planning.network import IDEAL, Network, Spec, Transport, best

F64 = npt.NDArray[np.float64]
Seconds = Callable[[float], float]
"""How long an all-reduce of so many bytes takes."""


@dataclass(frozen=True)
class Work:
    """What each rank computes in a step, alone and undisturbed."""

    forward_seconds: float
    """All until the backward pass in which gradients get ready: also earlier micro-batches of the step."""
    backward_seconds: float
    """Of that last backward pass."""
    optimiser_seconds: float = 0.0
    grad_buckets: tuple[float, ...] = ()
    """Bytes of each bucket of gradients, in the order in which the backward pass finishes them."""
    ready: tuple[float, ...] = ()
    """The share of the backward pass after which each is ready; without a word by their bytes."""

    def __post_init__(self) -> None:
        times = self.forward_seconds, self.backward_seconds, self.optimiser_seconds
        if min(times) < 0 or min(self.grad_buckets, default=0) < 0:
            raise UsageError(
                f"simulation: {times} seconds, buckets of {self.grad_buckets} bytes: none may be below 0"
            )
        if self.ready and (
            len(self.ready) != len(self.grad_buckets) or not 0 <= min(self.ready) <= max(self.ready) <= 1
        ):
            raise UsageError(
                f"simulation: {len(self.grad_buckets)} buckets are ready after {self.ready} of the backward "
                "pass: give a number from 0 to 1 for each"
            )

    @property
    def ready_shares(self) -> tuple[float, ...]:
        """When each bucket is ready."""
        total = sum(self.grad_buckets)
        if self.ready or not total:
            return self.ready or (1.0,) * len(self.grad_buckets)
        return tuple((np.cumsum(self.grad_buckets) / total).tolist())


@dataclass(frozen=True)
class Stragglers:
    """How ranks differ. Draws are keyed by seed, step and rank: the same for any number of ranks."""

    spread: float = 0.0
    """Standard deviation of the logarithm of a rank's time in a step; the mean time stays what it is."""
    share: float = 0.0
    """How likely a rank is slow in a step, 0 to 1."""
    factor: float = 1.0
    """How many times longer it then takes."""
    always: Mapping[int, float] = field(default_factory=dict)
    """Ranks that always take so many times as long."""
    seed: int = 0

    def __post_init__(self) -> None:
        times = self.factor, *self.always.values()
        if self.spread < 0 or not 0 <= self.share <= 1 or min(times) <= 0:
            raise UsageError(
                f"simulation: stragglers with spread {self.spread:g}, share {self.share:g}, "
                f"factor {self.factor:g}",
                "A spread is at least 0, a share 0 to 1, a factor above 0.",
            )

    def factors(self, num_ranks: int, step: int) -> F64:
        """How many times as long each rank takes in this step."""
        rank_R = np.arange(num_ranks, dtype=np.uint64)
        factor_R = np.ones(num_ranks)
        if self.spread:
            one_R, other_R = (
                seeds.uniform(seeds.key("spread", self.seed, step, which), rank_R) for which in (0, 1)
            )
            normal_R = np.sqrt(-2 * np.log1p(-one_R)) * np.cos(2 * np.pi * other_R)  # Box & Muller, 1958
            factor_R *= np.exp(self.spread * normal_R - self.spread**2 / 2)
        if self.share:
            slow_R = seeds.uniform(seeds.key("slow", self.seed, step), rank_R) < self.share
            factor_R[slow_R] *= self.factor
        for rank, times in self.always.items():
            if rank < num_ranks:
                factor_R[rank] *= times
        return factor_R


class Factors(Protocol):
    """How many times as long as their mean ranks take."""

    def factors(self, num_ranks: int, step: int) -> F64:
        """(num_ranks,) of one step."""
        ...


STEADY = Stragglers()
"""All ranks are alike."""


@dataclass(frozen=True)
class Dealt:
    """Ranks that have more or less to do, as the micro-batches of some real steps were dealt to them.

    As many ranks as in those steps have what they had there; for others it is drawn from the ranks of a step.
    """

    load_SR: F64 = field(repr=False)
    """What each rank had to do in each step: seconds, or anything else that is proportional to them."""

    def factors(self, num_ranks: int, step: int) -> F64:
        """See :class:`Factors`."""
        factor_D: F64 = self.load_SR[step % len(self.load_SR)] / self.load_SR.mean()
        if num_ranks == len(factor_D):
            return factor_D
        draw_R = seeds.uniform(seeds.key("dealt", step), np.arange(num_ranks, dtype=np.uint64))
        return factor_D[(draw_R * len(factor_D)).astype(np.int64)]


@dataclass(frozen=True)
class Simulated:
    """Of a number of steps; all seconds are of one step, in the mean over steps and ranks."""

    num_ranks: int
    seconds_S: F64 = field(repr=False)
    """Of each step."""
    compute: float
    """Computing, the optimiser included."""
    wait: float
    """Being done while a slower rank computes."""
    exposed_comm: float
    """All-reduces that no rank's computing hides."""

    @property
    def seconds(self) -> float:
        """Of a step: the sum of the three."""
        return float(self.seconds_S.mean())


def simulate(
    work: Work,
    num_ranks: int,
    all_reduce: Seconds,
    num_steps: int = 100,
    stragglers: Factors = STEADY,
    sync_every: int = 1,
) -> Simulated:
    """Run ``num_steps`` of ``num_ranks`` that agree after every ``sync_every`` of them.

    With 1, gradients are summed while the backward pass goes on; with more, weights of the same buckets are
    averaged after the last step, and nothing hides it (local SGD). Raises :class:`UsageError` for counts
    below 1.
    """
    if min(num_ranks, num_steps, sync_every) < 1:
        raise UsageError(
            f"simulation: {num_ranks} ranks, {num_steps} steps, agreeing every {sync_every}: at least 1 each"
        )
    cost_B = [all_reduce(size) if num_ranks > 1 else 0.0 for size in work.grad_buckets]
    alone = work.forward_seconds + work.backward_seconds
    seconds_S = np.zeros(num_steps)
    compute = wait = exposed = 0.0
    for first in range(0, num_steps, sync_every):
        steps = range(first, min(first + sync_every, num_steps))
        factor_SR = np.stack([stragglers.factors(num_ranks, step) for step in steps])
        own_R = factor_SR.sum(axis=0) * alone
        slowest = float(own_R.max())
        end = _summed(work, factor_SR[0], cost_B) if sync_every == 1 else slowest + sum(cost_B)
        end = max(end, slowest)
        optimiser = len(steps) * work.optimiser_seconds
        seconds_S[first : steps.stop] = (end + optimiser) / len(steps)
        mean = float(own_R.mean())
        compute += mean + optimiser
        wait += slowest - mean
        exposed += end - slowest
    return Simulated(num_ranks, seconds_S, compute / num_steps, wait / num_steps, exposed / num_steps)


def _summed(work: Work, factor_R: F64, cost_B: Sequence[float]) -> float:
    """When the last bucket is summed: they go one after the other, each when all ranks have it."""
    end = 0.0
    for seconds, share in zip(cost_B, work.ready_shares, strict=True):
        there = float(factor_R.max()) * (work.forward_seconds + share * work.backward_seconds)
        end = max(end, there) + seconds
    return end


def all_reduce_on(
    network: Network,
    devices: Sequence[int],
    transport: Transport = IDEAL,
    algorithms: Sequence[str] = (),
) -> Seconds:
    """Seconds of an all-reduce among ``devices``, by the fastest of ``algorithms``, by its bytes."""

    @cache
    def seconds(num_bytes: float) -> float:
        return best(network, [devices], "all_reduce", num_bytes, transport, algorithms).seconds

    return seconds


@dataclass(frozen=True)
class Point:
    """One number of ranks of a scaling curve."""

    simulated: Simulated
    speedup: float
    """How many times the work of one rank alone all do in the same time."""

    @property
    def efficiency(self) -> float:
        """By rank; 1 is linear."""
        return self.speedup / self.simulated.num_ranks


def curve(
    spec: Spec,
    counts: Sequence[int],
    work: Callable[[int], Work],
    num_steps: int = 100,
    stragglers: Factors = STEADY,
    transport: Transport = IDEAL,
    algorithms: Sequence[str] = (),
    sync_every: int = 1,
    weak: bool = True,
) -> list[Point]:
    """Steps on networks of the ``spec``'s kind for each of ``counts`` ranks, one to a device.

    ``work`` says what a rank computes among so many: the same for any number in *weak* scaling, where a step
    of N ranks learns from N times as much; less in strong scaling. Hosts are as many as the ranks need; the
    last may have devices to spare. The speed-up is over one rank that computes ``work(1)``.
    """
    devices = spec.given.get("devices", 1)
    alone = simulate(work(1), 1, lambda num_bytes: 0.0, num_steps).seconds
    points = []
    for count in counts:
        network = spec.with_hosts(-(-count // devices)).build()
        summing = all_reduce_on(network, range(count), transport, algorithms)
        found = simulate(work(count), count, summing, num_steps, stragglers, sync_every)
        points.append(Point(found, alone / found.seconds * (count if weak else 1)))
    return points

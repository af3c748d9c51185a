"""Corpora mixed by weight: how many times an epoch goes through each.

A corpus is an endless sequence of *passes*, each a permutation of its rows of its own. An epoch takes the
next ``weight`` times as many utterances as it has. So with weight 3 every utterance comes three times an
epoch; with weight 0.5 every other epoch, each exactly once in two. Where an epoch's part of a pass begins
follows by arithmetic, so that nothing is held but the order of blocks of the passes at hand, and any
place of any epoch is as near as the first.

Every pool takes the same share of every corpus, so that the mix is the same throughout an epoch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hocket.batching.order import EpochOrder, Utterances
from hocket.core.seeds import U64, key, mix
from hocket.corpus.audio import SAMPLE_RATE

I64 = npt.NDArray[np.int64]
_ORDERS_KEPT = 2


@dataclass(frozen=True)
class Part:
    """A corpus, and how often an epoch goes through it."""

    utterances: Utterances
    weight: float = 1.0
    salt: int | None = None
    """Makes keys of this corpus others than those of equal ids in another; None leaves them."""

    def begin(self, epoch: int) -> int:
        """How many utterances the epochs before ``epoch`` learnt from, repetitions counted."""
        return round(epoch * self.weight * len(self.utterances.key))

    def keys(self, rows: I64) -> U64:
        """What randomness is keyed by."""
        keys = np.asarray(self.utterances.key)[rows]
        return keys if self.salt is None else mix(self.salt, keys)


@dataclass(frozen=True)
class Draw:
    """Utterances of a pool, one entry each."""

    rows: I64
    """Rows of the mixture: of the first corpus, then of the next."""
    passes: I64
    """The how-manieth time, from 0, each is learnt from in the run."""
    keys: U64
    """Another one each time an utterance comes in the same epoch."""
    num_samples: I64
    num_tokens: I64
    speakers: I64
    """Codes that no two corpora share; -1 where nobody knows."""


class Mixture:
    """The order of all epochs over some corpora."""

    def __init__(self, parts: Sequence[Part], seed: int) -> None:
        self.parts = tuple(parts)
        sizes = [len(part.utterances.key) for part in self.parts]
        self._offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._first_speakers = [0]
        for part in self.parts[:-1]:
            self._first_speakers.append(self._first_speakers[-1] + part.utterances.num_speakers)
        self._streams = [Stream(part, seed) for part in self.parts]

    @property
    def has_speakers(self) -> bool:
        """Whether any corpus names any."""
        return any(part.utterances.num_speakers for part in self.parts)

    @property
    def seconds(self) -> float:
        """Audio of an epoch, as it was recorded, in the mean over epochs."""
        return sum(part.weight * float(part.utterances.total_samples) for part in self.parts) / float(
            SAMPLE_RATE
        )

    def pool(self, epoch: int, pool: int, num_pools: int) -> Draw:
        """The utterances of pool ``pool`` of ``num_pools`` of an epoch."""
        draws = []
        for number, (part, stream) in enumerate(zip(self.parts, self._streams, strict=True)):
            begin = part.begin(epoch)
            count = part.begin(epoch + 1) - begin
            first, last = count * pool // num_pools, count * (pool + 1) // num_pools
            rows, passes = stream.rows(begin + first, begin + last)
            keys = part.keys(rows)
            first_pass = begin // len(part.utterances.key)
            for again in range(1, int(passes.max(initial=0)) - first_pass + 1):
                repeated = passes == first_pass + again
                keys[repeated] = mix(key("again", again), keys[repeated])
            speakers = np.asarray(part.utterances.speaker)[rows].astype(np.int64)
            draws.append(
                Draw(
                    rows=rows + self._offsets[number],
                    passes=passes,
                    keys=keys,
                    num_samples=np.asarray(part.utterances.num_samples)[rows],
                    num_tokens=np.asarray(part.utterances.num_tokens)[rows].astype(np.int64),
                    speakers=np.where(speakers < 0, -1, speakers + self._first_speakers[number]),
                )
            )
        if len(draws) == 1:
            return draws[0]
        names = list(Draw.__dataclass_fields__)
        return Draw(**{name: np.concatenate([getattr(draw, name) for draw in draws]) for name in names})

    def split(self, rows: I64) -> list[tuple[Part, I64, npt.NDArray[np.bool_]]]:
        """Rows of the mixture by corpus: each corpus, its own rows, and which of ``rows`` they are."""
        number = np.searchsorted(self._offsets, rows, side="right") - 1
        return [
            (part, rows[number == place] - self._offsets[place], number == place)
            for place, part in enumerate(self.parts)
        ]


class Stream:
    """The passes over one corpus, one after another."""

    def __init__(self, part: Part, seed: int) -> None:
        self.count, self._seed = len(part.utterances.key), seed
        self._keys = part.utterances.key
        self._blocks = part.utterances.block_starts
        self._orders: OrderedDict[int, EpochOrder] = OrderedDict()

    def rows(self, first: int, last: int) -> tuple[I64, I64]:
        """Rows at positions ``first`` to ``last`` (exclusive) of all passes, and the pass of each."""
        here = first
        rows: list[I64] = [np.empty(0, np.int64)]
        passes: list[I64] = [np.empty(0, np.int64)]
        while here < last:
            number, start = divmod(here, self.count)
            stop = min(self.count, start + last - here)
            rows.append(self.order(number).rows(start, stop))
            passes.append(np.full(stop - start, number, np.int64))
            here += stop - start
        return np.concatenate(rows), np.concatenate(passes)

    def order(self, number: int) -> EpochOrder:
        """The order of pass ``number``."""
        if number not in self._orders:
            self._orders[number] = EpochOrder(self._blocks, self._keys, self._seed, number)
            while len(self._orders) > _ORDERS_KEPT:
                self._orders.popitem(last=False)
        return self._orders[number]

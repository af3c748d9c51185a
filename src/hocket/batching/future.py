"""Which blocks of which corpus will be needed when: read off the plan of batches, for storage.

The order of a run is a function of seed and index, so its future is known to its last step. A pool is cut
alone, so all utterances of the blocks it touches are needed within its steps, on whatever host.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from threading import Lock

import numpy as np
import numpy.typing as npt

from hocket.batching.mixture import Part, Stream
from hocket.batching.plan import BatchPlan
from hocket.core.seeds import I64

F64 = npt.NDArray[np.float64]


class Future:
    """The blocks that the steps of a run of ``num_steps`` will touch."""

    def __init__(self, plan: BatchPlan, num_steps: int) -> None:
        self._plan, self.num_steps = plan, num_steps
        self.steps_ahead = plan.steps_per_epoch
        """Beyond so many steps from now nobody need look: all is needed once by then."""
        self.steps_soon = plan.steps_per_pool
        """Within so many steps the next pool begins."""
        # Two views of the order, each of which stands elsewhere in it, and is asked by one thread at a time.
        self._ahead = [Stream(part, plan.seed) for part in plan.parts]
        self._streams = [Stream(part, plan.seed) for part in plan.parts]
        self._lock = Lock()

    def upcoming(self, step: int) -> Iterator[tuple[int, int, int]]:
        """Pools from that of ``step`` on: the first step of each, and the (corpus, block) it touches.

        One such iterator at a time, advanced by one thread at a time.
        """
        for pool in count(self._plan.pool_of(step)):
            begin = int(self._plan.first_steps(np.array([float(pool)]))[0])
            if begin >= self.num_steps:
                return
            for corpus, (part, stream) in enumerate(zip(self._plan.parts, self._ahead, strict=True)):
                here, last = self._extent(part, pool)
                while here < last:
                    number, start = divmod(here, stream.count)
                    stop = min(stream.count, start + last - here)
                    for place, block in stream.order(number).blocks(start):
                        if place >= stop:
                            break
                        yield begin, corpus, block
                    here += stop - start

    def next_use(self, corpus: int, blocks: I64, step: int) -> F64:
        """The first step of the next pool that each block is needed in, about; infinite for never.

        Of a block of the pool at hand, that of ``step``, it is ``step`` or earlier.
        """
        part, stream = self._plan.parts[corpus], self._streams[corpus]
        pool = self._plan.pool_of(step)
        here, _ = self._extent(part, pool)
        number, within = divmod(here, stream.count)
        with self._lock:
            now, then = stream.order(number), stream.order(number + 1)
        begin, end = now.extents(blocks)
        later, _ = then.extents(blocks)
        place = np.where(end > within, np.maximum(begin, within), later + stream.count) - within
        pools = np.floor(place / (part.weight * stream.count / self._plan.num_pools))
        steps = self._plan.first_steps(pool + pools)
        return np.where(steps < self.num_steps, steps, np.inf)

    def _extent(self, part: Part, pool: int) -> tuple[int, int]:
        """Positions in the corpus's passes at which a pool begins and ends."""
        num = self._plan.num_pools
        epoch, within = divmod(pool, num)
        begin = part.begin(epoch)
        size = part.begin(epoch + 1) - begin
        return begin + size * within // num, begin + size * (within + 1) // num

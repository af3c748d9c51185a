"""A bounded memory, so that an epoch after the first need not read audio again.

What is kept depends on (utterance, speed factor) alone: one drawn from here is bit for bit the one that
would be computed. These are features without SpecAugment; or, where noise or reverberation is added,
the waveform that it is added to.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import torch

Key = tuple[int, int]


class FeatureCache:
    """Tensors by (row, speed percent); the least recently used leave when it is full.

    What is in it is shared: whoever takes a tensor must not write to it.
    """

    def __init__(self, megabytes: int) -> None:
        self._room = megabytes << 20
        self._held: OrderedDict[Key, torch.Tensor] = OrderedDict()
        self._lock = Lock()
        self.num_bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key) -> torch.Tensor | None:
        """The tensor kept under ``key``, or None."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
                self._held.move_to_end(key)
            return found

    def put(self, key: Key, features: torch.Tensor) -> None:
        """Keep a tensor; one larger than the whole cache is not kept."""
        if features.nbytes > self._room:
            return
        with self._lock:
            old = self._held.pop(key, None)
            self.num_bytes += features.nbytes - (0 if old is None else old.nbytes)
            self._held[key] = features
            while self.num_bytes > self._room:
                _, left = self._held.popitem(last=False)
                self.num_bytes -= left.nbytes

"""The one idea throughout: what a padded micro-batch costs, in seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CostModel:
    """Seconds of a micro-batch: ``a0 + B * (a + b*T + c*T**2 + d*T*U)``.

    ``B`` utterances, ``T`` padded feature frames (10 ms each), ``U`` padded tokens. The
    coefficients are *settings* where work is cut (they decide the answer, so they are part of a
    run's fingerprint); measured ones only decide who does what and when.
    """

    a0: float
    a: float
    b: float
    c: float
    d: float = 0.0

    def per_item(self, num_frames: npt.ArrayLike, num_tokens: npt.ArrayLike = 0) -> F64:
        """Seconds of one utterance padded to ``num_frames`` and ``num_tokens``; broadcasts."""
        t = np.asarray(num_frames, np.float64)
        u = np.asarray(num_tokens, np.float64)
        return np.asarray(self.a + t * (self.b + self.c * t + self.d * u), np.float64)

    def micro_batch(
        self, num_utterances: npt.ArrayLike, num_frames: npt.ArrayLike, num_tokens: npt.ArrayLike = 0
    ) -> F64:
        """Seconds of micro-batches of these (B, T, U); broadcasts."""
        b = np.asarray(num_utterances, np.float64)
        return np.asarray(self.a0 + b * self.per_item(num_frames, num_tokens), np.float64)

    def as_dict(self) -> dict[str, float]:
        """The coefficients, for a recipe or a report."""
        return asdict(self)

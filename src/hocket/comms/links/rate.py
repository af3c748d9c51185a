"""A link between hosts as people write it: ``100mbit``, ``1gbit``, ``100mbit+5ms``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hocket.core.errors import UsageError

LOOPBACK = "loopback"
"""The name of no link at all: workers on one host."""

_FORM = re.compile(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)(?:\+(\d+(?:\.\d+)?)(us|ms))?")
_BITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_SECONDS = {"us": 1e-6, "ms": 1e-3}


@dataclass(frozen=True)
class Link:
    """What every host has to the switch, in each direction."""

    name: str
    bits_per_second: float
    delay_seconds: float = 0.0
    """Added once on the way out of a host: a round trip has it twice."""
    burst: int = 0
    """Bytes that may pass at once after a pause; 0 for a millisecond's worth, and one large packet."""

    @classmethod
    def parse(cls, text: str) -> Link:
        """A number and ``kbit``, ``mbit`` or ``gbit`` (a second), then ``+`` and a delay if there is one.

        Raises :class:`UsageError` for anything else.
        """
        found = _FORM.fullmatch(text.strip().lower())
        if found is None or float(found[1]) <= 0:
            raise UsageError(
                f"link {text!r}: not a rate", f"Say {LOOPBACK}, 1gbit, 100mbit, or 100mbit+5ms with a delay."
            )
        delay = float(found[3]) * _SECONDS[found[4]] if found[3] else 0.0
        return cls(text.strip().lower(), float(found[1]) * _BITS[found[2]], delay)

    @property
    def burst_bytes(self) -> int:
        """What may pass at once."""
        return self.burst or max(1 << 15, int(self.bits_per_second / 8 * 1e-3))

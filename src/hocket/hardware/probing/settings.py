"""What a probe is asked to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hocket.hardware.matrix_rate import Shape

SQUARE: Shape = (1024, 1024, 1024)
SIZES = tuple(1024 * 4**power for power in (0, 2, 3, 4, 5, 6, 7, 8))
"""Bytes of messages, 1 KiB to 64 MiB."""
_MESSAGE_A_SECOND = 2 * 2**20
_FILE_A_SECOND = 8 * 2**20


@dataclass(frozen=True)
class ProbeSettings:
    """How much to measure, where, and of which models."""

    workers: int
    """Processes."""
    folder: Path
    """Where the corpora lie: storage is read there."""
    seconds: float = 75.0
    """Of measuring, at most, but for the first two rounds."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """Products to measure beside a square one, by name."""
    sizes: tuple[int, ...] = SIZES
    """Bytes of messages between workers, ascending."""
    rounds: int = 7
    """At most; at least two."""
    file_bytes: int = 256 * 2**20
    """Of the file that storage is read from, at most."""

    def message_sizes(self) -> tuple[int, ...]:
        """Of :attr:`sizes` those that a probe of so few seconds has time for; two at least."""
        most = self.seconds * _MESSAGE_A_SECOND
        return tuple(size for size in self.sizes if size <= most) or self.sizes[:2]

    def most_file_bytes(self) -> int:
        """Of :attr:`file_bytes` what a probe of so few seconds has time to write and read."""
        return min(self.file_bytes, int(self.seconds * _FILE_A_SECOND))

    def all_shapes(self) -> dict[str, Shape]:
        """The square one first."""
        return {"square": SQUARE, **self.shapes}

    def write(self, path: Path) -> None:
        """For the workers."""
        path.write_text(json.dumps({**asdict(self), "folder": str(self.folder)}))

    @classmethod
    def read(cls, path: Path) -> ProbeSettings:
        """What :meth:`write` wrote."""
        given = json.loads(path.read_text())
        given["folder"], given["sizes"] = Path(given["folder"]), tuple(given["sizes"])
        given["shapes"] = {name: tuple(shape) for name, shape in given["shapes"].items()}
        return cls(**given)

"""What a run tells the world: events, progress and TensorBoard. Only rank 0 writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from hocket.core.events import EventLog


class Journal:
    """Writes events and draws some of them for TensorBoard; does nothing on other ranks."""

    def __init__(self, events: Path, *, attempt: int, leads: bool, tensorboard: Path | None) -> None:
        self._events = EventLog(events, attempt) if leads else None
        self._board = SummaryWriter(str(tensorboard)) if leads and tensorboard is not None else None

    def write(self, event: str, **fields: Any) -> None:
        """Append one event, and draw its curves."""
        if self._events is not None:
            self._events.write(event, **fields)
        if self._board is not None and fields.get("noise_seconds") is not None:
            self._board.add_scalar("train/noise_seconds", fields["noise_seconds"], fields["step"])
        if self._board is not None and event in ("step", "validation"):
            prefix = "train" if event == "step" else "validation"
            for name in ("loss", "grad_norm", "lr", "wer", "cer", "padding", "imbalance"):
                if name in fields:
                    self._board.add_scalar(f"{prefix}/{name}", fields[name], fields["step"])
            for corpus, scores in fields.get("by_corpus", {}).items():
                for name in ("loss", "wer", "cer"):
                    self._board.add_scalar(f"{prefix}/{name}/{corpus}", scores[name], fields["step"])

    def close(self) -> None:
        """Flush and close both."""
        if self._events is not None:
            self._events.close()
        if self._board is not None:
            self._board.close()

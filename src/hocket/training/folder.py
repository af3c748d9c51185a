"""A run's folder: where each of its files stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.core import files
from hocket.core.errors import HocketError, RunError


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe: every setting written out."""
        return self.root / "recipe.yaml"

    @property
    def events(self) -> Path:
        """One JSON line per event."""
        return self.root / "events.jsonl"

    @property
    def summary(self) -> Path:
        """What came out, once the run has ended."""
        return self.root / "summary.json"

    @property
    def checkpoints(self) -> Path:
        """Points from which the run goes on."""
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """All that recognition needs."""
        return self.root / "model"

    @property
    def logs(self) -> Path:
        """Standard output and error of each rank, by attempt."""
        return self.root / "logs"

    @property
    def heartbeats(self) -> Path:
        """The latest sign of life of each rank."""
        return self.root / "heartbeats"

    @property
    def dropped(self) -> Path:
        """Utterances that could not be read while training, one JSON line each."""
        return self.root / "dropped.jsonl"

    @property
    def stop(self) -> Path:
        """While this file exists, the ranks save a checkpoint and leave."""
        return self.root / "stop"

    @property
    def error(self) -> Path:
        """Why a rank gave up, where that is the user's to mend."""
        return self.root / "error.json"

    def list_dropped(self, step: int, dropped: Sequence[Sequence[str]]) -> None:
        """Append (id, reason) of utterances that could not be read for a step."""
        with self.dropped.open("a", encoding="utf-8") as file:
            for utterance, reason in dropped:
                file.write(json.dumps({"id": utterance, "step": step, "reason": reason}) + "\n")

    def write_error(self, error: HocketError) -> None:
        """Leave ``error`` for the launcher."""
        files.write_json(
            self.error, {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        )

    def take_error(self) -> HocketError | None:
        """The error that a rank left, and remove it."""
        if not self.error.exists():
            return None
        told: dict[str, Any] = json.loads(self.error.read_text())
        self.error.unlink()
        error = HocketError(told["message"], told["hint"])
        error.exit_code = told["exit_code"]
        return error

    def prepare(self, *, resume: bool) -> None:
        """Make the folder ready for a run that starts, or goes on; raises when it is the other."""
        started = self.recipe.exists()
        if started and not resume:
            raise RunError(
                f"{self.root}: holds a run already",
                "Add --resume to go on with it, or give another folder with --run.",
            )
        if resume and not started:
            raise RunError(f"{self.root}: no run to go on with", "Leave out --resume to start one.")
        self.root.mkdir(parents=True, exist_ok=True)
        for left in (self.stop, self.error):
            left.unlink(missing_ok=True)

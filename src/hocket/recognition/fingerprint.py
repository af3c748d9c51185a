"""What a job is: two jobs of one fingerprint give the same answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hocket import __version__
from hocket.core import files
from hocket.recognition.plan import Plan


def of_job(plan: Plan, inputs_sha256: str, model_folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs (with size and time of change of each file), model, settings and cut, as plain data."""
    cut = hashlib.sha256()
    for column in (plan.piece_item, plan.piece_start, plan.piece_num, plan.num_samples):
        cut.update(column.tobytes())
    for part in plan.micro_batches:
        cut.update(len(part).to_bytes(8, "little") + part.tobytes())
    return {
        "inputs": f"{len(plan.items)} of sha256 {inputs_sha256}",
        "model": of_model(model_folder),
        "settings": dict(settings),
        "cut": cut.hexdigest(),
        "hocket": __version__,
    }


def of_model(folder: Path) -> str:
    """SHA-256 of names and contents of all files of a model folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{files.sha256(path)}\n".encode())
    return digest.hexdigest()

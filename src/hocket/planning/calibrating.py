"""The process that measures a machine's rates: started as a worker of a run is, with the same environment.

    python -m hocket.planning.calibrating FILE DEVICE THREADS

writes a :class:`~hocket.planning.calibration.Calibration` to FILE, and a line of progress for each part.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hocket.core.errors import RunError
from hocket.hardware.libraries import environment

_MODULE = "hocket.planning.calibrating"


def measure(
    path: Path,
    device: str,
    threads: int,
    told: Callable[[str, int, int], None] = lambda what, done, of: None,
    module: str = _MODULE,
) -> None:
    """Measure in a process of its own, which runs ``module``, and leave the rates in ``path``.

    Raises :class:`RunError` when that process fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(path), device, str(threads)],
        env=os.environ | environment(threads),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        done, of, what = line.rstrip("\n").split(" ", 2)
        told(what, int(done), int(of))
    if process.wait():
        raise RunError(f"measuring the rates of this machine failed with status {process.returncode}")


def main() -> None:
    """Measure as the command line says."""
    import torch

    from hocket.hardware.device import choose_device, describe, fix_arithmetic
    from hocket.hardware.memory import keep_freed_memory
    from hocket.planning.calibration import calibrate

    path, device, threads = sys.argv[1:4]
    fix_arithmetic(int(threads))
    keep_freed_memory()
    torch.manual_seed(0)

    def told(what: str, done: int, of: int) -> None:
        sys.stdout.write(f"{done} {of} {what}\n")
        sys.stdout.flush()

    calibrate(choose_device(device), describe(), told).write(Path(path))


if __name__ == "__main__":
    main()

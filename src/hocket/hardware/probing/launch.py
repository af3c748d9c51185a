"""Starting the workers of a probe, and following them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hocket.comms.ranks import Ranks
from hocket.core import clock, events
from hocket.core.errors import RunError, UsageError
from hocket.hardware import host, libraries
from hocket.hardware.probing import assembly, reading, worker
from hocket.hardware.probing.settings import ProbeSettings
from hocket.hardware.probing.summary import Measured
from hocket.hardware.profile import MachineProfile

Progress = Callable[[str, int, int | None, str], None]
"""What is done, how much, of how much, and a note."""
_POLL_SECONDS = 0.25
_LEAST_BYTES_A_READER = 4 * 2**20
_SHARE_OF_DISK = 10


def default_workers() -> int:
    """One for each accelerator; without any, one for each core, 16 at most."""
    return torch.cuda.device_count() or min(16, len(host.usable_cores()))


def probe(settings: ProbeSettings, progress: Progress = lambda *_: None) -> MachineProfile:
    """Measure this machine; ``progress`` is told how far it is.

    Raises :class:`UsageError` for settings that cannot be and :class:`RunError` when a worker fails,
    with its last words.
    """
    if settings.workers < 1 or settings.seconds <= 0:
        raise UsageError("a probe needs at least one worker and some time")
    if 0 < torch.cuda.device_count() < settings.workers:
        raise UsageError(
            f"{settings.workers} workers, {torch.cuda.device_count()} accelerators: each worker measures one",
            "Leave --workers out.",
        )
    begun, load = clock.monotonic(), os.getloadavg()[0]
    folder = settings.folder
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", "Name one on the disk that holds your corpora.")
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".hocket-probe-", dir=folder))
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot write there: {error.strerror}", "Name another folder on that disk."
        ) from error
    try:
        file_bytes = _file_bytes(settings)
        progress("probe", 0, None, f"writes {file_bytes / 1e6:.0f} MB to read")
        reading.write_file(scratch / worker.FILE, file_bytes)
        cold_by = reading.cold_by(scratch / worker.FILE)
        settings.write(scratch / worker.SETTINGS)
        with _following(scratch / worker.PROGRESS, progress):
            ranks = _run(scratch, settings.workers)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    took = round(clock.monotonic() - begun, 1)
    return assembly.profile(settings, ranks, took=took, load=load, file_bytes=file_bytes, cold_by=cold_by)


def _file_bytes(settings: ProbeSettings) -> int:
    """As asked, but no more than a tenth of what is free, and enough for all readers."""
    free = shutil.disk_usage(settings.folder).free
    least = settings.workers * _LEAST_BYTES_A_READER
    if free < _SHARE_OF_DISK * least:
        raise UsageError(
            f"{settings.folder}: {free / 1e6:.0f} MB are free, too few to read from", "Name another folder."
        )
    return max(least, min(settings.most_file_bytes(), free // _SHARE_OF_DISK))


def _run(scratch: Path, workers: int) -> list[Measured]:
    with Ranks("hocket.hardware.probing.worker", libraries.environment(1)) as ranks:
        end = ranks.run_attempt([str(scratch)], workers=workers, log_dir=scratch / "logs")
    if end.failed:
        first = end.failed[0]
        words = first.log.read_text(errors="replace")[-2000:] if first.log.is_file() else ""
        raise RunError(f"the probe failed: {first.describe()}\n{words}", "Fewer --workers need less memory.")
    found = [json.loads((scratch / f"rank-{rank}.json").read_text()) for rank in range(workers)]
    return [Measured(**each) for each in found]


@contextmanager
def _following(path: Path, progress: Progress) -> Iterator[None]:
    """Hand on what the first rank says it has done."""
    over = threading.Event()

    def look(offset: int) -> int:
        for event, after in events.follow(path, offset):
            offset = after
            done, of = int(event["done"]), int(event["of"])
            progress("probe", done, max(done, of), str(event["key"]).replace("/", " "))
        return offset

    def run() -> None:
        offset = 0
        while not over.wait(_POLL_SECONDS):
            offset = look(offset)
        look(offset)

    thread = threading.Thread(target=run, name="probe-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

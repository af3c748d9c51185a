"""A run that is held in its middle."""

from __future__ import annotations

import threading
from pathlib import Path

from hocket.training.holding import hold


def test_a_step_waits_for_its_file_and_others_do_not(tmp_path: Path) -> None:
    files = {3: tmp_path / "go"}
    hold(files, 2)
    held = threading.Thread(target=hold, args=(files, 3), daemon=True)
    held.start()
    held.join(0.05)
    assert held.is_alive()
    files[3].touch()
    held.join(60)
    assert not held.is_alive()

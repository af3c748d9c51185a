"""Joining a run whose supervisor is another process."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hocket.core.errors import CheckpointError, HocketError
from hocket.training.folder import RunFolder
from hocket.training.leased import remote

_PLACE = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


def test_who_joins_is_told_why_the_supervisor_did_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, start = RunFolder(tmp_path), subprocess.Popen

    def ends(words: list[str], **_: Any) -> subprocess.Popen[bytes]:
        assert words[-2:] == ["2", "127.0.0.1"]
        return start(["false"])

    monkeypatch.setattr(subprocess, "Popen", ends)
    folder.write_error(CheckpointError("step-5: damaged", "Take an earlier one."))
    with pytest.raises(HocketError, match="step-5: damaged"):
        remote.join(folder, _PLACE)
    with pytest.raises(HocketError, match="the supervisor left with status 1 before it had begun"):
        remote.join(folder, _PLACE)

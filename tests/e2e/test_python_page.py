"""The program on docs/python.md runs as it stands, and says what the page says."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    ctrl_c = signal.getsignal(signal.SIGINT)
    left: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), left)

    assert left["summary"]["steps"] == 10
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    assert left["job"].num_utterances == len(left["utterances"]) > 0
    assert left["texts"] == {
        utterance.id: answer.text
        for utterance, answer in zip(left["utterances"], left["answers"], strict=True)
    }
    assert left["report"].num_utterances == left["job"].num_utterances
    said = capsys.readouterr().out
    assert "step 9 loss" in said
    wer, complaint = said.splitlines()[-2:]
    assert wer == "0.0"
    assert complaint.startswith("no/such/table.jsonl: ")

"""What goes to standard output, what to standard error, and which status a command leaves with."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from rich.text import Text

from hocket.cli.main import Verbs, app
from hocket.cli.output import reporting, to_json
from hocket.cli.progress import Lines, of_parts, on_stderr
from hocket.cli.view import TrainingView
from hocket.core.errors import HocketError, RunError, UsageError


@dataclass(frozen=True)
class Answer:
    path: Path
    numbers: tuple[float, ...]


def test_json_is_strict() -> None:
    answer = Answer(Path("a/b"), (1.0, float("nan"), float("inf")))
    text = to_json({"answer": answer, "count": np.int64(3), "none": None})
    assert json.loads(text) == {
        "answer": {"path": "a/b", "numbers": [1.0, None, None]},
        "count": 3,
        "none": None,
    }
    assert "\n" not in text
    with pytest.raises(TypeError, match="object"):
        to_json(object())


def test_what_others_print_stays_off_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with reporting(as_json=True) as output:
        print("a library talks")
        subprocess.run([sys.executable, "-c", "print('a child talks')"], check=True)
        os.write(1, b"a file descriptor talks\n")
        output.give({"wer": 0.1}, lambda: Text("never drawn"))
    out, err = capfd.readouterr()
    assert out == '{"wer": 0.1}\n'
    for line in ("a library talks", "a child talks", "a file descriptor talks"):
        assert line in err


def test_a_table_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    with reporting(as_json=False) as output:
        output.give({"wer": 0.1}, lambda: Text("WER 10 %"))
    assert capfd.readouterr().out == "WER 10 %\n"


def test_no_answer_when_something_failed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError), reporting(as_json=True) as output:
        output.give({"wer": 0.1}, lambda: Text(""))
        raise RunError("broken")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("error", "status"), [(RunError("no run", "Make one."), 1), (UsageError("no"), 2)])
def test_errors_leave_with_their_status_and_no_traceback(
    error: HocketError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = typer.Typer(cls=Verbs)
    failing.callback()(lambda: None)

    @failing.command()
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        failing(["fail"])
    assert left.value.code == status
    said = capsys.readouterr().err
    assert said == f"hocket: {error}\n"
    assert "Traceback" not in said


def test_a_programming_error_is_not_hidden() -> None:
    failing = typer.Typer(cls=Verbs, pretty_exceptions_enable=False)
    failing.callback()(lambda: None)

    @failing.command()
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing(["fail"])


def test_help_needs_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "lhotse", "scipy", "pydantic")
    code = f"import sys, hocket.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_scoring_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from hocket.recognition import compare, confidence, score; "
        "from hocket.reports import breakdown, comparison, reliability, tables; "
        "print([m for m in ('torch', 'lhotse', 'scipy.optimize') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_verbs_are_the_documented_ones() -> None:
    """As ``hocket --help`` lists them."""
    shown = typer.main.get_command(app).list_commands(None)  # type: ignore[attr-defined]
    jobs = ["prepare", "train", "recognize", "score", "compare", "export", "plan", "scale", "probe"]
    jobs += ["hardware", "demo", "fit-batch", "average", "info"]
    assert shown == [*jobs, "lm", "bench", "study"]


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_now_and_then_with_the_time_left() -> None:
    clock, said = FakeClock(), io.StringIO()
    lines = Lines(Console(file=said, width=200), clock)
    for done in range(101):
        clock.now = float(done)
        lines.update("training", done, 100, "loss 1.5")
    printed = said.getvalue().splitlines()
    assert len(printed) == 10
    assert printed[0] == "training 10/100  loss 1.5  1 min 30 s left"
    assert printed[-1] == "training 100/100  loss 1.5"


def test_progress_is_plain_lines_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with on_stderr() as progress:
        assert isinstance(progress, Lines)
        progress.say("a file called [red].wav")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "a file called [red].wav\n")


class Heard:
    def __init__(self) -> None:
        self.updates: list[tuple[str, int, int | None, str]] = []
        self.said: list[str] = []

    def update(self, what: str, done: int, total: int | None, note: str = "") -> None:
        self.updates.append((what, done, total, note))

    def say(self, text: str) -> None:
        self.said.append(text)


def test_events_of_a_training_as_progress() -> None:
    heard = Heard()
    view = TrainingView(heard)
    base: dict[str, Any] = {"event": "step", "num_frames": 1000, "skipped": False}
    view.show({"event": "start", "step": 5, "steps": 50, "workers": 3, "precision": "bf16"})
    view.show({**base, "step": 5, "loss": 2.0, "time": 10.0})
    view.show({**base, "step": 6, "loss": 4.0, "time": 12.0})
    view.show({**base, "step": 7, "loss": float("nan"), "time": 14.0, "skipped": True})
    view.show({"event": "validation", "step": 8, "loss": 1.5, "wer": 0.25, "cer": 0.125})
    view.show({"event": "restart", "reason": "rank 1 (pid 7) was ended by SIGKILL"})
    assert heard.updates[0] == ("training", 5, 50, "")
    assert heard.updates[2] == ("training", 7, 50, "loss 3  5 s of speech/s")
    assert heard.updates[3][3].startswith("loss 3 ")
    assert heard.said == [
        "training on 3 workers, bf16, from step 5 on",
        "step 7: skipped, a loss or gradient is not finite",
        "step 8: development part:  loss 1.5  WER 25.0 %  CER 12.5 %",
        "starting the workers again: rank 1 (pid 7) was ended by SIGKILL",
    ]


def test_several_corpora_and_an_early_stop_as_progress() -> None:
    heard = Heard()
    view = TrainingView(heard)
    corpora = {
        "read": {"weight": 1.0, "hours": 2.5, "share": 0.8},
        "calls": {"weight": 2.5, "hours": 0.25, "share": 0.2},
    }
    view.show({"event": "start", "steps": 50, "workers": 1, "precision": "fp32", "corpora": corpora})
    parts = {"read": {"wer": 0.125, "loss": 0.5}, "calls": {"wer": 0.5, "loss": 2.0}}
    scores = {"loss": 1.5, "wer": 0.25, "best": True, "by_corpus": parts}
    view.show({"event": "validation", "step": 8, **scores})
    stop = {"metric": "wer", "best": 0.25, "best_step": 8, "num_in_vain": 3}
    view.show({"event": "early_stop", "step": 14, **stop})
    assert heard.said[1:] == [
        "corpus read: 2.5 h, weight 1, 80.0 % of the audio of an epoch",
        "corpus calls: 0.25 h, weight 2.5, 20.0 % of the audio of an epoch",
        "step 8: development part:  loss 1.5  WER 25.0 %  (the best so far)",
        "  read: WER 12.5 %  loss 0.5",
        "  calls: WER 50.0 %  loss 2",
        "step 14: stopping early: 3 validations brought no better WER than 25.0 %, reached after step 8",
    ]


def test_details_of_one_work_share_its_line() -> None:
    """Rates are measured for minutes, under ever other names: the log must not stay empty meanwhile."""
    now, said = [0.0], io.StringIO()
    told = of_parts(Lines(Console(file=said, width=200), lambda: now[0]))
    for done in range(4):
        told(f"rates: model {done}", done, 4)
        now[0] += 6.0
    assert said.getvalue() == "rates 2/4  model 2  12 s left\n"

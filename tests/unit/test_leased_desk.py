"""Questions to workers: what is answered late, and what cannot be answered now."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hocket.comms.wire import Message
from hocket.training.folder import RunFolder
from hocket.training.leased.crew import Heard
from hocket.training.leased.desk import Desk
from hocket.training.leased.roster import Worker
from hocket.training.leased.supervisor import Supervisor


class Line:
    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send(self, kind: str, tensors: Any = (), **facts: Any) -> None:
        self.sent.append((kind, facts))


def test_an_answer_to_an_earlier_question_is_none(tmp_path: Path) -> None:
    """As after a shard was lost while workers validated: the run goes back, and asks again."""
    come_in: deque[Heard] = deque()
    switchboard: Any = SimpleNamespace(next=lambda _seconds: come_in.popleft() if come_in else None)
    keeper: Any = SimpleNamespace(check=lambda: None)
    course: Any = SimpleNamespace(settle=lambda: None)
    process: Any = SimpleNamespace(ended=False)
    template: Any = None
    desk = Desk(RunFolder(tmp_path), keeper, switchboard, template, course)
    lines: list[Any] = [Line(), Line()]
    for rank, line in enumerate(lines):
        worker = Worker(rank, process)
        worker.line, worker.ready = line, True
        desk.workers.add(worker)

    def told(rank: int, question: int, said: str) -> Heard:
        return Heard(lines[rank], Message("validated", {"question": question, "said": said}))

    come_in.extend([told(1, 1, "b"), told(0, 1, "a")])
    first = desk.answers("validate", "validated")
    assert [message.facts["said"] for message in first] == ["a", "b"]
    come_in.extend([told(0, 1, "late"), told(1, 2, "d"), told(0, 2, "c")])
    again = desk.answers("validate", "validated", also="this")
    assert [message.facts["said"] for message in again] == ["c", "d"]
    assert [facts for _, facts in lines[1].sent] == [
        {"place": 1, "num_places": 2, "question": 1},
        {"place": 1, "num_places": 2, "question": 2, "also": "this"},
    ]


def test_a_validation_that_a_worker_has_no_weights_for_is_not_left_out() -> None:
    answers = [[True, False], [False, False]]
    told: list[Any] = []

    def answer(*_: Any) -> list[Message]:
        return [Message("validated", {"sums": None, "missed": missed}) for missed in answers.pop(0)]

    supervisor: Any = object.__new__(Supervisor)
    supervisor._desk = SimpleNamespace(
        members=lambda: [0, 1], workers=[], answers=answer, listen=lambda: None
    )
    supervisor._desk.tell = lambda workers: told.append(list(workers))
    assert supervisor._validate() is None  # there is no split to validate on
    assert (answers, told) == ([], [[]])

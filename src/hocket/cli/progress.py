"""Progress on standard error: a bar where a person watches, plain lines where nobody does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from hocket.core import clock
from hocket.reports.axes import duration

_SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """What commands tell about long work."""

    def update(self, what: str, done: int, total: int | None, note: str = "") -> None:
        """``done`` of ``total`` of the work called ``what``; ``note`` says how it goes."""
        ...

    def say(self, text: str) -> None:
        """Something happened that should stay on the screen."""
        ...


class Lines:
    """Plain lines, one every ten seconds at most for each kind of work, with the time left."""

    def __init__(self, console: Console, now: clock.Clock = clock.monotonic) -> None:
        self._console, self._now = console, now
        self._work: tuple[str, float, int] | None = None
        self._last_line = 0.0

    def update(self, what: str, done: int, total: int | None, note: str = "") -> None:
        """Print a line, if the last one is long enough ago or the work is through."""
        now = self._now()
        if self._work is None or self._work[0] != what or done < self._work[2]:
            self._work, self._last_line = (what, now, done), now
            return
        through = total is not None and done >= total
        if not through and now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        parts = [f"{what} {done:,}" + ("" if total is None else f"/{total:,}"), note]
        _, start, first = self._work
        if total is not None and done > first and not through:
            parts.append(f"{duration((now - start) / (done - first) * (total - done))} left")
        self.say("  ".join(part for part in parts if part))

    def say(self, text: str) -> None:
        """Print ``text`` as it is."""
        self._console.print(text, markup=False, soft_wrap=True)


class BarsOnTerminal:
    """One bar for each kind of work, with the time left."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> BarsOnTerminal:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, what: str, done: int, total: int | None, note: str = "") -> None:
        """Move the bar of ``what``."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(escape(what), total=total, completed=done, note="")
        task = self._bars.tasks[self._bars.task_ids.index(self._tasks[what])]  # type: ignore[arg-type]
        if done < task.completed:
            self._bars.reset(task.id, total=total, completed=done)
        self._bars.update(task.id, completed=done, total=total, note=escape(note))

    def say(self, text: str) -> None:
        """Print ``text`` above the bars."""
        self._bars.console.print(text, markup=False, soft_wrap=True)


def of_parts(progress: Progress) -> Callable[[str, int, int], None]:
    """Shows work that is told of as ``work: detail``, with how many parts are done of how many."""

    def told(what: str, done: int, of: int) -> None:
        work, _, detail = what.partition(": ")
        progress.update(work, done, of, detail)

    return told


@contextmanager
def on_stderr() -> Iterator[Progress]:
    """Progress for one command."""
    console = Console(file=sys.stderr, highlight=False)
    if console.is_terminal:
        with BarsOnTerminal(console) as bars:
            yield bars
    else:
        yield Lines(console)

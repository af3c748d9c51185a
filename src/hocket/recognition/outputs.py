"""The files that a job writes from its answers, each whole or not at all, by the ending of their names.

``.jsonl`` (all that is known), ``.txt`` (a line for each utterance), ``.ctm`` (words with times, NIST's
format), ``.parquet`` (a table), and ``.srt`` and ``.vtt`` (subtitles: a file for each recording, so
that the name of several holds a ``*`` for the recording's id).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hocket.core import files
from hocket.core.errors import RunError, UsageError
from hocket.recognition import subtitles
from hocket.recognition.hypotheses import Failure, Hypothesis, failures_path, to_line

Sink = Callable[[Hypothesis], None]

_WITH_TIMES = (".ctm", ".srt", ".vtt")
_ROWS = 4096
"""Rows of a Parquet file's group."""


def check(outs: Sequence[Path], num_items: int | None = None) -> None:
    """Raise :class:`UsageError` for an output that cannot be written for so many utterances."""
    if not outs:
        raise UsageError("no output was named")
    for out in outs:
        if out.suffix not in _WRITERS:
            raise UsageError(
                f"{out}: no format is known by this name", f"Known endings: {' '.join(sorted(_WRITERS))}."
            )
        several = "*" in out.name
        if several and out.suffix not in subtitles.FORMATS:
            raise UsageError(f"{out}: one {out.suffix} file holds all utterances: leave out the '*'")
        if not several and out.suffix in subtitles.FORMATS and num_items not in (None, 1):
            raise UsageError(
                f"{out}: {num_items} recordings do not go into one {out.suffix} file",
                f"Write * where the recording's name is to be: '{out.with_name('*' + out.suffix)}'.",
            )
    if "*" in str(outs[0]):
        raise UsageError(
            f"{outs[0]}: the first output gives the journal its name, and so holds no '*'",
            "Name another one first, hyps.jsonl say.",
        )


def make_folders(outs: Iterable[Path]) -> None:
    """Make the folders of all outputs; :class:`UsageError` where one cannot be, or cannot be written to."""
    for out in outs:
        why = "a folder has this name" if out.is_dir() else None
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"no folder can be made there: {error.strerror}"
        if why is None and not os.access(out.parent, os.W_OK | os.X_OK):
            why = "its folder may not be written to"
        if why is not None:
            raise UsageError(f"{out}: cannot be written: {why}", "Name another output.")


def need_times(outs: Iterable[Path]) -> bool:
    """Whether any of the outputs needs the times of words."""
    return any(out.suffix in _WITH_TIMES for out in outs)


def write(outs: Sequence[Path], answers: Iterable[Hypothesis | Failure]) -> tuple[int, int, float]:
    """Write all outputs, and the failures beside the first; each replaces what was there, at the end.

    Returns the numbers of hypotheses and failures, and the seconds of audio with a hypothesis. Without
    failures no old list of them stays.
    """
    num_found = num_failed = 0
    seconds = 0.0
    failed = failures_path(outs[0])
    with ExitStack() as stack:
        sinks = [stack.enter_context(_WRITERS[out.suffix](out)) for out in outs]
        listed = ExitStack()
        failures = None
        with listed:
            for answer in answers:
                if isinstance(answer, Failure):
                    failures = failures or listed.enter_context(files.replacing(failed))
                    failures.write(to_line(answer))
                    num_failed += 1
                    continue
                for sink in sinks:
                    sink(answer)
                num_found += 1
                seconds += answer.duration or 0.0
    if not num_failed:
        failed.unlink(missing_ok=True)
    return num_found, num_failed, seconds


@contextmanager
def _jsonl(out: Path) -> Iterator[Sink]:
    with files.replacing(out) as file:
        yield lambda hypothesis: _put(file, to_line(hypothesis))


@contextmanager
def _text(out: Path) -> Iterator[Sink]:
    with files.replacing(out) as file:
        yield lambda hypothesis: _put(file, f"{hypothesis.text}\n".encode())


@contextmanager
def _ctm(out: Path) -> Iterator[Sink]:
    """``RECORDING 1 START DURATION WORD [CONFIDENCE]``; white space in a recording's id as ``%20``."""
    with files.replacing(out) as file:

        def sink(hypothesis: Hypothesis) -> None:
            name = quote(hypothesis.id, safe="/#:;,+=@!$&'()*~[]{}^|<>?\\\"`", errors="surrogateescape")
            for word in timed(hypothesis):
                line = f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text}"
                confidence = "" if word.confidence is None else f" {word.confidence:.4f}"
                _put(file, f"{line}{confidence}\n".encode())

        yield sink


@contextmanager
def _subtitles(out: Path) -> Iterator[Sink]:
    names: set[Path] = set()

    def sink(hypothesis: Hypothesis) -> None:
        path = out.parent / out.name.replace("*", _file_name(hypothesis.id))
        if path in names:
            raise UsageError(f"{path}: two recordings would be written to it", "Give them other ids.")
        names.add(path)
        timed(hypothesis)
        files.write_text(path, subtitles.FORMATS[out.suffix](hypothesis.words))

    yield sink


@contextmanager
def _parquet(out: Path) -> Iterator[Sink]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    word = pa.struct([("text", text), ("start", number), ("end", number), ("confidence", number)])
    schema = pa.schema(
        [
            *(("id", text), ("text", text), ("duration", number), ("ref", text), ("speaker", text)),
            *(("confidence", number), ("words", pa.list_(word))),
        ]
    )
    rows: list[dict[str, Any]] = []
    with files.replacing(out) as file, pq.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def sink(hypothesis: Hypothesis) -> None:
            row = {name: getattr(hypothesis, name) for name in schema.names if name != "words"}
            row["id"] = hypothesis.id.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            rows.append({**row, "words": [vars(word) for word in hypothesis.words]})
            if len(rows) == _ROWS:
                flush()

        yield sink
        flush()


_WRITERS: dict[str, Callable[[Path], AbstractContextManager[Sink]]] = {
    ".jsonl": _jsonl,
    ".txt": _text,
    ".ctm": _ctm,
    ".parquet": _parquet,
    ".srt": _subtitles,
    ".vtt": _subtitles,
}


def timed(hypothesis: Hypothesis) -> Any:
    """The words; raises :class:`RunError` where a text has none with times."""
    if hypothesis.text and not hypothesis.words:
        raise RunError(f"{hypothesis.id}: its words have no times", "This search does not give them.")
    return hypothesis.words


def _file_name(id: str) -> str:
    """An id as a path below the folder of outputs: its own folders, nothing that leads out of there."""
    parts = [
        part for part in id.replace("\n", "%0A").replace("\0", "%00").split("/") if part not in ("", ".")
    ]
    return "/".join("%2E%2E" if part == ".." else part for part in parts)


def _put(file: Any, data: bytes) -> None:
    file.write(data)

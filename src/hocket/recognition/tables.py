"""Tables of audio to recognise: JSON lines, CSV or TSV, as for preparing a corpus but without need of text.

Columns: ``audio`` (a path, relative to the table's folder); optional ``id``, ``text`` (the reference),
``speaker``, ``channel``, and ``start`` with ``duration`` in seconds for a part of the file. Without
``start`` a duration is only a claim about the whole file, and not relied on.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from hocket.core.errors import CorpusError, UsageError
from hocket.recognition.items import Item

Row = dict[str, Any]

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".tsv")


def read(path: Path) -> Iterator[Item]:
    """The rows of a table; a broken one is an item with a ``problem`` that names file and line.

    Raises :class:`UsageError` when the file cannot be read or has no column of audio.
    """
    folder = path.parent
    try:
        for number, row in _rows(path):
            where = f"{path}:{number}"
            try:
                yield _item(row, folder)
            except ValueError as error:
                yield Item(id=where, audio=path, problem=f"{where}: {error}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read the table: {error}") from error


def _rows(path: Path) -> Iterator[tuple[int, Row | str]]:
    """Line numbers and rows, or what is wrong with a line."""
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from _csv_rows(path)
        return
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _json_row(line)


def _json_row(line: bytes) -> Row | str:
    try:
        row = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object"


def _csv_rows(path: Path) -> Iterator[tuple[int, Row | str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=max("\t;,", key=header.count), restkey="")
        if "audio" not in (reader.fieldnames or ()):
            raise CorpusError(f"{path}:1: no column 'audio'", "The first line of a table names its columns.")
        for row in reader:
            known = {name: value for name, value in row.items() if value is not None}
            yield reader.line_num, "more fields than columns" if "" in known else known


def _item(row: Row | str, folder: Path) -> Item:
    """The row as an item. Raises :class:`ValueError` saying what is wrong with it."""
    if isinstance(row, str):
        raise ValueError(row)
    audio = row.get("audio")
    if not isinstance(audio, str) or not audio:
        raise ValueError(f"audio is {audio!r}, not a path")
    text, speaker = row.get("text"), row.get("speaker")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"text is {text!r}, not a string")
    start, duration = _seconds(row, "start"), _seconds(row, "duration")
    if start is not None and not duration:
        raise ValueError("a start needs a duration")
    name = row.get("id")
    if name in (None, ""):
        name = str(PurePosixPath(audio).with_suffix("")) + ("" if start is None else f"-{start:g}")
    return Item(
        id=str(name),
        audio=folder / audio,
        channel=_channel(row.get("channel")),
        part=None if start is None or duration is None else (start, duration),
        ref=text,
        speaker=None if speaker in (None, "") else str(speaker),
    )


def _channel(value: Any) -> int | None:
    if value in (None, ""):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"channel is {value!r}, not a number") from None


def _seconds(row: Row, column: str) -> float | None:
    value = row.get(column)
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{column} is {value!r}, not a number of seconds")
    return seconds

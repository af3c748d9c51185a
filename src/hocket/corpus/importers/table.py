"""Tables: JSON lines, CSV or TSV with a row for each utterance.

Columns: ``audio`` (a path, relative to the table's folder) and ``text``; optional ``id``, ``speaker``,
``split``, ``channel`` and ``duration`` in seconds. With ``start`` in seconds the utterance is the part
of that duration. Other columns are passed over.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from hocket.core.errors import CorpusError
from hocket.corpus.importers.base import ImportContext, Imported, Item, LeftOut, refuse_mostly_broken

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".tsv")
_NAMES = tuple("manifest" + suffix for suffix in _SUFFIXES)
Fields = dict[str, Any]


class TableImporter:
    """JSONL, CSV or TSV; or a folder that holds one called ``manifest``."""

    def detect(self, source: str) -> bool:
        """Whether the source looks like this format."""
        return _table(Path(source)) is not None

    def read(self, source: str, context: ImportContext) -> Imported:
        """Read all rows; a line that is none is left out, unless most are."""
        path = _table(Path(source))
        if path is None:
            raise CorpusError(
                f"{source}: no table here",
                f"A folder needs one of {', '.join(_NAMES)}; a file one of those endings.",
            )
        folder = path.parent.resolve()
        items: list[Item] = []
        broken: list[LeftOut] = []
        for number, fields in _lines(path):
            where = f"{path}:{number}"
            if isinstance(fields, str):
                broken.append(LeftOut(None, where, "broken line", f"{where}: {fields}"))
                continue
            try:
                items.append(_item(fields, folder, where))
            except ValueError as error:
                named = fields.get("id")
                broken.append(
                    LeftOut(str(named) if named else None, where, "broken line", f"{where}: {error}")
                )
        refuse_mostly_broken(path, items, broken, "Each line needs audio (a path) and text.")
        name = folder.name if path.name in _NAMES else path.name.removesuffix(".gz").rsplit(".", 1)[0]
        return Imported(name, items, broken)


def _table(source: Path) -> Path | None:
    if source.is_dir():
        return next((source / name for name in _NAMES if (source / name).is_file()), None)
    return source if source.name.lower().endswith(_SUFFIXES) else None


def _lines(path: Path) -> Iterator[tuple[int, Fields | str]]:
    """Line numbers and fields, or what is wrong with the line."""
    try:
        if path.suffix.lower() in (".csv", ".tsv"):
            yield from _csv_lines(path)
        else:
            yield from _json_lines(path)
    except (OSError, EOFError) as error:
        raise CorpusError(f"{path}: cannot read the table: {error}") from error


def _json_lines(path: Path) -> Iterator[tuple[int, Fields | str]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except ValueError as error:
                yield number, f"no JSON: {error}"
                continue
            yield number, fields if isinstance(fields, dict) else "not a JSON object"


def _csv_lines(path: Path) -> Iterator[tuple[int, Fields | str]]:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max("\t;,", key=first.count)
        reader = csv.DictReader(file, delimiter=delimiter, restkey="", strict=True)
        columns = reader.fieldnames or []
        missing = {"audio", "text"}.difference(columns)
        if missing:
            raise CorpusError(
                f"{path}:1: no column {' and '.join(sorted(missing))}; it has {', '.join(columns) or 'none'}",
                "The first line names the columns: audio and text are needed.",
            )
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield reader.line_num, f"not CSV: {error}"
                continue
            if row is None:
                return
            if "" in row:
                yield reader.line_num, f"more fields than the {len(columns)} columns"
            elif row["text"] is None:
                yield reader.line_num, f"fewer fields than the {len(columns)} columns"
            else:
                yield (
                    reader.line_num,
                    {name: value for name, value in row.items() if value not in (None, "")}
                    | {"text": row["text"]},
                )


def _item(fields: Fields, folder: Path, where: str) -> Item:
    """One utterance. Raises :class:`ValueError` with what is wrong with its line."""
    audio, text = fields.get("audio"), fields.get("text")
    if not isinstance(audio, str) or not audio:
        raise ValueError("no audio path" if audio is None else f"audio is {audio!r}, not a path")
    if not isinstance(text, str):
        raise ValueError("no text" if text is None else f"text is {text!r}, not a string")
    start, duration = _seconds(fields, "start"), _seconds(fields, "duration")
    if start is not None and not duration:
        raise ValueError("a start needs a duration")
    named = fields.get("id")
    if named is None or named == "":
        named = str(PurePosixPath(audio).with_suffix("")) + ("" if start is None else f"-{start:g}")
    channel = fields.get("channel")
    try:
        channel = None if channel is None else int(channel)
    except (TypeError, ValueError):
        raise ValueError(f"channel is {channel!r}, not a number") from None
    return Item(
        id=str(named),
        audio=folder / audio,
        text=text,
        where=where,
        speaker=_name(fields, "speaker"),
        split=_name(fields, "split"),
        channel=channel,
        start_seconds=start,
        duration_seconds=duration,
    )


def _name(fields: Fields, column: str) -> str | None:
    value = fields.get(column)
    return None if value is None or value == "" else str(value)


def _seconds(fields: Fields, column: str) -> float | None:
    value = fields.get(column)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{column} is {value!r}, not a number of seconds") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{column} is {value!r}, not a number of seconds")
    return seconds

"""The journal of a job is its result: what is in it is never computed again.

One file. Its first line is the *fingerprint* of the job: whoever goes on must be doing the same. Then,
for each micro-batch that was finished, one line for each of its pieces and one that closes it; they are
written in one go and made durable (fdatasync) before the next. A line begins with the CRC-32 of the rest.
So whatever kills the writer, the file is whole micro-batches and at most one torn tail, which is dropped.

One process writes: it holds a lock (flock) that ends with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from array import array
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hocket.core.errors import RunError
from hocket.core.transcript import Alternative, Transcript, Word

VERSION = 1
Fingerprint = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came of a piece: a transcript, or the reason why there is none."""

    piece: int
    transcript: Transcript | None
    reason: str


class Journal(AbstractContextManager["Journal"]):
    """An open journal: what it holds, and the way to add to it.

    ``num_pieces`` and ``num_micro_batches`` are those of the plan that the fingerprint names.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Fingerprint,
        num_pieces: int,
        num_micro_batches: int,
        fresh: bool = False,
    ) -> None:
        """Open or begin it; ``fresh`` empties it first. The folder of ``path`` is made.

        Raises :class:`RunError` when another process holds it, when it is of another job (naming what
        differs), or damaged elsewhere than at its end.
        """
        self.path = path
        self.done: npt.NDArray[np.bool_] = np.zeros(num_micro_batches, np.bool_)
        """Micro-batches that are finished, by number."""
        self._offsets = array("q", bytes(8 * num_pieces))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            _lock(self._fd, path)
            if fresh:
                os.ftruncate(self._fd, 0)
            self._end = self._take_up(json.loads(json.dumps(fingerprint)))
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def num_bytes(self) -> int:
        """Length of what is whole in it."""
        return self._end

    def add(self, number: int, answers: list[Answer]) -> None:
        """Add a finished micro-batch; it is durable when this returns.

        Raises :class:`RunError` when the disk refuses it.
        """
        data = bytearray()
        offsets = []
        for answer in answers:
            offsets.append(self._end + len(data))
            data += _line(_record(answer))
        data += _line({"done": number, "pieces": len(answers)})
        try:
            _write(self._fd, data)
            os.fdatasync(self._fd)
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot write: {error.strerror}",
                "What is in it stays: make room and run it again.",
            ) from error
        for answer, offset in zip(answers, offsets, strict=True):
            self._offsets[answer.piece] = offset
        self._end += len(data)
        self.done[number] = True

    def answer(self, piece: int) -> Answer | None:
        """What the journal holds of a piece."""
        offset = self._offsets[piece]
        if not offset:
            return None
        return _answer(_parse(_line_at(self._fd, offset)) or {})

    def finished_at(self) -> npt.NDArray[np.int64]:
        """When each piece was answered, as a place in the journal; 0 where it was not."""
        return np.array(self._offsets, np.int64)

    def _take_up(self, fingerprint: dict[str, Any]) -> int:
        """Read what is there, drop a torn tail, or begin anew; returns the length."""
        header = _line({"journal": VERSION, "fingerprint": fingerprint})
        first = _line_at(self._fd, 0)
        if not first.endswith(b"\n"):  # nothing, or a header that was torn
            os.ftruncate(self._fd, 0)
            _write(self._fd, header)
            os.fsync(self._fd)
            return len(header)
        _check_header(self.path, _parse(first), fingerprint)
        end, num_bad = len(first), 0
        waiting: list[tuple[int, int]] = []
        for offset, line in _lines(self._fd, end):
            fields = _parse(line)
            if fields is None:
                num_bad += 1
            elif "piece" in fields:
                waiting.append((int(fields["piece"]), offset))
            elif "done" in fields:
                if num_bad:
                    raise RunError(
                        f"{self.path}: damaged before byte {offset}: what follows the damage is whole, so no "
                        "crash did this",
                        "Restore the file, or begin again with --fresh.",
                    )
                for piece, at in waiting[-int(fields["pieces"]) :]:
                    self._offsets[piece] = at
                waiting.clear()
                self.done[int(fields["done"])] = True
                end = offset + len(line)
        os.ftruncate(self._fd, end)
        return end


def read_fingerprint(path: Path) -> dict[str, Any] | None:
    """The fingerprint in a journal's first line; None where there is no whole first line."""
    try:
        with path.open("rb") as file:
            header = _parse(file.readline())
    except OSError:
        return None
    found = (header or {}).get("fingerprint")
    return found if isinstance(found, dict) else None


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(
            f"{path}: another process is writing it", "Wait for it, stop it, or choose another output."
        ) from None


def _check_header(path: Path, header: dict[str, Any] | None, fingerprint: dict[str, Any]) -> None:
    if header is None or header.get("journal") != VERSION:
        raise RunError(
            f"{path}: not a journal that this hocket reads",
            "Choose another output, or --fresh to replace it.",
        )
    differing = _differing(header["fingerprint"], fingerprint)
    if differing:
        raise RunError(
            f"{path}: the journal of another job; what differs: {'; '.join(differing)}",
            "Go on as it was begun, choose another output, or throw it away with --fresh.",
        )


def _differing(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, each setting by itself; the cut only where nothing else explains it."""
    found: list[str] = []
    for name in {**there, **now}:
        old, new = there.get(name), now.get(name)
        if old == new or (name == "cut" and found):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differing(old, new)
        else:
            found.append(f"{name} ({old} there, {new} now)")
    return list(dict.fromkeys(found))


def _line(fields: Mapping[str, Any]) -> bytes:
    body = json.dumps(fields, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> dict[str, Any] | None:
    """The fields of a line; None when it is not as it was written."""
    if len(line) < 10 or not line.endswith(b"\n"):
        return None
    body = line[9:-1]
    if line[:8] != b"%08x" % zlib.crc32(body):
        return None
    fields = json.loads(body)
    return fields if isinstance(fields, dict) else None


def _record(answer: Answer) -> dict[str, Any]:
    found = answer.transcript
    if found is None:
        return {"piece": answer.piece, "reason": answer.reason}
    fields: dict[str, Any] = {"piece": answer.piece, "text": found.text}
    if found.words:
        fields["words"] = [[w.text, w.start, w.end, w.confidence] for w in found.words]
    if found.confidence is not None:
        fields["confidence"] = found.confidence
    if found.alternatives:
        fields["alternatives"] = [[entry.text, entry.score] for entry in found.alternatives]
    return fields


def _answer(fields: Mapping[str, Any]) -> Answer:
    if "text" not in fields:
        return Answer(int(fields["piece"]), None, str(fields["reason"]))
    transcript = Transcript(
        text=fields["text"],
        words=tuple(Word(*word) for word in fields.get("words", ())),
        confidence=fields.get("confidence"),
        alternatives=tuple(Alternative(*entry) for entry in fields.get("alternatives", ())),
    )
    return Answer(int(fields["piece"]), transcript, "")


def _write(fd: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _line_at(fd: int, offset: int) -> bytes:
    """The line that begins at an offset; without its end where the file has no more."""
    size, data = 4096, b""
    while b"\n" not in data:
        more = os.pread(fd, size, offset + len(data))
        if not more:
            return data
        data, size = data + more, 2 * size
    return data[: data.index(b"\n") + 1]


def _lines(fd: int, offset: int) -> Iterator[tuple[int, bytes]]:
    with open(os.dup(fd), "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.seek(offset)
        for line in file:
            yield offset, line
            offset += len(line)

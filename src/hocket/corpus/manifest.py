"""lhotse manifests of cuts, written and read as the JSON that lhotse itself writes.

``lhotse.CutSet.from_file(OUT/SPLIT/cuts.jsonl.gz)`` loads them. lhotse is not imported here: that
costs more than a second in every worker, and the format is one JSON object a line.

A recording of which all channels are averaged is a ``MultiCut`` over its channels; any other is a
``MonoCut``. https://lhotse.readthedocs.io/en/latest/cuts.html
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from hocket.core.errors import CorpusError

FILE = "cuts.jsonl.gz"


@dataclass(frozen=True)
class Cut:
    """A stretch of a recording with its transcript. Samples count at the recording's own rate."""

    id: str
    audio: Path
    sample_rate: int
    channels: int
    """Channels of the file."""
    file_samples: int
    """Samples of the whole file, each channel."""
    channel: int | None
    """The channel that is heard; None averages all."""
    start: int
    num: int
    text: str | None
    speaker: str | None
    told: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The whole cut as another manifest had it: what is not said above is kept as it was."""


def write(path: Path, cuts: Iterable[Cut]) -> None:
    """Write cuts, gzipped where the name ends in ``.gz``; the same cuts give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw:
        if path.suffix != ".gz":
            _write_lines(raw, cuts)
            return
        with gzip.GzipFile("", "wb", compresslevel=5, fileobj=raw, mtime=0) as packed:
            _write_lines(packed, cuts)


def read(path: Path) -> Iterator[tuple[int, Cut | CorpusError]]:
    """Line numbers (from 1) and cuts; a line that is no such cut gives the error in its place.

    Raises :class:`CorpusError` when the file itself cannot be read.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parse_line(line, f"{path}:{number}")
    except (OSError, EOFError) as error:
        raise CorpusError(f"{path}: cannot read the manifest: {error}") from error


def _write_lines(file: IO[bytes] | gzip.GzipFile, cuts: Iterable[Cut]) -> None:
    for cut in cuts:
        file.write((json.dumps(_to_json(cut), ensure_ascii=False) + "\n").encode())


def _to_json(cut: Cut) -> dict[str, Any]:
    return _new(cut) if cut.told is None else _kept(cut, cut.told)


def _kept(cut: Cut, before: Mapping[str, Any]) -> dict[str, Any]:
    """A cut that was read from a manifest, with what is otherwise now: its file, its extent, its text."""
    told: dict[str, Any] = copy.deepcopy(dict(before))
    recording = told["recording"]
    recording["sources"][0]["source"] = str(cut.audio)
    was = parse(told, cut.id)
    assert isinstance(was, Cut)  # it was read before
    if (was.sample_rate, was.file_samples) != (cut.sample_rate, cut.file_samples):
        recording |= {
            "sampling_rate": cut.sample_rate,
            "num_samples": cut.file_samples,
            "duration": cut.file_samples / cut.sample_rate,
        }
    if (was.sample_rate, was.start, was.num) != (cut.sample_rate, cut.start, cut.num):
        told |= {"start": cut.start / cut.sample_rate, "duration": cut.num / cut.sample_rate}
    spoken = [one for one in told.get("supervisions") or [] if one.get("text")]
    if was.text != cut.text and cut.text is not None:
        words = cut.text.split()  # other case, other spaces: the same number of words in each
        for one in spoken:
            count = len(one["text"].split())
            one["text"], words = " ".join(words[:count]), words[count:]
    return told


def _new(cut: Cut) -> dict[str, Any]:
    channels = list(range(cut.channels))
    single = cut.channel if cut.channel is not None else 0 if cut.channels == 1 else None
    heard: int | list[int] = channels if single is None else single
    recording_id = cut.id if cut.num == cut.file_samples else cut.audio.as_posix()
    duration = cut.num / cut.sample_rate
    supervision: dict[str, Any] = {
        "id": cut.id,
        "recording_id": recording_id,
        "start": 0.0,
        "duration": duration,
        "channel": heard,
    }
    if cut.text is not None:
        supervision["text"] = cut.text
    if cut.speaker is not None:
        supervision["speaker"] = cut.speaker
    return {
        "id": cut.id,
        "start": cut.start / cut.sample_rate,
        "duration": duration,
        "channel": heard,
        "supervisions": [supervision],
        "recording": {
            "id": recording_id,
            "sources": [{"type": "file", "channels": channels, "source": str(cut.audio)}],
            "sampling_rate": cut.sample_rate,
            "num_samples": cut.file_samples,
            "duration": cut.file_samples / cut.sample_rate,
            "channel_ids": channels,
        },
        "type": "MultiCut" if single is None else "MonoCut",
    }


def in_shard(cut: Cut) -> dict[str, Any]:
    """A cut as a Shar has it: its recording is a placeholder, and lies in the tar beside.

    ``audio`` does not count.
    """
    told = _to_json(replace(cut, audio=Path(cut.id)))
    recording = told["recording"]
    if cut.told is None:
        recording["id"] = told["supervisions"][0]["recording_id"] = cut.id
    channels = recording["sources"][0]["channels"]
    recording["sources"] = [{"type": "shar", "channels": channels, "source": ""}]
    return told


def _parse_line(line: bytes, where: str) -> Cut | CorpusError:
    try:
        return parse(json.loads(line), where)
    except ValueError as error:
        return CorpusError(f"{where}: no JSON: {error}")


def parse(cut: dict[str, Any], where: str) -> Cut | CorpusError:
    """A cut from the fields that lhotse's ``to_dict`` gives, or the error that says what is wrong."""
    try:
        if cut["type"] not in ("MonoCut", "MultiCut"):
            return CorpusError(f"{where}: a cut of type {cut['type']}: only MonoCut and MultiCut can be read")
        recording = cut["recording"]
        source, *others = recording["sources"]
        if others or source["type"] != "file" or recording.get("transforms"):
            return CorpusError(f"{where}: the recording is not one plain file", "Save the audio first.")
        rate, channels = int(recording["sampling_rate"]), source["channels"]
        heard = cut["channel"]
        if isinstance(heard, list) and heard != channels and len(heard) > 1:
            return CorpusError(f"{where}: some of the channels: only one or all can be read")
        channel = (heard[0] if len(heard) == 1 else None) if isinstance(heard, list) else heard
        supervisions = cut.get("supervisions") or []
        texts = [s["text"] for s in supervisions if s.get("text")]
        return Cut(
            id=cut["id"],
            audio=Path(source["source"]),
            sample_rate=rate,
            channels=len(channels),
            file_samples=int(recording["num_samples"]),
            channel=None if channel is None or len(channels) == 1 else channels.index(channel),
            start=round(cut["start"] * rate),
            num=round(cut["duration"] * rate),
            text=" ".join(texts) if texts else None,
            speaker=next((s["speaker"] for s in supervisions if s.get("speaker")), None),
            told=cut,
        )
    except (KeyError, TypeError, ValueError) as error:
        return CorpusError(f"{where}: not a cut with a recording: {error!r}")

"""Writing one shard: a tar of recordings with a manifest of cuts beside it, as lhotse's Shar has them.

``lhotse.CutSet.from_shar(in_dir=OUT/SPLIT/shar)`` reads them. In the tar each recording is followed by its
description; a recording is the source's own file, byte for byte, unless it is to be encoded. Of a longer
file, of which utterances are parts, the part alone is kept: as FLAC where that loses nothing (whole numbers
of 8 to 24 bits), else as a WAV file of the very numbers that decoding gives.

The bytes are a function of the utterances alone: no time, user or machine stands in them.
Formats: POSIX.1-2001 pax; https://lhotse.readthedocs.io/en/latest/datasets.html#lhotse-shar
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from hocket.core import files
from hocket.core.errors import AudioError, CorpusError
from hocket.corpus import audio, manifest
from hocket.corpus.shards import ogg

_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_WHOLE_NUMBERS = {"PCM_S8": ("int16", "PCM_16"), "PCM_U8": ("int16", "PCM_16"), "PCM_16": ("int16", "PCM_16")}
_WHOLE_NUMBERS["PCM_24"] = ("int32", "PCM_24")
_MOST_FLAC_CHANNELS = 8
_OPUS_RATES, _MOST_OPUS_CHANNELS = (8_000, 12_000, 16_000, 24_000, 48_000), 2
_ENDINGS = {"WAV": ".wav", "WAVEX": ".wav", "OGG": ".ogg", "FLAC": ".flac", "MP3": ".mp3", "AIFF": ".aiff"}


Encoding = Literal["keep", "flac", "opus"]
"""What becomes of recordings of whole numbers, as WAV and FLAC files hold: they stay as they are, become
FLAC, which has the same samples, or Opus, which has not (RFC 6716; FLAC at rates and channels that Opus
lacks). All else, of floats or compressed with loss already, stays as it is."""


@dataclass(frozen=True)
class Entry:
    """An utterance to put in a shard, as the index has it."""

    id: str
    audio: Path
    channel: int | None
    start: int
    num: int
    text: str
    speaker: str | None
    told: Mapping[str, Any] | None = None
    """The whole cut, as the manifest of the split has it."""


@dataclass(frozen=True)
class Job:
    """A shard to write: ``recording.NUMBER.tar`` and ``cuts.NUMBER.jsonl.gz`` in ``folder``."""

    folder: Path
    number: int
    entries: Sequence[Entry]
    block_sizes: Sequence[int]
    """Utterances in each block of the shard."""
    encode: Encoding = "keep"


@dataclass(frozen=True)
class Written:
    """A shard that was written: its place in tables."""

    number: int
    size: int
    sha256: str
    columns: dict[str, Any]
    """Of each item ``offset``, ``size``, ``crc``, ``start``; of each block its ``block_offset`` and
    ``block_length``."""


def tar_name(number: int) -> str:
    """File of the shard's recordings."""
    return f"recording.{number:06d}.tar"


def cuts_name(number: int) -> str:
    """File of the shard's cuts."""
    return f"cuts.{number:06d}.jsonl.gz"


def write(job: Job) -> Written:
    """Write a shard; each file is whole or not there. Raises :class:`CorpusError` for what it cannot read."""
    columns: dict[str, list[int]] = {name: [] for name in ("offset", "size", "crc", "start")}
    cuts: list[dict[str, Any]] = []
    with files.replacing(job.folder / tar_name(job.number)) as raw:
        tar = _Tar(raw)
        for entry in job.entries:
            data, ending, start, info = _recording(entry, job.encode)
            cut = manifest.Cut(
                id=entry.id,
                audio=Path(),
                sample_rate=info.sample_rate,
                channels=info.channels,
                file_samples=info.num_samples,
                channel=entry.channel,
                start=start,
                num=entry.num,
                text=entry.text,
                speaker=entry.speaker,
                told=entry.told,
            )
            described = manifest.in_shard(cut)
            columns["offset"].append(tar.add(entry.id + ending, data))
            columns["size"].append(len(data))
            columns["crc"].append(zlib.crc32(data))
            columns["start"].append(start)
            told = json.dumps(described["recording"], ensure_ascii=False) + "\n"
            tar.add(entry.id + ".json", told.encode())
            cuts.append(described)
        tar.finish()
    with (
        files.replacing(job.folder / cuts_name(job.number)) as raw,
        gzip.GzipFile("", "wb", compresslevel=5, fileobj=raw, mtime=0) as packed,
    ):
        packed.write("".join(json.dumps(cut, ensure_ascii=False) + "\n" for cut in cuts).encode())
    dtypes = {"offset": np.int64, "size": np.int64, "crc": np.uint32, "start": np.int64}
    arrays = {name: np.asarray(column, dtypes[name]) for name, column in columns.items()}
    last = np.cumsum(job.block_sizes) - 1
    first = last - np.asarray(job.block_sizes) + 1
    arrays["block_offset"] = arrays["offset"][first]
    arrays["block_length"] = arrays["offset"][last] + arrays["size"][last] - arrays["offset"][first]
    return Written(job.number, tar.size, tar.sha256, arrays)


class _Tar:
    """A tar being written, and the hash of its bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def add(self, name: str, data: bytes) -> int:
        """Append a member; the byte at which its data begins."""
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        begin = self.size
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))
        return begin

    def finish(self) -> None:
        """The end of the archive."""
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self.size % _RECORD))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)


def _recording(entry: Entry, encode: Encoding) -> tuple[bytes, str, int, audio.AudioInfo]:
    """Bytes, ending, the first sample that is heard, and the header, of an utterance's recording."""
    try:
        info = audio.probe(entry.audio)
        is_whole = entry.start == 0 and entry.num == info.num_samples
        if is_whole and not _is_to_be_encoded(info, encode):
            data = entry.audio.read_bytes()
            info = audio.probe(entry.audio, data)
            ending = entry.audio.suffix.lower() or _ENDINGS.get(info.format.split("/")[0], ".audio")
            return data, ending, 0, info
        return _part(entry, info, encode)
    except (AudioError, OSError, soundfile.LibsndfileError) as error:
        raise CorpusError(
            f"{entry.id}: {entry.audio}: it has changed since it was looked at: {error}", "Prepare again."
        ) from error


def _is_packable(info: audio.AudioInfo) -> bool:
    """Whether FLAC holds the very samples."""
    return info.format.split("/")[1] in _WHOLE_NUMBERS and info.channels <= _MOST_FLAC_CHANNELS


def _has_opus(info: audio.AudioInfo) -> bool:
    return info.sample_rate in _OPUS_RATES and info.channels <= _MOST_OPUS_CHANNELS


def _is_to_be_encoded(info: audio.AudioInfo, encode: Encoding) -> bool:
    if encode == "keep" or not _is_packable(info):
        return False
    return not info.format.startswith("FLAC") or (encode == "opus" and _has_opus(info))


def _part(entry: Entry, info: audio.AudioInfo, encode: Encoding) -> tuple[bytes, str, int, audio.AudioInfo]:
    packed = _is_packable(info)
    kind, kept = _WHOLE_NUMBERS[info.format.split("/")[1]] if packed else ("float32", "")
    with soundfile.SoundFile(str(entry.audio)) as file:
        if entry.start:
            file.seek(entry.start)
        x_NC = file.read(entry.num, dtype=kind, always_2d=True)
    if len(x_NC) < entry.num:
        raise AudioError(f"truncated: {len(x_NC)} of {entry.num} samples could be decoded")
    info = replace(info, num_samples=entry.num)
    if not packed:
        return _float_wav(x_NC.astype(np.float32), info.sample_rate), ".wav", 0, info
    out = io.BytesIO()
    if encode == "opus" and _has_opus(info):
        soundfile.write(out, x_NC, info.sample_rate, format="OGG", subtype="OPUS")
        return ogg.numbered(out.getvalue(), zlib.crc32(x_NC.tobytes())), ".opus", 0, info
    soundfile.write(out, x_NC, info.sample_rate, format="FLAC", subtype=kept)
    return out.getvalue(), ".flac", 0, info


def _float_wav(x_NC: npt.NDArray[np.float32], rate: int) -> bytes:
    """A WAV file of 32-bit floats. libsndfile would write the time of day into it."""
    num, channels = x_NC.shape
    width = 4 * channels
    layout = struct.pack("<HHIIHHH", 3, channels, rate, rate * width, width, 32, 0)
    chunks = [(b"fmt ", layout), (b"fact", struct.pack("<I", num)), (b"data", x_NC.astype("<f4").tobytes())]
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body

"""Any audio in, 16 kHz mono float32 inside.

Everything that can be wrong with a recording is an :class:`AudioError` with its path and reason; the
caller lists the utterance and goes on.
"""

from __future__ import annotations

import errno
import io
import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import soundfile

from hocket.core.errors import AudioError
from hocket.corpus import flac
from hocket.corpus.containers import truncation, truncation_of

AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".sph", ".nist", ".caf", ".w64", ".rf64", ".voc"),
)
"""Endings by which audio is told in a folder; all are read by libsndfile."""

SAMPLE_RATE = 16_000
"""Samples per second of all audio inside."""
HOP = 160
"""Samples between frames of features: 10 ms."""

Samples = npt.NDArray[np.float32]
Count = TypeVar("Count", int, npt.NDArray[np.int64])
_BLOCK = 1 << 20


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: rate in Hz, channels, samples per channel, and the format's name."""

    sample_rate: int
    channels: int
    num_samples: int
    format: str


Member = tuple[int, int]
"""First byte and number of bytes of a recording that lies inside another file, a tar."""
Inside = Member | bytes | memoryview
"""A recording inside another file: where it lies there, or its bytes, read already."""


def probe(path: Path, member: Inside | None = None) -> AudioInfo:
    """Read a file's header, and whether the file is as long as it says; decode nothing.

    Raises :class:`AudioError` when it is missing, not audio, truncated or empty.
    """
    with _open(path, member) as file:
        return _info(path, file)


def check(path: Path, channel: int | None = None, start: int = 0, num: int | None = None) -> AudioInfo:
    """:func:`probe`, and decode the samples that :func:`read` would read, in little memory.

    Raises :class:`AudioError` for all that :func:`read` raises it for.
    """
    with _open(path) as file:
        info = _info(path, file)
        left = _extent(path, info, channel, start, num)
        for block in _blocks(path, file, start, left):
            _finite(path, info, block)
    return info


def check_extent(path: Path, info: AudioInfo, channel: int | None, start: int, num: int) -> None:
    """Raise :class:`AudioError` when the file has no such channel or samples; read nothing."""
    _extent(path, info, channel, start, num)


def mono_blocks(
    path: Path,
    channel: int | None = None,
    start: int = 0,
    num: int | None = None,
    member: Inside | None = None,
    length: int = _BLOCK,
) -> Iterator[Samples]:
    """What :func:`read` reads, at the file's own rate and ``length`` samples at a time.

    Raises :class:`AudioError` as it does.
    """
    with _open(path, member) as file:
        info = _info(path, file)
        left = _extent(path, info, channel, start, num)
        for block in _blocks(path, file, start, left, length):
            _finite(path, info, block)
            yield _mono(block, channel)


def read(
    path: Path,
    channel: int | None = None,
    start: int = 0,
    num: int | None = None,
    member: Inside | None = None,
) -> Samples:
    """Read ``num`` samples from ``start`` (both at the file's own rate) as 16 kHz mono float32.

    ``channel`` picks one channel; None averages them all. The result has
    ``resampled_samples(num, rate)`` samples. Raises :class:`AudioError` when the file is missing,
    not audio, truncated, empty, or holds NaN or infinite samples, or when the part lies outside it.
    """
    if isinstance(member, bytes | memoryview):
        whole = flac.decode(member, num)
    else:
        whole = flac.read(path, member, num)
    if whole is not None:
        x_NC, sample_rate = whole
        info = AudioInfo(sample_rate, x_NC.shape[1], len(x_NC), "FLAC")
        left = _extent(path, info, channel, start, num)
        return resample(_mono(x_NC[start : start + left], channel), sample_rate)
    with _open(path, member) as file:
        info = _info(path, file)
        left = _extent(path, info, channel, start, num)
        blocks = list(_blocks(path, file, start, left))
    x_NC = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    _finite(path, info, x_NC)
    return resample(_mono(x_NC, channel), info.sample_rate)


def _mono(x_NC: Samples, channel: int | None) -> Samples:
    if x_NC.shape[1] == 1:
        return x_NC[:, 0]
    if channel is None:
        return np.asarray(x_NC.mean(axis=1, dtype=np.float64), np.float32)
    return np.ascontiguousarray(x_NC[:, channel])


def resample(x_N: Samples, sample_rate: int) -> Samples:
    """Bring samples at ``sample_rate`` to 16 kHz: a Kaiser-windowed sinc, polyphase."""
    return _by_ratio(x_N, *_ratio(SAMPLE_RATE, sample_rate))


def resampled_samples(num_samples: Count, sample_rate: int) -> Count:
    """How many samples :func:`resample` makes of ``num_samples``; ints and int64 arrays."""
    up, down = _ratio(SAMPLE_RATE, sample_rate)
    return -(-num_samples * up // down)


def perturb_speed(x_N: Samples, percent: int) -> Samples:
    """Play faster (``percent`` over 100) or slower by resampling: tempo and pitch change together.

    Ko, Peddinti, Povey & Khudanpur, "Audio augmentation for speech recognition", Interspeech 2015.
    """
    return _by_ratio(x_N, *_ratio(100, percent))


def perturbed_samples(num_samples: Count, percent: int) -> Count:
    """How many samples :func:`perturb_speed` makes of ``num_samples``; ints and int64 arrays."""
    up, down = _ratio(100, percent)
    return -(-num_samples * up // down)


def _open(path: Path, member: Inside | None = None) -> soundfile.SoundFile:
    if isinstance(member, bytes | memoryview):
        return _opened(path, io.BytesIO(member), len(member))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise AudioError(f"{path}: not a file but {what}")
        if member is not None:
            return _opened(path, _member(path, member), member[1])
        if status.st_size == 0:
            raise AudioError(f"{path}: the file is empty")
        torn = truncation(path)
        if torn is not None:
            raise AudioError(f"{path}: {torn}")
        return soundfile.SoundFile(str(path))
    except OSError as error:
        reason = "no such file" if error.errno == errno.ENOENT else error.strerror or str(error)
        raise AudioError(f"{path}: {reason}") from error
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not audio that can be read: {_say(error)}") from error


def _opened(path: Path, file: io.BytesIO, size: int) -> soundfile.SoundFile:
    """A recording of ``size`` bytes that are in memory; ``path`` is what messages call it."""
    if size == 0:
        raise AudioError(f"{path}: the file is empty")
    torn = truncation_of(file, size)
    if torn is not None:
        raise AudioError(f"{path}: {torn}")
    file.seek(0)
    try:
        return soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not audio that can be read: {_say(error)}") from error


def _member(path: Path, member: Member) -> io.BytesIO:
    start, size = member
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(size)
    if len(data) < size:
        raise AudioError(f"{path}: truncated: it ends inside the recording at byte {start}")
    return io.BytesIO(data)


def _info(path: Path, file: soundfile.SoundFile) -> AudioInfo:
    if file.frames <= 0:
        raise AudioError(f"{path}: there are no samples in it")
    return AudioInfo(file.samplerate, file.channels, file.frames, f"{file.format}/{file.subtype}")


def _extent(path: Path, info: AudioInfo, channel: int | None, start: int, num: int | None) -> int:
    if channel is not None and not 0 <= channel < info.channels:
        raise AudioError(f"{path}: channel {channel} was asked for, the file has {info.channels}")
    left = info.num_samples - start if num is None else num
    if start < 0 or left <= 0 or start + left > info.num_samples:
        raise AudioError(
            f"{path}: samples {start} to {start + left} were asked for, the file has {info.num_samples}"
        )
    return left


def _blocks(path: Path, file: soundfile.SoundFile, start: int, num: int, length: int = _BLOCK) -> _Blocks:
    try:
        if start:
            file.seek(start)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: truncated or damaged: {_say(error)}") from error
    return _Blocks(path, file, num, length)


class _Blocks:
    """The next ``num`` samples of an open file, some at a time; whole or an error."""

    def __init__(self, path: Path, file: soundfile.SoundFile, num: int, length: int) -> None:
        self._path, self._file, self._num, self._length, self._done = path, file, num, length, 0

    def __iter__(self) -> _Blocks:
        return self

    def __next__(self) -> Samples:
        wanted = min(self._length, self._num - self._done)
        if wanted == 0:
            raise StopIteration
        try:
            block: Samples = self._file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self._path}: truncated or damaged: {_say(error)}") from error
        self._done += len(block)
        if len(block) < wanted:
            raise AudioError(f"{self._path}: truncated: {self._done} of {self._num} samples could be decoded")
        return block


def _finite(path: Path, info: AudioInfo, x_NC: Samples) -> None:
    if "/PCM_" in info.format:  # whole numbers
        return
    # A sum is not finite when one of its terms is not: one pass instead of a mask of booleans.
    if not math.isfinite(float(x_NC.sum(dtype=np.float64))):
        raise AudioError(f"{path}: some samples are NaN or infinite")


def _say(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).strip().rstrip(".")


@lru_cache(maxsize=64)
def _ratio(new_rate: int, old_rate: int) -> tuple[int, int]:
    common = math.gcd(new_rate, old_rate)
    return new_rate // common, old_rate // common


@lru_cache(maxsize=64)
def _filter(up: int, down: int) -> Samples:
    """The filter that ``resample_poly`` designs by default; designing it costs more than using it."""
    from scipy.signal import firwin

    widest = max(up, down)
    taps = firwin(20 * widest + 1, 1.0 / widest, window=("kaiser", 5.0))
    return np.asarray(taps, np.float32)


def _by_ratio(x_N: Samples, up: int, down: int) -> Samples:
    if up == down:
        return x_N
    # It takes a second to import: who hears 16 kHz as it is need not wait for it.
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(x_N, up, down, window=_filter(up, down)), np.float32)

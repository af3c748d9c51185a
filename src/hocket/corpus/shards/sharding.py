"""Cutting a prepared split into shards, by several processes, also over a kill and a new start.

Borders lie between blocks of the index, so that a block is one stretch of one shard, and as near as can be
to equal bytes. What a shard holds follows from the index and the sources alone: it is the same whoever
writes it. A shard that is written stays, in a folder beside the output, until all are, and then moves in.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hocket.comms import errands
from hocket.core import clock, files
from hocket.core.errors import CorpusError
from hocket.core.seeds import I64
from hocket.corpus import manifest
from hocket.corpus.importers.base import Progress
from hocket.corpus.index import CorpusIndex
from hocket.corpus.looking import stamp
from hocket.corpus.shards import places, shar
from hocket.corpus.shards.places import Shard

_MB = 1e6
_BYTES_A_SAMPLE = {"keep": 2.0, "flac": 1.0, "opus": 0.25}
"""Of speech at 16 kHz, about."""
_Cuts = Iterator[tuple[int, manifest.Cut | CorpusError]]


@dataclass(frozen=True)
class ShardStatistics:
    """The shards of one split, in numbers."""

    num_shards: int
    num_bytes: int
    smallest: int
    largest: int
    fingerprint: str


def cut_into_shards(
    folder: Path,
    split: str,
    *,
    shard_mb: float,
    encode: shar.Encoding,
    workers: int,
    staging: Path,
    progress: Progress,
) -> ShardStatistics:
    """Write the shards of a split of the prepared ``folder``, and where its utterances lie in them.

    Raises :class:`CorpusError` when a recording is not what it was when it was looked at.
    """
    index = CorpusIndex.open(folder, split)
    weights, sources = _weigh(index, encode)
    borders = equal_borders(weights, index.block_starts, shard_mb * _MB)
    job = hashlib.sha256(f"{index.fingerprint}{sources}{borders.tolist()}{encode}".encode()).hexdigest()[:16]
    own = staging / f"{split}-{job}"
    own.mkdir(parents=True, exist_ok=True)
    total, begun = int(weights.sum()), clock.monotonic()
    first_done: list[int] = []

    def tell(done: int) -> None:
        first_done[:] = first_done or [done]
        written = total * done / max(1, len(borders) - 1)
        seconds = max(clock.monotonic() - begun, 1e-9)
        rate = total * (done - first_done[0]) / max(1, len(borders) - 1) / seconds / _MB
        progress(
            f"{split}: writing shards, MB", int(written / _MB), max(1, int(total / _MB)), f"{rate:.1f} MB/s"
        )

    cuts = manifest.read(folder / split / manifest.FILE)
    jobs = [_job(index, cuts, own, number, borders, encode) for number in range(len(borders) - 1)]
    results = own / f"written-{len(jobs)}"
    for number in range(len(jobs)):
        there = [(own / name(number)).is_file() for name in (shar.tar_name, shar.cuts_name)]
        if not all(there):  # a try was ended while its files moved on
            (results / f"{number}.result").unlink(missing_ok=True)
    written: list[shar.Written] = list(
        errands.run(results, "hocket.corpus.shards.shar:write", jobs, workers, tell)
    )
    target = folder / split / places.SHAR
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    table: list[tuple[Shard, object]] = []
    for one, first, last in zip(written, borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        for file in (shar.tar_name(one.number), shar.cuts_name(one.number)):
            (own / file).replace(target / file)
        rows = int(index.block_starts[last] - index.block_starts[first])
        table.append(
            (
                Shard(f"{split}/{places.SHAR}/{shar.tar_name(one.number)}", one.size, one.sha256, rows),
                one.columns,
            )
        )
    files.fsync_dir(target)
    told = json.dumps([index.fingerprint, [shard.sha256 for shard, _ in table]])
    fingerprint = hashlib.sha256(told.encode()).hexdigest()[:16]
    places.write(folder, split, index.fingerprint, fingerprint, table)
    shutil.rmtree(own)
    sizes = [one.size for one in written]
    return ShardStatistics(len(sizes), sum(sizes), min(sizes), max(sizes), fingerprint)


def equal_borders(weights: I64, block_starts: I64, wanted: float) -> I64:
    """Blocks at which shards begin, and the number of blocks: parts of nearly equal weight."""
    ends = np.cumsum(weights)[block_starts[1:] - 1]
    num = min(len(ends), max(1, round(float(ends[-1]) / wanted)))
    ideal = ends[-1] * np.arange(1, num) / num
    after = np.searchsorted(ends, ideal)
    before_is_nearer = (after > 0) & (ideal - ends[np.maximum(after - 1, 0)] < ends[after] - ideal)
    inner = np.where(before_is_nearer, after - 1, after) + 1
    return np.unique(np.concatenate([[0], inner, [len(ends)]])).astype(np.int64)


def _weigh(index: CorpusIndex, encode: shar.Encoding) -> tuple[I64, str]:
    """The bytes that each row will take, about, and a hash of what the sources are."""
    batch = index.slice(0, len(index))
    paths = batch.column("audio").to_pylist()
    starts, nums = batch.column("start").to_numpy(), batch.column("num").to_numpy()
    used = Counter(paths)
    digest = hashlib.sha256()
    weights = np.empty(len(index), np.int64)
    for row, path in enumerate(paths):
        found = stamp(index.folder / path, index.folder)
        digest.update(repr((path, found)).encode("utf-8", "surrogateescape"))
        whole = encode == "keep" and used[path] == 1 and starts[row] == 0
        weights[row] = found[0] if found is not None and whole else int(_BYTES_A_SAMPLE[encode] * nums[row])
    return weights, digest.hexdigest()


def _job(
    index: CorpusIndex, cuts: _Cuts, folder: Path, number: int, borders: I64, encode: shar.Encoding
) -> shar.Job:
    first, last = int(borders[number]), int(borders[number + 1])
    starts = index.block_starts[first : last + 1]
    entries: Sequence[shar.Entry] = list(_entries(index, cuts, int(starts[0]), int(starts[-1])))
    return shar.Job(folder, number, entries, np.diff(starts).tolist(), encode)


def _entries(index: CorpusIndex, cuts: _Cuts, first: int, last: int) -> Iterator[shar.Entry]:
    """Rows of the index, each with its cut: both stand in the same order."""
    for row in range(first, last):
        u, (_, cut) = index.utterance(row), next(cuts)
        if not isinstance(cut, manifest.Cut) or cut.id != u.id:
            raise CorpusError(
                f"{index.folder}: {index.split}: {manifest.FILE} and the index are not of the same corpus",
                "Prepare it again.",
            )
        yield shar.Entry(u.id, u.audio, u.channel, u.start, u.num, u.text, u.speaker, cut.told)

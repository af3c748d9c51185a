"""The index: columns that are views of the file, rows in full, and a fingerprint of what is learnt."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hocket.batching.order import block_starts
from hocket.core import seeds
from hocket.core.errors import CorpusError
from hocket.corpus import index
from hocket.corpus.index import CorpusIndex, Row, Utterance


def _rows(num: int = 10) -> list[Row]:
    rows = []
    for number in range(num):
        utterance = Utterance(
            id=f"u{number}",
            audio=Path(f"audio/{number}.wav") if number % 2 else Path(f"/elsewhere/{number}.wav"),
            channel=None if number % 2 else 1,
            start=number,
            num=8_000 + number,
            sample_rate=8_000,
            text=f"text {number}",
            speaker=None if number == 3 else f"s{number % 2}",
        )
        rows.append(
            Row(utterance, 16_000 + 2 * number, list(range(number)), seeds.key("utterance", utterance.id))
        )
    return rows


def test_what_was_written_is_read(tmp_path: Path) -> None:
    rows = _rows()
    fingerprint = index.write(tmp_path, "train", rows, 4, "tokens")
    opened = CorpusIndex.open(tmp_path, "train")
    assert len(opened) == 10
    assert opened.fingerprint == fingerprint
    assert opened.speakers == ["s0", "s1"]
    assert opened.block.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert opened.num_blocks == 3
    for number, row in enumerate(rows):
        expected = row.utterance
        assert opened.utterance(number) == replace(expected, audio=tmp_path / expected.audio)
        assert opened.id(number) == expected.id
        assert opened.num_samples[number] == row.num_samples
        assert opened.token_ids(number).tolist() == row.token_ids
        assert opened.num_tokens[number] == len(row.token_ids)
        assert int(opened.key[number]) == row.key
    assert opened.speaker.tolist() == [0, 1, 0, -1, 0, 1, 0, 1, 0, 1]


def test_columns_are_views_of_the_file(tmp_path: Path) -> None:
    index.write(tmp_path, "train", _rows(), 4, "tokens")
    opened = CorpusIndex.open(tmp_path, "train")
    types = {
        "num_samples": "int64",
        "num_tokens": "int32",
        "speaker": "int32",
        "block": "int32",
        "key": "uint64",
    }
    for name, dtype in types.items():
        column = getattr(opened, name)
        assert column.dtype == np.dtype(dtype)
        assert not column.flags.owndata
        assert not column.flags.writeable
    assert np.shares_memory(opened.token_ids(5), opened.token_ids(5))


def test_a_copy_in_another_process_opens_the_file(tmp_path: Path) -> None:
    index.write(tmp_path, "train", _rows(), 4, "tokens")
    opened = CorpusIndex.open(tmp_path, "train")
    pickled = pickle.dumps(opened)
    assert len(pickled) < 500
    assert pickle.loads(pickled).utterance(5) == opened.utterance(5)


def test_the_fingerprint_is_of_what_is_learnt_and_not_of_where_it_lies(tmp_path: Path) -> None:
    rows = _rows()

    def fingerprint(changed: list[Row], block_size: int = 4, tokens: str = "tokens") -> str:
        return index.write(tmp_path, "train", changed, block_size, tokens)

    first = fingerprint(rows)
    moved = [replace(row, utterance=replace(row.utterance, audio=Path("x.wav"))) for row in rows]
    assert fingerprint(moved) == first
    other_text = [replace(rows[0], utterance=replace(rows[0].utterance, text="other")), *rows[1:]]
    longer = [replace(rows[0], num_samples=1), *rows[1:]]
    others = [
        fingerprint(other_text),
        fingerprint(longer),
        fingerprint(rows[::-1]),
        fingerprint(rows, block_size=5),
        fingerprint(rows, tokens="other"),
    ]
    assert len({first, *others}) == 6


def test_no_such_split_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no prepared corpus"):
        CorpusIndex.open(tmp_path, "train")
    index.write(tmp_path, "train", _rows(), 4, "tokens")
    with pytest.raises(CorpusError, match=r"no split 'dev'; it has train"):
        CorpusIndex.open(tmp_path, "dev")


@pytest.mark.parametrize("part", [0.0, 0.2, 0.7])
def test_a_torn_index_is_told(tmp_path: Path, part: float) -> None:
    index.write(tmp_path, "train", _rows(), 4, "tokens")
    path = tmp_path / "train" / index.FILE
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(CorpusError, match="not an index"):
        CorpusIndex.open(tmp_path, "train")


def test_old_indexes_without_sums_are_read(tmp_path: Path) -> None:
    index.write(tmp_path, "train", _rows(), 4, "tokens")
    opened = CorpusIndex.open(tmp_path, "train")
    sums = (opened.total_samples, opened.block_starts.tolist(), opened.num_blocks)
    assert sums == (sum(row.num_samples for row in _rows()), [0, 4, 8, 10], 3)
    path = tmp_path / "train" / index.FILE
    batch = pa.ipc.open_file(path).get_batch(0)
    meta = json.loads(batch.schema.metadata[b"hocket"])
    del meta["total_samples"], meta["stretches"]
    schema = batch.schema.with_metadata({"hocket": json.dumps(meta)})
    data = pa.BufferOutputStream()
    with pa.ipc.new_file(data, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
    path.write_bytes(data.getvalue())
    old = CorpusIndex.open(tmp_path, "train")
    assert (old.total_samples, old.block_starts.tolist(), old.num_blocks) == sums
    assert old.stretches == [(0, 4)]


def test_rows_that_are_appended_leave_what_there_was(tmp_path: Path) -> None:
    rows = _rows(30)
    first = index.write(tmp_path, "train", rows[:10], 4, "tokens")
    second = index.append(tmp_path, "train", rows[10:17], 3)
    third = index.append(tmp_path, "train", rows[17:], 4)
    assert len({first, second, third}) == 3
    opened = CorpusIndex.open(tmp_path, "train")
    assert opened.fingerprint == third
    assert opened.block_starts.tolist() == [0, 4, 8, 10, 13, 16, 17, 21, 25, 29, 30]
    assert opened.block_starts.tolist() == block_starts(opened.block).tolist()
    assert opened.total_samples == sum(row.num_samples for row in rows)
    for number, row in enumerate(rows):
        assert opened.utterance(number) == replace(row.utterance, audio=tmp_path / row.utterance.audio)
        assert opened.token_ids(number).tolist() == row.token_ids
        assert int(opened.key[number]) == row.key
    with pytest.raises(CorpusError, match="the id 'u12' is there already"):
        index.append(tmp_path, "train", rows[12:13], 4)
    assert CorpusIndex.open(tmp_path, "train").fingerprint == third
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [index.FILE]


def test_speakers_keep_their_codes_in_whatever_order_they_come(tmp_path: Path) -> None:
    rows = [
        replace(row, utterance=replace(row.utterance, speaker=f"s{9 - n}")) for n, row in enumerate(_rows())
    ]
    index.write(tmp_path, "train", rows, 4, "tokens")
    opened = CorpusIndex.open(tmp_path, "train")
    assert opened.speakers == [f"s{n}" for n in range(10)]
    assert opened.speaker.tolist() == list(range(9, -1, -1))
    assert [opened.utterance(row).speaker for row in range(10)] == [row.utterance.speaker for row in rows]

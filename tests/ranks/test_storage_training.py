"""Training on two workers from shards far away, through a cache that is too small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from faulty_store import serving
from hocket.core import events
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.reports import run as runs
from hocket.reports import tables
from jobs import train
from small import small_recipe

pytestmark = pytest.mark.slow


def test_training_from_a_far_store_that_fails_now_and_then(tmp_path: Path) -> None:
    settings = PrepareSettings(block_size=4, shards=True, shard_mb=0.5)
    prepare("synthetic:utterances=40,seed=1", tmp_path / "shards", settings=settings)
    index_alone = tmp_path / "index"
    shutil.copytree(tmp_path / "shards", index_alone, ignore=shutil.ignore_patterns("shar", "audio"))
    with serving(tmp_path / "shards") as server:
        server.fault = lambda path, number: "500" if number % 7 == 3 else None
        storage = {"cache": str(tmp_path / "cache"), "cache_gb": 0.001, "memory_mb": 1}
        changes = {
            "corpus": [{"path": str(index_alone), "store": server.address}],
            "steps": 10,
            "batch": {"seconds": 16, "micro_batches_per_step": 2, "pool_steps": 2},
            "loading": {"cache_mb": 0, "storage": storage},
        }
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(json.dumps(small_recipe(index_alone) | changes))
        run = tmp_path / "run"
        summary = train(recipe, run, workers=2)  # which sees to it that every step learns what was planned
    assert (summary["steps"], summary["num_dropped"]) == (10, 0)
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/??/*")) <= 1_000_000

    steps = events.surviving_steps(run / "events.jsonl")
    told = [step["storage"] for step in steps if "storage" in step]
    assert sum(one.get("fetched_bytes", 0) for one in told) > 0
    info = runs.describe(run)
    assert info.storage["requests"] > info.storage.get("retries", 0)
    assert "from the store" in (tables.storage(info) or "")

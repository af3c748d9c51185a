"""The same weights from files and, on other workers, from far shards through a cache that is too small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from faulty_store import serving
from hocket.core import events
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.reports import run as runs
from hocket.reports import tables
from jobs import learnt, train
from small import small_recipe

pytestmark = pytest.mark.slow


def test_a_far_store_changes_no_weight(tmp_path: Path) -> None:
    settings = PrepareSettings(block_size=4, shards=True, shard_mb=0.5)
    prepare("synthetic:utterances=40,seed=1", tmp_path / "shards", settings=settings)
    without = shutil.ignore_patterns("shar", "places.arrow", "blocks.arrow")
    shutil.copytree(tmp_path / "shards", tmp_path / "files", ignore=without)
    small: dict[str, Any] = {
        "steps": 10,
        "numerics": {"exact": True},
        "batch": {"seconds": 16, "micro_batches_per_step": 2, "pool_steps": 2},
    }
    recipe = tmp_path / "files.yaml"
    recipe.write_text(json.dumps(small_recipe(tmp_path / "files", **small)))
    near = train(recipe, tmp_path / "near", workers=1)

    index_alone = tmp_path / "index"
    shutil.copytree(tmp_path / "shards", index_alone, ignore=shutil.ignore_patterns("shar", "audio"))
    with serving(tmp_path / "shards") as server:
        server.fault = lambda path, number: "500" if number % 7 == 3 else None
        storage = {"cache": str(tmp_path / "cache"), "cache_gb": 0.001, "memory_mb": 1}
        changes = {
            "corpus": [{"path": str(index_alone), "store": server.address}],
            "loading": {"cache_mb": 0, "storage": storage},
        }
        recipe = tmp_path / "far.yaml"
        recipe.write_text(json.dumps(small_recipe(index_alone, **small) | changes))
        far = train(recipe, tmp_path / "far", workers=2)
    assert far["weights_sha256"] == near["weights_sha256"]
    assert learnt(tmp_path / "far") == learnt(tmp_path / "near")
    assert far["dev_loss"] == near["dev_loss"]
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/??/*")) <= 1_000_000

    steps = events.surviving_steps(tmp_path / "far" / "events.jsonl")
    told = [step["storage"] for step in steps if "storage" in step]
    assert sum(one.get("fetched_bytes", 0) for one in told) > 0
    info = runs.describe(tmp_path / "far")
    assert info.storage["retries"] >= 1
    assert "from the store" in (tables.storage(info) or "")
    assert runs.describe(tmp_path / "near").storage == {}

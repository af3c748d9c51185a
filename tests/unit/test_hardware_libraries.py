"""Workers are started with the fastest allocator of the machine and a large cache of kernels."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from hocket.hardware.libraries import environment

ALLOCATOR = "from hocket.hardware.libraries import allocator; print(allocator())"


def allocator_of_a_worker(given: dict[str, str]) -> str:
    """What serves a process that is started as workers are, from a process with variables ``given``."""
    surroundings = {**os.environ, **given, **environment(1, given)}
    command = [sys.executable, "-c", ALLOCATOR]
    done = subprocess.run(command, env=surroundings, check=True, capture_output=True, text=True)
    assert not done.stderr  # the dynamic linker tells what it cannot load, and goes on
    return done.stdout.strip()


def has_wheel() -> bool:
    try:
        return metadata.version("tbb") != ""
    except metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not has_wheel(), reason="no wheel of tbb for this system")
def test_a_worker_is_served_by_a_faster_allocator_than_the_systems() -> None:
    assert allocator_of_a_worker({}) in {"tcmalloc", "jemalloc", "tbb"}


def test_an_empty_ld_preload_keeps_the_systems_allocator() -> None:
    assert allocator_of_a_worker({"LD_PRELOAD": ""}) == "system"


def test_what_the_user_preloads_stays() -> None:
    assert "LD_PRELOAD" not in environment(1, {"LD_PRELOAD": "/opt/mine.so"})


def test_the_wheel_serves_where_the_system_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hocket.hardware.libraries._system_libraries", frozenset)
    found = environment(1, {})
    if not has_wheel():
        assert "LD_PRELOAD" not in found
        return
    paths = [Path(path) for path in found["LD_PRELOAD"].split(":")]
    assert [path.name for path in paths] == ["libtbbmalloc.so.2", "libtbbmalloc_proxy.so.2"]
    assert all(path.exists() for path in paths)


def test_the_first_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"libjemalloc.so.2", "libtcmalloc_minimal.so.4"}
    monkeypatch.setattr("hocket.hardware.libraries._system_libraries", lambda: names)
    assert environment(1, {})["LD_PRELOAD"] == "libtcmalloc_minimal.so.4"
    names.remove("libtcmalloc_minimal.so.4")
    assert environment(1, {})["LD_PRELOAD"] == "libjemalloc.so.2"
    assert "dirty_decay_ms:-1" in environment(1, {})["MALLOC_CONF"]


def test_a_folder_with_a_space_names_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prefix = tmp_path / "my env"
    (prefix / "lib").mkdir(parents=True)
    for name in ("libtbbmalloc.so.2", "libtbbmalloc_proxy.so.2"):
        (prefix / "lib" / name).touch()
    monkeypatch.setattr("hocket.hardware.libraries._system_libraries", frozenset)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    assert "LD_PRELOAD" not in environment(1, {})


def test_products_are_not_kept_twice_unless_the_user_says() -> None:
    for sparing in (False, True):
        assert environment(1, {}, sparing=sparing)["LRU_CACHE_CAPACITY"] == "1"
    assert "LRU_CACHE_CAPACITY" not in environment(1, {"LRU_CACHE_CAPACITY": "1024"})


@pytest.mark.parametrize("name", ["ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"])
def test_the_cache_of_kernels_is_large_unless_the_user_says(name: str) -> None:
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in environment(1, {}, sparing=True)
    assert int(environment(1, {})["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) > 1024
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in environment(1, {name: "64"})

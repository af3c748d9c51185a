"""`hocket probe` and `hocket hardware`, as a user types them."""

from __future__ import annotations

from pathlib import Path

from commands import Hocket

from hocket.hardware import profile


def test_a_machine_is_measured_by_two_workers_and_written(hocket_here: Hocket, tmp_path: Path) -> None:
    out = tmp_path / "machine.json"
    words = ("--workers", "2", "--seconds", "1", "--preset", "tiny", "--folder", tmp_path, "--out", out)
    done = hocket_here("probe", *words, "--json")
    assert done.status == 0, done.err
    found = profile.read(out)
    assert done.answer()["devices"][0]["count"] == found.host.cores
    assert list(tmp_path.iterdir()) == [out]
    assert {(each.operation, each.world_size) for each in found.collectives} == {
        ("all_reduce", 2),
        ("all_gather", 2),
        ("p2p", 2),
    }
    assert all(len(each.timings) > 3 for each in found.collectives)
    assert {(rate.name, rate.dtype) for rate in found.devices[0].products} == {
        (name, dtype) for name in ("square", "tiny") for dtype in ("fp32", "bf16")
    }
    assert found.rounds >= 2
    assert found.memory.bandwidth_one.count == found.rounds
    assert {(rate.pattern, rate.cache, rate.readers) for rate in found.storage.rates} == {
        (pattern, cache, readers)
        for pattern in ("sequential", "random")
        for cache in ("cold", "warm")
        for readers in (1, 2)
    }
    assert found.noise.reference.count > 50


def test_the_catalogue_is_listed_and_a_card_shown_with_its_sources(hocket_here: Hocket) -> None:
    listed = hocket_here("hardware")
    assert listed.status == 0
    assert "NVIDIA H100 SXM5 80GB" in listed.out
    assert "AMD Alveo U250" in listed.out
    card = hocket_here("hardware", "u250")
    assert "Vitis AI" in card.out
    assert "https://docs.amd.com" in card.out
    answer = hocket_here("hardware", "a100", "--json").answer()
    assert answer["rates"]["bf16"]["value"] == 312e12
    assert answer["rates"]["bf16"]["source"]["url"].startswith("https://")
    hocket_here("hardware", "A1000").refused(2, "is not in the catalogue", "Nearest: ", "A100")
    hocket_here("probe", "--preset", "huge").refused(2, "--preset huge", "tiny")

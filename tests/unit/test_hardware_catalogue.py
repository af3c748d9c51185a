"""The catalogue: figures that can be, each with its source, and cards found by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hocket.core.errors import RecipeError, UsageError
from hocket.hardware import catalogue
from hocket.hardware.catalogue import Card, loading
from hocket.hardware.catalogue.facts import DTYPES

CARDS = catalogue.cards()
ALL = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
BOUNDS = {
    # Least and most: FLOP/s of fp32 or the fastest dtype, bytes, bytes a second, watts.
    "cpu": ((5e11, 1e15), (1e11, 2e13), (5e10, 2e12), (50, 1000)),
    "gpu": ((5e12, 2e16), (8e9, 1e12), (2e11, 3e13), (50, 2500)),
    "tpu": ((2e13, 2e16), (8e9, 1e12), (4e11, 3e13), (50, 2000)),
    "asic": ((2e13, 2e17), (1e8, 1e12), (5e10, 3e16), (20, 30_000)),
    "fpga": ((5e12, 2e15), (4e9, 2e11), (2e10, 2e12), (20, 500)),
}


def test_it_holds_the_hardware_that_plans_are_made_for() -> None:
    kinds = {kind: [card for card in CARDS if card.kind == kind] for kind in BOUNDS}
    assert [len(kinds[kind]) >= least for kind, least in zip(BOUNDS, (10, 25, 7, 10, 8), strict=True)] == [
        True
    ] * 5
    for name in (
        "P100",
        "V100",
        "A100",
        "H100",
        "B200",
        "MI300X",
        "TPU v4",
        "Gaudi 3",
        "Trainium2",
        "Alveo U250",
    ):
        assert catalogue.find(name)


def test_names_are_each_of_one_card() -> None:
    owners: dict[str, str] = {}
    for card in CARDS:
        for name in (card.name, *card.aliases):
            plain = "".join(sign for sign in name.lower() if sign.isalnum())
            assert owners.setdefault(plain, card.name) == card.name, name


@ALL
def test_figures_can_be(card: Card) -> None:
    rates, memory, bandwidth, watts = BOUNDS[card.kind]
    assert set(card.rates) <= set(DTYPES)
    if card.rates:
        assert rates[0] <= max(rate.value for rate in card.rates.values()) <= rates[1]
    else:
        assert "no " in card.note  # and says why
    assert memory[0] <= card.memory_bytes.value <= memory[1]
    if card.memory_bandwidth is not None:
        assert bandwidth[0] <= card.memory_bandwidth.value <= bandwidth[1]
    if card.power_watts is not None:
        assert watts[0] <= card.power_watts.value <= watts[1]
    for link in card.links:
        assert 5e9 <= link.bytes_per_second.value <= 2e12
        assert card.memory_bandwidth is None or link.bytes_per_second.value < card.memory_bandwidth.value
    for price in card.prices:
        assert (0.1 < price.usd < 50) if price.per == "hour" else (500 < price.usd < 100_000)


@ALL
def test_narrower_numbers_are_no_slower(card: Card) -> None:
    rates = {dtype: rate.value for dtype, rate in card.rates.items()}
    for wide, narrow in (
        ("fp64", "fp32"),
        ("fp32", "tf32"),
        ("tf32", "bf16"),
        ("tf32", "fp16"),
        ("fp32", "fp16"),
        ("fp32", "bf16"),
        ("bf16", "fp8"),
        ("fp16", "int8"),
        ("fp8", "fp4"),
    ):
        if wide in rates and narrow in rates:
            assert rates[narrow] >= rates[wide], f"{narrow} below {wide}"
    if "tf32" in rates and "bf16" in rates:
        assert rates["bf16"] / rates["tf32"] < 5  # a sparse figure beside a dense one would show


@ALL
def test_every_figure_has_a_source_and_a_way_for_a_model(card: Card) -> None:
    for name, figure in card.figures():
        assert figure.source.url.startswith("https://"), name
        assert figure.source.title
        assert figure.seen is None or figure.seen.url.startswith("http")
    assert all(price.source.url and price.date for price in card.prices)
    assert card.path.how
    assert card.path.source.url
    if card.kind in ("asic", "fpga"):
        assert card.path.dtypes
        assert card.path.fixed_shapes


def test_a_rate_that_is_not_there_is_that_of_the_next_wider_number() -> None:
    v100 = catalogue.find("V100")
    assert v100.rate("bf16") == v100.rates["fp32"].value  # it has no units for it
    assert catalogue.find("A100").rate("bf16") == 312e12
    assert catalogue.find("TPU v3").rate("fp64") is None
    xeon = catalogue.find("Intel Xeon Platinum 8480+")
    assert xeon.rate("fp32") == pytest.approx(56 * 2.0e9 * 64)


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM4 80GB"),
        ("NVIDIA A100-PCIE-40GB", "NVIDIA A100 PCIe 40GB"),
        ("Tesla V100-SXM2-32GB", "NVIDIA V100 SXM2 32GB"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM5 80GB"),
        ("NVIDIA L40S", "NVIDIA L40S"),
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Intel Xeon Platinum 8480+"),
        ("NVIDIA A10G", None),  # not an A10
        ("AMD EPYC", None),
    ],
)
def test_what_a_driver_reports_is_recognised(reported: str, name: str | None) -> None:
    card = catalogue.recognise(reported)
    assert (None if card is None else card.name) == name


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("A1000", "A100"),
        ("h100-sxm6", "NVIDIA H100 SXM5"),
        ("Alveo U260", "AMD Alveo U2"),
        ("Gaudi 4", "Intel Gaudi"),
    ],
)
def test_an_unknown_card_is_refused_with_those_nearest_to_it(asked: str, nearest: str) -> None:
    with pytest.raises(UsageError, match="is not in the catalogue") as refused:
        catalogue.find(asked)
    assert nearest in refused.value.hint


def test_a_name_without_a_letter_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        catalogue.find("§")
    assert refused.value.hint == "hocket hardware lists all."


def test_a_name_is_found_however_it_is_written() -> None:
    assert catalogue.find("EPYC 7763") is catalogue.find("amd-epyc-7763")
    assert catalogue.find("h100 sxm") is catalogue.find("NVIDIA H100 SXM5 80GB") is catalogue.find("H-100")


def test_a_file_with_an_unknown_key_is_refused_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (loading.FILES / "tpu.yaml").read_text()
    (tmp_path / "tpu.yaml").write_text(good.replace("gb: 248", "gbit: 248"))
    monkeypatch.setattr(loading, "FILES", tmp_path)
    with pytest.raises(RecipeError, match=r"tpu.yaml:\d+: unknown key '.*gbit'"):
        loading.cards.__wrapped__()


def test_cards_are_facts() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CARDS[0].name = "faster"  # type: ignore[misc]

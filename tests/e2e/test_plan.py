"""``hocket plan`` as a user types it, for hardware of the catalogue: nothing is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from commands import Hocket

NAME = "H100-SXM:2x4"


def test_a_plan_is_told_drawn_and_written(hocket_here: Hocket, recipe: Path, tmp_path: Path) -> None:
    page, target = tmp_path / "plan.html", tmp_path / "planned.yaml"
    words = ("plan", recipe, "--hardware", NAME, "--workers", "2", "--out", page)
    told = hocket_here(*words, "--write", target, "--json").answer()
    chosen = told["chosen"]
    assert chosen["workers"] == 2 and chosen["same_answer"]
    assert sum(chosen["seconds"].values()) > 0
    assert told["refused"] and all(each["reason"] for each in told["refused"])
    drawn = page.read_text()
    assert "<svg" in drawn and chosen["layout"] in drawn and "H100" in drawn
    written = yaml.safe_load(target.read_text())
    given = yaml.safe_load(recipe.read_text())
    assert [written[key] for key in ("corpus", "seed", "steps")] == [
        given[key] for key in ("corpus", "seed", "steps")
    ]
    again = hocket_here(
        "plan", target, "--hardware", NAME, "--workers", "2", "--out", page, "--json"
    ).answer()
    assert again["own"]["layout"] == chosen["layout"]
    shown = hocket_here(*words, "--explain").out
    assert "Run 2 workers" in shown and "hocket train" in shown


def test_a_topology_is_drawn_and_its_busiest_link_named(
    hocket_here: Hocket, recipe: Path, tmp_path: Path
) -> None:
    page = tmp_path / "plan.html"
    network = "fat-tree:leaf=1,oversubscription=4,link=10Gbit"
    words = ("--hardware", "H100-SXM:2x1", "--network", network, "--workers", "2", "--out", page, "--json")
    told = hocket_here("plan", recipe, *words).answer()
    assert told["topology"]["busiest"]
    assert told["network"].startswith("fat-tree")
    assert told["hosts"] == 2
    assert told["placement"]["ranks_of_host"] == {"0": [0], "1": [1]}
    assert told["placement"]["as_numbered"]
    assert "host 1 has ranks 1" in page.read_text()


CATALOGUED = ("--hardware", NAME)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--hardware", "H1000:1x8"), ("H1000", "H100")),
        (("--hardware", "H100-SXM"), ("NAME:NODESxDEVICES",)),
        (("--hardware", "H100-SXM:0x8"), ("start at 1",)),
        (("--hardware", "H100-SXM:1x-8"), ("NAME:NODESxDEVICES",)),
        (("--hardware", "H100-SXM:90000x8"), ("more than 65,536",)),
        (("--hardware", "TPU v4:1x8"), ("training runs on CPUs and GPUs",)),
        (("--hardware", "nowhere.json"), ("nowhere.json", "No such file", "hocket probe")),
        ((*CATALOGUED, "--network", "fat-three:leaf=4"), ("fat-tree",)),
        ((*CATALOGUED, "--network", "switch:link=-1Gbit"), ("link", "above 0")),
        ((*CATALOGUED, "--network", "switch:link=100Gb"), ("write bit or B",)),
        ((*CATALOGUED, "--network", "fat-tree:link=100Gbit"), ("leaf is missing",)),
        ((*CATALOGUED, "--network", "switch:hosts=3,link=1Gbit"), ("12 devices", "the hardware has 8")),
        ((*CATALOGUED, "--network", "islands:devices=3,link=1Gbit"), ("6 devices", "the hardware has 8")),
        ((*CATALOGUED, "--workers", "64"), ("8 devices",)),
        ((*CATALOGUED, "--workers", "0"), ("at least one",)),
        ((*CATALOGUED, "--price", "-3"), ("--price -3",)),
        ((*CATALOGUED, "--objective", "cost"), ("has no price", "--price")),
        ((*CATALOGUED, "--objective", "glory"), ("glory",)),
        ((*CATALOGUED, "--set", "corpus=nowhere"), ("no prepared corpus", "hocket prepare")),
        ((*CATALOGUED, "--set", "modle.preset=base"), ("modle",)),
    ],
)
def test_wrong_specifications_are_refused_in_words(
    words: tuple[str, ...], said: tuple[str, ...], hocket_here: Hocket, recipe: Path, tmp_path: Path
) -> None:
    page = tmp_path / "plan.html"
    hocket_here("plan", recipe, *words, "--out", page).refused(2, *said)
    assert not page.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"version": 99}', "of version 99"),
        ("{", "not JSON"),
        ("[]", "'version' is missing"),
        ("\udcff", "not JSON"),
    ],
)
def test_a_spoilt_machine_file_is_refused(
    text: str, said: str, hocket_here: Hocket, recipe: Path, tmp_path: Path
) -> None:
    machine = tmp_path / "machine.json"
    machine.write_bytes(text.encode(errors="surrogateescape"))
    words = ("--hardware", machine, "--out", tmp_path / "plan.html")
    hocket_here("plan", recipe, *words).refused(2, said, str(machine), "hocket probe --out")


def test_a_recipe_that_is_not_there_is_named(hocket_here: Hocket, tmp_path: Path) -> None:
    hocket_here("plan", tmp_path / "no.yaml", *CATALOGUED).refused(2, "no.yaml", "No such file")


def test_a_price_makes_a_cost_where_none_is_published(
    hocket_here: Hocket, recipe: Path, tmp_path: Path
) -> None:
    words = ("--price", "3.5", "--objective", "cost", "--out", tmp_path / "plan.html", "--json")
    told = hocket_here("plan", recipe, *CATALOGUED, *words).answer()
    chosen = told["chosen"]
    hours = chosen["run_seconds"] / 3600
    assert chosen["dollars"] == pytest.approx(3.5 * chosen["workers"] * hours)
    assert all(each["dollars"] >= chosen["dollars"] * 0.97 for each in told["by_workers"])

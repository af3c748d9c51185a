"""``hocket plan`` as a user types it, for hardware of the catalogue: nothing is measured."""

from __future__ import annotations

from pathlib import Path

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


def test_wrong_specifications_are_refused_in_words(hocket_here: Hocket, recipe: Path, tmp_path: Path) -> None:
    machine = tmp_path / "machine.json"
    machine.write_text('{"version": 99}')
    for words, said in (
        (("--hardware", "H1000:1x8"), "H1000"),
        (("--hardware", "H100-SXM"), "NAME:NODESxDEVICES"),
        (("--hardware", "H100-SXM:0x8"), "start at 1"),
        (("--hardware", "H100-SXM:1x-8"), "NAME:NODESxDEVICES"),
        (("--hardware", str(machine)), "99"),
        (("--hardware", NAME, "--network", "fat-three:leaf=4"), "fat-tree"),
        (("--hardware", NAME, "--network", "switch:link=-1Gbit"), "link"),
        (("--hardware", NAME, "--workers", "64"), "8 devices"),
        (("--hardware", NAME, "--workers", "0"), "at least one"),
    ):
        hocket_here("plan", recipe, *words, "--out", tmp_path / "plan.html").refused(
            2, *([said] if said else [])
        )
    assert not (tmp_path / "plan.html").exists()

"""From a recipe to a plan: the recipe that comes out, the page, and the words."""

from __future__ import annotations

from pathlib import Path

import pytest

from hocket.core import recipe as recipes
from hocket.core.layout import Layout
from hocket.planning.candidate import Candidate
from hocket.planning.scaling import curve
from hocket.planning.search import search
from hocket.reports.plan.page import page
from hocket.studies.planning.machines import Ground
from hocket.studies.planning.plan import Plan, as_answer, write_recipe
from hocket.sync import AllReduceSettings
from hocket.sync.compression import OneBitSgd
from hocket.training.recipe import TrainRecipe
from plans_on_paper import asked, cluster, job


def _recipe() -> TrainRecipe:
    given = {"corpus": "/corpora/x", "steps": 7, "layout": "tp=2", "batch": {"seconds": 20}}
    return TrainRecipe.model_validate(given)


def test_the_written_recipe_runs_what_was_chosen(tmp_path: Path) -> None:
    target = tmp_path / "out" / "b.yaml"
    layout = Layout(pp=2, dp_replicate=2, schedule="interleaved", recompute=3)
    sync = AllReduceSettings(compression=OneBitSgd())
    write_recipe(_recipe(), Candidate(layout, sync, "bf16", 12), target)
    read = recipes.load(target, TrainRecipe)
    assert read.layout.fill(4) == layout
    assert (read.sync, read.precision, read.batch.micro_batches_per_step) == (sync, "bf16", 12)
    assert (read.steps, read.batch.seconds, read.corpus) == (7, 20, Path("/corpora/x"))
    assert "--workers 4" in target.read_text()


@pytest.fixture(scope="module")
def made() -> Plan:
    work = job()
    there = cluster(price_per_hour=3.0)
    found = search(lambda number: work, asked(), there, [1, 2])
    points = curve(work, found.chosen.candidate, lambda hosts: there, 8, most=64)
    ground = Ground(there, ("stands on <paper>",))
    return Plan(
        Path("small.yaml"),
        _recipe(),
        work,
        ground,
        found,
        None,
        "cannot",
        ("Run 2 <workers>.",),
        tuple(points),
    )


def test_the_page_shows_the_plan_and_escapes_what_it_is_told(made: Plan) -> None:
    drawn = page(as_answer(made))
    assert drawn.count("<svg") >= 3
    assert str(made.chosen.candidate.layout) in drawn
    assert "stands on &lt;paper&gt;" in drawn and "<paper>" not in drawn
    assert "Run 2 &lt;workers&gt;." in drawn
    assert f"{made.chosen.dollars:,.2f}" in drawn


def test_the_answer_has_every_candidate_with_its_seconds(made: Plan) -> None:
    answer = as_answer(made)
    assert answer["chosen"] in answer["candidates"]
    for each in answer["candidates"]:
        assert sum(each["seconds"].values()) == pytest.approx(each["step_seconds"])
    assert answer["roofline"] is None  # no peaks are known of this cluster

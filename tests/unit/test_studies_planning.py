"""From a recipe to a plan: the recipe that comes out, the page, and the words."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from hocket.core import recipe as recipes
from hocket.core.layout import Layout
from hocket.planning.candidate import Candidate
from hocket.planning.scaling import curve
from hocket.planning.search import search
from hocket.reports.plan import terminal
from hocket.reports.plan.page import page
from hocket.reports.plan.running import command, ranges, ranks_of_hosts
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
    layout = Layout(pp=2, dp_shard=2, schedule="interleaved", recompute=3, reshard="step")
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
        overrides=("seed=3",),
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


def test_the_command_runs_what_was_planned(made: Plan) -> None:
    answer = dict(as_answer(made))
    assert command(answer, None) == "hocket train small.yaml --set seed=3 --workers 2"
    quoted = {**answer, "settings": ["corpus=it's here"]}
    assert shlex.split(command(quoted, None))[3:5] == ["--set", "corpus=it's here"]
    assert command(answer, Path("planned.yaml")) == "hocket train planned.yaml --workers 2"
    split = {**answer["chosen"], "layout": "pp=2,dp_replicate=4", "workers": 8}
    placed = {"as_numbered": True, "ranks_of_host": {"0": [0, 1, 2, 3], "1": [4, 5, 6, 7]}}
    answer |= {"chosen": split, "hosts": 2, "placement": placed}
    assert command(answer, None) == (
        "srun --nodes=2 --ntasks=8 hocket train small.yaml --set seed=3 --layout pp=2,dp_replicate=4 "
        "--run-dir runs/small"
    )
    assert ranks_of_hosts(placed) == "host 0: 0-3; host 1: 4-7"
    turned = {"as_numbered": False, "ranks_of_host": {"0": [0, 2, 4, 6], "1": [1, 3, 5, 7]}}
    assert command({**answer, "placement": turned}, None).startswith("SLURM_HOSTFILE=FILE srun")
    assert "host 0: 0,2,4,6; host 1: 1,3,5,7; SLURM_HOSTFILE" in ranks_of_hosts(turned)
    assert ranges([3]) == "3"


def test_the_terminal_says_how_many_devices_and_shows_own_ways_first(made: Plan) -> None:
    answer = as_answer(made)
    console = Console(width=180, record=True, file=io.StringIO())
    console.print(terminal.plan(answer, explain=True, page="plan.html", written=None))
    shown = console.export_text()
    assert shown.index("How many devices") < shown.index("Ways to run it") < shown.index("Run 2 <workers>.")
    ways = shown[shown.index("Ways to run it") :].splitlines()
    starred = [line.startswith("│ *") for line in ways if line.startswith("│")][: terminal._SHOWN]
    assert starred == sorted(starred)
    assert "the recipe cannot be run so: cannot" in shown

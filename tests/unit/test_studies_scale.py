"""A study before and after its runs: which cells there are, and what is made of what they measured."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hocket.core.errors import RecipeError, UsageError
from hocket.reports.scale import Cell, Study, page
from hocket.studies.scale import derived
from hocket.studies.scale.cell import Measured, Scored, smooth
from hocket.studies.scale.derived import Finished
from hocket.studies.scale.estimate import Pace, bytes_of, expected_seconds
from hocket.studies.scale.grid import Point, expand
from hocket.studies.scale.parity import parity
from hocket.studies.scale.settings import checked, strategy_of

STRATEGIES = ["all_reduce", "local_sgd:sync_every=8:outer.name=bmuf", "server:mode=bounded:max_staleness=2"]
FIELDS = [
    *("strategy", "settings", "workers", "link", "partition", "seed", "wer", "wer_low", "wer_high", "loss"),
    *("audio_seconds", "wall_seconds", "steps_per_second", "seconds_to_loss", "bytes_per_step", "speedup"),
    *("scaling_efficiency", "seconds"),
]


def points(
    write_recipe: Callable[..., Path], whole: dict[str, Any] | None = None, **grid: Any
) -> list[Point]:
    asked = checked({"grids": [{"strategies": STRATEGIES, **grid}], **(whole or {})})
    return list(expand(write_recipe(), asked).points)


def test_strategies_as_flags_are_sections_of_a_recipe() -> None:
    assert strategy_of("gossip") == {"name": "gossip"}
    assert strategy_of("local_sgd:sync_every=8:outer.name=bmuf") == {
        "name": "local_sgd",
        "sync_every": 8,
        "outer": {"name": "bmuf"},
    }
    with pytest.raises(UsageError, match="'sync_every' is no setting"):
        strategy_of("local_sgd:sync_every")


def test_a_grid_is_every_combination_once(write_recipe: Callable[..., Path]) -> None:
    found = points(write_recipe, workers=[1, 2], seeds=2)
    assert len(found) == 3 * 2 * 2  # plain all-reduce on one worker is among them
    assert len({point.fingerprint for point in found}) == len(found)
    assert [point.seed for point in found] == [3] * 6 + [4] * 6  # the recipe's seed first, then the next
    assert {point.strategy.label for point in found} == {
        "all_reduce",
        "local_sgd sync_every=8 outer=bmuf",
        "server mode=bounded max_staleness=2",
    }
    assert len({point.folder for point in found}) == len(found)


def test_speed_ups_need_one_worker_so_it_is_run(write_recipe: Callable[..., Path]) -> None:
    first, *others = points(write_recipe, workers=[2])
    assert (first.workers, first.strategy.label, first.score) == (1, "all_reduce", False)
    assert all(point.workers == 2 and point.score for point in others)
    assert len(points(write_recipe, {"baseline": False}, workers=[2])) == 3


def test_all_strategies_learn_from_the_same_audio(write_recipe: Callable[..., Path]) -> None:
    path = write_recipe(ema={"decay": 0.9}, validation={"every_steps": 4, "patience": 2})
    asked = checked({"grids": [{"strategies": STRATEGIES, "workers": [2], "scaling": ["strong", "weak"]}]})
    found = list(expand(path, asked).points)
    strong = [point.recipe for point in found if point.scaling == "strong"]
    assert {(each.steps, each.batch.seconds, each.seed) for each in strong} == {(16, 20.0, 3)}
    assert {each.ema.decay for each in strong} == {0.0}  # no strategy has what others cannot have
    assert {each.validation.patience for each in strong} == {None}
    for point in found:
        if point.scaling == "weak":
            assert (point.recipe.steps, point.recipe.batch.seconds) == (8, 40.0)
            assert point.recipe.batch.micro_batches_per_step == 12


def test_a_fingerprint_is_of_what_decides(write_recipe: Callable[..., Path]) -> None:
    plain = points(write_recipe, workers=[2])[1]
    assert points(write_recipe, workers=[2])[1].fingerprint == plain.fingerprint
    for whole in ({"steps": 20}, {"set": ["optimiser.lr=1e-3"]}):
        assert points(write_recipe, whole, workers=[2])[1].fingerprint != plain.fingerprint
    assert points(write_recipe, {"target_loss": 1.0}, workers=[2])[1].fingerprint == plain.fingerprint
    assert points(write_recipe, workers=[2], score=False)[1].fingerprint == plain.fingerprint


def test_links_are_between_several_hosts(write_recipe: Callable[..., Path]) -> None:
    strategies = ["all_reduce", "hogwild"]
    found = points(write_recipe, strategies=strategies, workers=[1, 2], links=["loopback", "100mbit"])
    over = [point for point in found if point.link == "100mbit"]
    assert [(point.strategy.label, point.workers) for point in over] == [("all_reduce", 2)]
    asked = checked({"grids": [{"strategies": strategies, "workers": [2], "links": ["100mbit"]}]})
    assert "hogwild" in expand(write_recipe(), asked).notes[0]


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"strategies": ["all_reduce:compression=two_bit"]}, "two_bit"),
        ({"strategies": ["local_sgd:sync_evry=8"]}, "sync_evry"),
        ({"links": ["fast"]}, "100mbit"),
        ({"partitions": ["by_age"]}, "by_age"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_before_anything_runs(grid: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checked({"grids": [grid]})


def test_recipes_of_epochs_want_steps(write_recipe: Callable[..., Path]) -> None:
    path = write_recipe(steps=None, epochs=2)
    with pytest.raises(UsageError, match="--steps"):
        expand(path, checked({}))
    assert expand(path, checked({"steps": 10})).points[0].recipe.steps == 10
    with pytest.raises(RecipeError, match=r"optimiser\.lrr"):
        expand(path, checked({"steps": 10, "set": ["optimiser.lrr=1"]}))


def measured(point: Point, **changes: Any) -> Measured:
    """A run that halves its time on two workers, all but a tenth."""
    wall = 100.0 / (1 if point.workers == 1 else 0.9 * point.workers)
    times = [wall * (n + 1) / 20 for n in range(20)]
    found = Measured(
        fingerprint=point.fingerprint,
        num_parameters=1000,
        num_steps=20,
        loss=1.0,
        audio_seconds=400.0,
        wall_seconds=wall,
        steps_per_second=20 / wall,
        audio_per_second=400.0 / wall,
        bytes_per_step=4000 if point.workers > 1 else 0,
        seconds_by_rank=[{"compute": wall * 0.8, "wait": wall * 0.2}] * point.workers,
        imbalance=1.01,
        padding=0.02,
        staleness_mean=1.5 if point.strategy.sync.name == "server" else None,
        staleness_max=3 if point.strategy.sync.name == "server" else None,
        shares=[1 / point.workers] * point.workers if point.strategy.sync.name == "server" else [],
        num_restarts=0,
        times=times,
        losses=[4.0 - 3.0 * n / 19 for n in range(20)],
        took_seconds=wall + 12,
    )
    return replace(found, **changes)


def scored(wrong: list[int]) -> Scored:
    words = [5] * len(wrong)
    rate = sum(wrong) / sum(words)
    return Scored("test", rate, rate - 0.05, rate + 0.05, wrong, words)


def study_of(write_recipe: Callable[..., Path], **changes: Any) -> Study:
    found = points(write_recipe, workers=[1, 2], seeds=2, links=["loopback", "100mbit"])
    finished = [
        Finished(point, measured(point), scored([point.seed % 2, 1, 0, 2]) if point.score else None)
        for point in found
    ]
    target, why = derived.target_of(finished, None)
    study = Study(
        recipe="a.yaml",
        corpus="b & c",
        split="test",
        machine={"cpu": "a processor", "cores": 1},
        num_planned=len(finished) + 1,
        cells=derived.cells_of(finished, derived.baseline_rate(finished), target),
        parity=derived.parities(finished),
        target_loss=target,
        target_why=why,
        notes=("a <note>",),
        failed=(("gossip, 2 workers", "it fell"),),
    )
    return replace(study, **changes)


def test_scale_json_has_the_fields_that_are_documented(write_recipe: Callable[..., Path]) -> None:
    study = study_of(write_recipe)
    assert [field.name for field in fields(Cell)] == FIELDS
    by_place = {(row.strategy, row.workers, row.link, row.seed): row for row, _ in study.cells}
    row = by_place["local_sgd", 2, "loopback", 3]
    assert row.speedup == pytest.approx(1.8)
    assert row.scaling_efficiency == pytest.approx(0.9)
    assert row.seconds == {"compute": pytest.approx(44.444), "wait": pytest.approx(11.111)}
    assert row.settings["sync_every"] == 8
    assert row.settings["scaling"] == "strong"
    assert by_place["all_reduce", 1, "loopback", 3].speedup == 1.0
    # What plain all-reduce on two workers had after 16 of its 20 steps, and when the others had it.
    assert study.target_loss == pytest.approx(4.0 - 3.0 * 16 / 19)
    assert row.seconds_to_loss == pytest.approx(100 / 1.8 * 17 / 20)
    assert asdict(row).keys() == set(FIELDS)


def test_the_time_to_a_loss_that_is_not_reached_is_none() -> None:
    assert derived.seconds_to([1.0, 2.0, 3.0], [3.0, 2.0, 2.5], 2.0) == 2.0
    assert derived.seconds_to([1.0, 2.0], [3.0, 2.1], 2.0) is None
    assert derived.seconds_to([1.0], [3.0], None) is None


def test_smoothing_is_the_mean_of_the_last_steps() -> None:
    assert smooth([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0])


def test_parity_is_over_seeds_and_utterances_in_pairs() -> None:
    plain = {seed: scored([1, 0, 2, 1] * 10) for seed in (1, 2, 3)}
    same = parity("same", 2, "by_cost", plain, plain)
    assert same.change == same.change_low == same.change_high == 0.0
    assert same.wer_low < same.wer < same.wer_high
    worse = {seed: scored([2, 0, 4, 2] * 10) for seed in (2, 3)}
    found = parity("worse", 2, "by_cost", worse, plain)
    assert found.change == found.change_low == found.change_high == pytest.approx(1.0)  # twice in every draw
    unsure = {1: scored([2, 0, 2, 1] * 10), 2: scored([0, 1, 2, 1] * 10)}
    found = parity("unsure", 2, "by_cost", unsure, plain)
    assert found.change_low is not None
    assert found.change_high is not None
    assert found.change_low < 0 < found.change_high
    assert parity("plain", 2, "by_cost", plain, None).change is None


class Outline(HTMLParser):
    """Tags that must close, and everything that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "br", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("circle", "rect"):
            return
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(write_recipe: Callable[..., Path]) -> None:
    text = page(study_of(write_recipe))
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.fetched == ["data:,"]
    assert "script" not in outline.seen
    assert "a &lt;note&gt;" in text
    assert "2 workers on 1 cores" in text
    assert "it fell" in text
    for title in (
        "Speed-up, strong scaling",
        "Efficiency, strong scaling",
        "Where the time went: 2 workers, loopback",
        "Where the time went: 2 workers, 100mbit",
        "Bytes on the wire a step, 2 workers",
        "WER against plain all-reduce: 2 workers",
        "Loss against time: 2 workers, 100mbit",
        "Seconds to the loss, by link",
        "Workers at their own pace",
    ):
        assert title in text
    assert re.search(r"takes [\d.e-]+ s at the link's rate", html.unescape(text))  # the bound
    assert page(study_of(write_recipe, cells=(), parity=(), target_loss=None))  # a study that just began


def test_expected_times_follow_work_and_links(write_recipe: Callable[..., Path]) -> None:
    found = points(write_recipe, workers=[2], links=["loopback", "1mbit"])
    by_place = {(point.strategy.sync.name, point.link): point for point in found if point.workers == 2}
    pace = Pace(compute_per_audio=0.01, overhead=5.0, num_parameters=10_000)
    here, there = by_place["all_reduce", "loopback"], by_place["all_reduce", "1mbit"]
    assert bytes_of(there, 10_000) == pytest.approx(40_000)
    assert expected_seconds(there, pace) - expected_seconds(here, pace) == pytest.approx(16 * 0.32)
    assert bytes_of(by_place["local_sgd", "1mbit"], 10_000) == pytest.approx(5_000)

"""What a prediction must say in cases whose answer is known."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest

from hocket.core.errors import UsageError
from hocket.core.layout import Layout
from hocket.planning.candidate import Candidate, Crowding, PlannedMicroBatch
from hocket.planning.demand import Shape
from hocket.planning.explain import explain
from hocket.planning.fabric import Placed
from hocket.planning.memory import rank_memory, settle
from hocket.planning.predict import predict_step
from hocket.planning.scaling import curve
from hocket.planning.search import _simplest, consider, search
from hocket.sync import AllReduceSettings, SyncBase
from hocket.sync.compression import Bf16, OneBitSgd
from hocket.sync.gossip import GossipSettings
from hocket.sync.local_sgd import LocalSgdSettings
from hocket.sync.server import ServerSettings
from plans_on_paper import asked, cluster, config, job, rates, ring

SMALL = job(micro_batches=1, rows=1, frames=160)
"""Too little for more than one device."""


def _seconds(layout: Layout, **changes: object) -> float:
    return predict_step(job(), Candidate(layout), cluster(**changes)).seconds  # type: ignore[arg-type]


def test_without_a_network_equal_work_speeds_up_linearly() -> None:
    alone = _seconds(Layout())
    for replicas in (2, 4, 8, 16):
        assert _seconds(Layout(dp_replicate=replicas), num_hosts=2) == pytest.approx(alone / replicas)
    shared = _seconds(Layout(dp_shard=4))
    assert shared == pytest.approx(alone / 4)


def test_a_rank_that_has_more_to_do_is_what_all_wait_for() -> None:
    uneven = job(micro_batches=3)
    step = predict_step(uneven, Candidate(Layout(dp_replicate=2)), cluster())
    assert step.imbalance == pytest.approx(2 / 1.5)
    assert step.by_kind["wait"] == pytest.approx(step.by_kind["compute"] / 3)


def test_a_slow_link_takes_what_its_bandwidth_says() -> None:
    bandwidth = 1e6
    there = cluster(2, 1, fabric=ring(1, bandwidth))
    step = predict_step(job(), Candidate(Layout(dp_replicate=2)), there)
    assert step.bytes_by_axis["dp_replicate"] > 4e6
    least = step.bytes_by_axis["dp_replicate"] / bandwidth
    assert least * 0.9 < step.by_kind["communication"] < least
    twice = predict_step(
        job(), Candidate(Layout(dp_replicate=2)), cluster(2, 1, fabric=ring(1, 2 * bandwidth))
    )
    assert twice.by_kind["communication"] == pytest.approx(step.by_kind["communication"] / 2, rel=0.05)


def test_fewer_bytes_and_fewer_agreements_cost_less_on_a_slow_link() -> None:
    there, layout = cluster(2, 1, fabric=ring(1, 1e6)), Layout(dp_replicate=2)
    sending = {
        name: predict_step(job(steps=4), Candidate(layout, sync), there)
        for name, sync in {
            "plain": AllReduceSettings(),
            "one bit": AllReduceSettings(compression=OneBitSgd()),
            "local": LocalSgdSettings(sync_every=4),
            "server": ServerSettings(),
            "gossip": GossipSettings(),
        }.items()
    }
    plain = sending["plain"].by_kind["communication"]
    assert sending["one bit"].by_kind["communication"] < plain / 20
    assert plain / 5 < sending["local"].by_kind["communication"] < plain / 3
    # Two values for each parameter and lease, where a ring of two sends and receives one.
    assert sending["server"].by_kind["communication"] > plain
    assert sending["gossip"].seconds > 0


def test_sending_beside_computing_shows_only_where_it_takes_longer() -> None:
    fast = cluster(2, 1, fabric=ring(1, 1e12))
    slow_core = cluster(1, 2, fabric=ring(1, 1e9), device="cpu", host_bytes_per_second=1e9)
    layout = Layout(dp_replicate=2)
    hidden = predict_step(job(), Candidate(layout), fast).by_kind["communication"]
    shown = predict_step(job(), Candidate(layout), slow_core).by_kind["communication"]
    assert shown > 100 * hidden


def test_reading_shows_only_where_it_is_longer_than_the_rest_of_the_step() -> None:
    work, fabric = job(), ring(1, 1e7)  # a slow link: sending is most of a step
    candidate = Candidate(Layout(dp_replicate=2), micro_batches_per_step=16)
    bare = predict_step(work, candidate, cluster(2, 1, fabric=fabric))
    assert bare.by_kind["communication"] > bare.by_kind["compute"]
    for share, shown in ((0.9, 0.0), (1.5, 0.5)):
        loading = share * bare.seconds / (work.audio_per_step / 2)
        there = cluster(2, 1, fabric=fabric, rates=replace(rates(), loading=loading))
        found = predict_step(work, candidate, there)
        assert found.by_kind["data"] == pytest.approx(shown * bare.seconds)


def test_a_device_that_waits_for_kernels_is_said_to() -> None:
    found = search(lambda number: SMALL, asked(micro_batches_per_step=1), cluster(), [1])
    assert "one kernel to begin after the other" in " ".join(explain(found, SMALL, cluster()))
    large = job(config(hidden_size=512, ff_size=2048), rows=32)
    found = search(lambda number: large, asked(), cluster(), [1])
    assert "one kernel to begin" not in " ".join(explain(found, large, cluster()))


def test_a_pipeline_has_the_bubble_of_its_schedule() -> None:
    even = job(config(num_layers=14, vocab_size=8, subsampling_channels=1), micro_batches=4)
    step = predict_step(even, Candidate(Layout(pp=2)), cluster())
    assert 0.1 < step.bubble < 0.3  # (pp - 1) / (micro-batches + pp - 1) is a fifth, with even stages
    more = predict_step(
        dataclasses.replace(even, steps=[even.steps[0] * 8]), Candidate(Layout(pp=2)), cluster()
    )
    assert more.bubble < step.bubble / 2


def test_splitting_a_layer_pays_for_its_sums() -> None:
    layout = Layout(tp=2)
    free = predict_step(job(), Candidate(layout), cluster())
    paid = predict_step(job(), Candidate(layout), cluster(fabric=ring(1, 1e9, 1e-3)))
    assert free.by_kind["communication"] == 0 < paid.by_kind["communication"]
    assert paid.bytes_by_axis["tp"] > 0
    # What every rank does alike is not halved.
    whole = predict_step(job(), Candidate(Layout()), cluster()).by_kind["compute"]
    assert whole / 2 < free.by_kind["compute"] < 0.9 * whole


def test_computing_again_costs_a_forward_pass() -> None:
    none = predict_step(job(), Candidate(Layout()), cluster())
    again = predict_step(job(), Candidate(Layout(recompute="all")), cluster())
    assert 0.2 < again.by_kind["recompute"] / none.by_kind["compute"] < 0.34


def test_a_full_host_is_slower_than_one_core_alone() -> None:
    crowded = cluster(1, 2, crowding=Crowding(1.5, 2.0))
    layout = Layout(dp_replicate=2)
    assert predict_step(job(), Candidate(layout), crowded).seconds > 1.4 * _seconds(layout)
    assert predict_step(job(), Candidate(Layout()), crowded).seconds == pytest.approx(_seconds(Layout()))


def test_memory_grows_with_the_batch_and_the_model_and_falls_with_every_split() -> None:
    def total(layout: Layout = Layout(), **changes: int) -> float:  # noqa: B008
        shape = {"rows": 4, "frames": 800}
        shape |= {name: changes.pop(name) for name in ("rows", "frames") if name in changes}
        model = config(**{"num_layers": 8, "hidden_size": 128, "num_heads": 4, **changes})
        return rank_memory(job(model, **shape), Candidate(layout)).total

    whole = total()
    assert total(rows=8) > 1.5 * whole
    assert total(frames=1600) > 1.8 * whole
    assert total(num_layers=16) > 1.5 * whole
    for layout in (Layout(tp=2), Layout(sp=2), Layout(pp=2), Layout(dp_shard=2), Layout(recompute="all")):
        assert total(layout) < whole
    assert total(Layout(recompute=4)) < whole
    assert total(Layout(recompute="all")) < total(Layout(recompute=4))


def test_a_target_in_bytes_becomes_as_few_blocks_as_keep_below_it() -> None:
    work = job(config(num_layers=8))
    kept = {number: rank_memory(work, Candidate(Layout(recompute=number))).activations for number in range(9)}
    for number in (0, 3, 8):
        target = f"{kept[number] / 1e6 + 0.1:.2f}MB"
        assert settle(work, Candidate(Layout(recompute=target))).layout.recompute == number
    assert settle(work, Candidate(Layout(recompute="0.1MB"))).layout.recompute == "all"


def test_more_micro_batches_under_way_are_more_memory() -> None:
    pipe = job(config(num_layers=8), micro_batches=8)
    gpipe, one_f_one_b = (
        rank_memory(pipe, Candidate(Layout(pp=2, schedule=name))).activations for name in ("gpipe", "1f1b")
    )
    assert gpipe > 3 * one_f_one_b


def test_the_search_keeps_what_is_learnt_and_refuses_with_a_reason() -> None:
    work = job()
    found = search(lambda number: work, asked(), cluster(), [1, 2, 4])
    assert found.chosen.candidate.layout.world_size == 4
    assert found.chosen.same_answer
    assert any(not each.same_answer for each in found.ranked)
    assert [each.run_seconds for each in found.ranked] == sorted(each.run_seconds for each in found.ranked)
    words = " ".join(explain(found, work, cluster()))
    assert "4 workers" in words
    tight = cluster(memory_bytes=1e7)
    with pytest.raises(UsageError, match=r"a rank needs .* GB"):
        search(lambda number: work, asked(), tight, [1])
    reasons = {each.reason for each in search(lambda number: work, asked(), cluster(), [8]).refused}
    assert any("num_heads" in reason for reason in reasons)
    with pytest.raises(UsageError, match="has no price"):
        search(lambda number: work, asked(), cluster(), [1], "cost")
    priced = search(lambda number: work, asked(), cluster(price_per_hour=2.0), [1, 2], "cost")
    assert priced.chosen.dollars == pytest.approx(2.0 * priced.chosen.run_seconds / 3600, rel=1.01)


def test_nobody_is_hired_to_do_nothing() -> None:
    work = job(micro_batches=2)
    found = search(lambda number: work, asked(micro_batches_per_step=2), cluster(), [1, 2, 4, 8])
    for each in found.ranked:
        groups, number = each.candidate.layout.num_groups, each.candidate.micro_batches_per_step
        assert groups <= number or not isinstance(each.candidate.sync, SyncBase)
    idle = [each for each in found.refused if "nothing to do: a step has 2 micro-batches" in each.reason]
    assert any(each.candidate.layout.dp_replicate == 4 for each in idle)
    words = " ".join(explain(found, work, cluster()))
    assert "batch.micro_batches_per_step=8" in words


def test_of_ways_that_are_as_good_the_simplest_is_recommended() -> None:
    found = search(lambda number: SMALL, asked(micro_batches_per_step=1), cluster(), [1, 2], "time")
    assert [each.candidate.layout.world_size for each in found.by_workers] == [1, 2]
    nearly = replace(found.by_workers[1], run_seconds=found.by_workers[0].run_seconds * 0.98)
    assert _simplest([nearly, found.by_workers[0]], "time") is found.by_workers[0]
    faster = replace(nearly, run_seconds=found.by_workers[0].run_seconds * 0.9)
    assert _simplest([faster, found.by_workers[0]], "time") is faster


def test_the_best_of_each_number_of_workers_is_told() -> None:
    work = job()
    found = search(lambda number: work, asked(), cluster(), [1, 2, 4])
    assert [each.candidate.layout.world_size for each in found.by_workers] == [1, 2, 4]
    assert found.by_workers[-1] is found.chosen
    for each in found.by_workers[:-1]:
        others = [
            other.run_seconds
            for other in found.ranked
            if other.same_answer and other.candidate.layout.world_size == each.candidate.layout.world_size
        ]
        assert each.run_seconds == min(others)
    words = " ".join(explain(found, work, cluster()))
    assert "With 2 devices the run takes" in words


def test_candidates_that_cannot_be() -> None:
    work = job()

    def refused(candidate: Candidate, exact: bool = False) -> str:
        with pytest.raises(UsageError) as error:
            consider(lambda number: work, asked(), candidate, cluster(), exact=exact)
        return str(error.value)

    assert "whole model" in refused(Candidate(Layout(tp=2), GossipSettings(), micro_batches_per_step=16))
    assert "numerics.exact" in refused(Candidate(Layout(sp=2)), exact=True)
    assert "16 workers" in refused(Candidate(Layout(dp_replicate=16)))


def test_the_curve_is_linear_without_a_network_and_flat_on_one_slow_link() -> None:
    candidate = Candidate(Layout(dp_replicate=2), micro_batches_per_step=16)
    free = list(curve(job(), candidate, lambda hosts: cluster(hosts), 8, most=1024))
    assert [point.workers for point in free] == [2**power for power in range(11)]
    assert free[-1].weak == pytest.approx(1024 * free[0].weak, rel=1e-6)
    assert free[-1].strong == pytest.approx(16 * free[0].strong, rel=1e-6)  # sixteen micro-batches
    slow = list(curve(job(), candidate, lambda hosts: cluster(hosts, 1, fabric=ring(1, 1e3)), 1, most=64))
    assert slow[-1].weak / slow[-2].weak == pytest.approx(2.0, rel=0.05)  # a ring's time is that of its bytes
    assert slow[-1].strong < slow[0].strong


def test_the_curve_goes_through_the_plan() -> None:
    shapes = [Shape(4, frames, 20) for frames in (300, 320, 400, 420)]
    batches = [PlannedMicroBatch(shape, shape.num_frames, shape.num_frames / 25) for shape in shapes]
    work = replace(job(), steps=[batches * 2, batches[::-1] * 2])
    there = cluster(2, 2, fabric=ring(2, 1e9, 1e-5))
    for sync in (AllReduceSettings(), LocalSgdSettings(sync_every=2), AllReduceSettings(compression=Bf16())):
        candidate = Candidate(Layout(dp_replicate=4), sync, micro_batches_per_step=8)
        said = work.audio_per_step / predict_step(work, candidate, there).seconds
        points = {point.workers: point for point in curve(work, candidate, lambda hosts: there, 2, most=4)}
        assert points[4].weak == pytest.approx(said, rel=0.02)
        assert points[4].strong == pytest.approx(said, rel=1e-9)


def test_ranks_on_other_devices_pay_for_the_links_there() -> None:
    fabric = ring(2, 1e9)
    groups = [[0, 2], [1, 3]]
    assert fabric.seconds("all_reduce", groups, 1e6) == pytest.approx(2e-3)  # two groups leave each host
    assert Placed(fabric, (0, 2, 1, 3)).seconds("all_reduce", groups, 1e6) < 1e-6

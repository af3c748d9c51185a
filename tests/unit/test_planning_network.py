"""Networks: what their texts make, the ways through them, and what collectives cost there."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hocket.core.errors import UsageError
from hocket.core.layout import Layout
from hocket.planning.network import (
    EXAMPLES,
    TABLE,
    Network,
    Traffic,
    Transport,
    best,
    cost,
    parse,
    place,
)
from hocket.planning.network.algorithms import parents
from hocket.planning.network.placement import groups_of
from hocket.planning.network.sharing import rates, share

BYTES = 10e9 / 8
"""A second, of the links below."""
LATENCY = 5e-6
SWITCH = f"switch:link=10Gbit,latency={LATENCY * 1e6:g}us"
TREE = "fat-tree:hosts=64,leaf=16,link=10Gbit,latency=5us"


def build(text: str, hosts: int | None = None) -> Network:
    spec = parse(text)
    return (spec if hosts is None else spec.with_hosts(hosts)).build()


def everybody(network: Network) -> list[list[int]]:
    return [list(range(network.num_devices))]


@pytest.mark.parametrize("text", EXAMPLES.values())
def test_the_example_of_each_kind_reaches_everybody(text: str) -> None:
    network = build(text)
    for target in range(1, network.num_devices):
        path = network.path(0, target)
        ends = [network.links[link] for link in path]
        assert (ends[0].source, ends[-1].target) == (0, target)
        assert all(one.target == other.source for one, other in pairwise(ends))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no kind ''.*Known: ring, switch"),
        ("mesh:hosts=4", "there is no kind 'mesh'.*Known"),
        ("fattree:hosts=4", "Did you mean 'fat-tree'"),
        ("switch", "hosts is missing"),
        ("switch:hosts=4", "link is missing"),
        ("switch:hosts", "'hosts' is not of the form key=value"),
        ("switch:hosts=,link=1Gbit", "'hosts=' is not of the form"),
        ("switch:hosts=4,hosts=5,link=1Gbit", "hosts is given twice"),
        ("switch:host=4,link=1Gbit", "unknown key 'host'.*Did you mean 'hosts'"),
        ("switch:leaf=4,link=1Gbit", "unknown key 'leaf'.*A switch takes: hosts"),
        ("switch:hosts=-4,link=1Gbit", "hosts=-4: give a whole number"),
        ("switch:hosts=0,link=1Gbit", "hosts=0: give a whole number"),
        ("switch:hosts=2.5,link=1Gbit", "hosts=2.5: give a whole number"),
        ("switch:hosts=99999,link=1Gbit", "99999 devices; at most 65536"),
        ("switch:hosts=4,link=fast", "link=fast: give a rate"),
        ("switch:hosts=4,link=-1Gbit", "link=-1Gbit: give a rate above 0"),
        ("switch:hosts=4,link=0Gbit", "give a rate above 0"),
        ("switch:hosts=4,link=10Gb", "write bit or B"),
        ("switch:hosts=4,link=10", "give a rate"),
        ("switch:hosts=4,link=1Gbit,latency=-1us", "latency=-1us: give a time of 0 and more"),
        ("switch:hosts=4,link=1Gbit,latency=5", "latency=5: give a time"),
        ("switch:hosts=4,link=1Gbit,devices=8", "8 devices in a host, but no rate between them.*inside="),
        ("islands:hosts=4,link=1Gbit", "devices is missing.*As in islands:"),
        ("islands:hosts=4,devices=1,inside=1GB,link=1Gbit", "at least 2 devices"),
        ("fat-tree:hosts=4,link=1Gbit", "leaf is missing"),
        (
            "fat-tree:hosts=4,leaf=2,link=1Gbit,oversubscription=0",
            "oversubscription=0: give a number above 0",
        ),
        ("fat-tree:hosts=4,leaf=2,link=1Gbit,oversubscription=1:4", "oversubscription=1:4: give a number"),
        ("fat-tree:hosts=4,leaf=2,link=1Gbit,spread=random", "spread=random: give destination or hash"),
        ("torus:link=1Gbit", "shape is missing"),
        ("torus:shape=4x,link=1Gbit", "shape=4x: give a whole number"),
        ("torus:shape=2x2x2x2,link=1Gbit", "1 to 3 axes"),
        ("torus:shape=4x4,hosts=15,link=1Gbit", "shape 4x4 is 16 hosts, not 15"),
        ("torus:hosts=16,axes=4,link=1Gbit", "a torus of 4 axes"),
        ("dragonfly:hosts=8,link=1Gbit", "routers is missing"),
    ],
)
def test_odd_text_is_refused_with_what_would_do(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        parse(text).build()


def test_rates_in_bits_and_bytes_and_times() -> None:
    network = build("switch:hosts=2, link=100Gbit/s, latency=1.5ms")
    assert {(link.bandwidth, link.latency) for link in network.links} == {(12.5e9, 1.5e-3)}
    assert build("switch:hosts=2,link=12.5GB,latency=0s").links[0].bandwidth == 12.5e9


@pytest.mark.parametrize("over", [1, 4, 32])
def test_a_fat_tree_has_exactly_the_oversubscription_that_was_asked_for(over: int) -> None:
    graph = build(f"{TREE},oversubscription={over}").graph
    leaf = next(n for n, node in enumerate(graph.nodes) if node.name == "leaf0")
    up = [ln for ln in graph.links if ln.source == leaf and graph.nodes[ln.target].tier == 3]
    assert sum(link.bandwidth for link in up) == pytest.approx(16 * BYTES / over)
    assert len(up) == max(1, 16 // over)


def test_a_network_of_any_size_from_a_text_that_names_none() -> None:
    assert build("torus:link=1Gbit", 24).path(0, 23) == build("torus:shape=6x4,link=1Gbit").path(0, 23)
    assert build("islands:devices=8,inside=300GB,link=200Gbit", 3).num_devices == 24
    assert parse("torus:shape=2x2x2,link=1Gbit").with_hosts(27).build().num_devices == 27


def hops(network: Network, source: int, target: int) -> list[str]:
    nodes, links = network.graph.nodes, network.links
    return [nodes[links[link].target].name for link in network.path(source, target)]


def test_a_torus_goes_along_the_last_axis_first_and_the_shorter_way_round() -> None:
    network = build("torus:shape=4x5,link=1Gbit")
    assert hops(network, 0, 14) == ["host4", "host9", "host14"]  # 0 = (0, 0), 14 = (2, 4)
    assert len(build("torus:shape=2x2,link=1Gbit").links) == 8


@pytest.mark.parametrize("spread", ["destination", "hash"])
def test_flows_are_spread_over_all_spines_and_cores(spread: str) -> None:
    network = build(f"fat-tree:hosts=64,leaf=4,pod=4,link=1Gbit,spread={spread}")
    tops = {hops(network, source, target)[2] for source in range(4) for target in range(48, 64)}
    if spread == "destination":
        assert len(tops) == 16
        taken = {(source, hops(network, source, 63)[2]) for source in range(8)}
        assert len({top for _, top in taken}) == 1  # whatever goes to one host goes over one core
    else:
        assert 8 < len(tops) <= 16


def test_a_dragonfly_needs_one_cable_between_groups() -> None:
    network = build("dragonfly:hosts=72,routers=4,per_router=2,link=100Gbit")
    assert network.num_devices == 72
    assert {len(network.path(0, target)) for target in range(8, 72)} <= {3, 4, 5}
    between = [link for link in network.links if len(set(groups(network, link.source, link.target))) == 2]
    assert len(between) == 9 * 8


def groups(network: Network, *nodes: int) -> list[str]:
    names = [network.graph.nodes[node].name for node in nodes]
    return [name.split(".")[0] for name in names if name.startswith("group")]


def test_max_min_fair_shares_of_the_textbook() -> None:
    paths = [[0], [0, 1], [1], [1, 2], [2]]  # links of 10, 12 and 20
    flow_P = np.repeat(np.arange(5), [len(path) for path in paths])
    link_P = np.array([link for path in paths for link in path])
    assert rates(flow_P, link_P, 5, np.array([10.0, 12.0, 20.0])).tolist() == [6.0, 4.0, 4.0, 4.0, 16.0]


def test_flows_share_anew_when_others_end_and_the_longest_latency_counts() -> None:
    pattern = share([[0], [0], [0, 1], []], np.array([10.0, 2.0]), np.array([0.5, 0.25]))
    # two flows at 4 end after 0.25 s a byte; the third, at 2, after 0.5
    assert pattern.seconds(1.0) == pytest.approx(1.25)
    assert pattern.seconds(0.0) == pytest.approx(0.75)
    assert pattern.link_flows_L.tolist() == [3, 1]


@pytest.mark.parametrize("members", [2, 8, 64])
def test_all_reduces_on_a_switch_take_what_their_formulas_say(members: int) -> None:
    network, size, two_hops = build(SWITCH, members), 64e6, 2 * LATENCY
    bits = members.bit_length() - 1
    whole = size / BYTES
    expected = {
        "ring": 2 * (members - 1) * (two_hops + whole / members),
        "recursive_doubling": bits * (two_hops + whole),
        "halving_doubling": 2 * bits * two_hops + 2 * whole * (members - 1) / members,
        "binomial": 2 * bits * (two_hops + whole),
    }
    for name, seconds in expected.items():
        found = cost(network, everybody(network), "all_reduce", size, name)
        assert found.seconds == pytest.approx(seconds), name
        assert found.fixed_seconds == pytest.approx(
            cost(network, everybody(network), "all_reduce", 0, name).seconds
        )


@pytest.mark.parametrize("members", [2, 3, 5, 6, 8, 13, 16])
@pytest.mark.parametrize(
    ("collective", "least"), [("all_reduce", 2), ("all_gather", 1), ("reduce_scatter", 1)]
)
def test_no_algorithm_sends_less_than_must_arrive(collective: str, least: int, members: int) -> None:
    network, size = build(SWITCH, members), 1e6 * members
    for name in TABLE[collective]:
        if name == "hierarchical":
            continue
        found = cost(network, everybody(network), collective, size, name)
        arriving = [
            found.link_bytes_L[number] for number, link in enumerate(network.links) if link.target < members
        ]
        needed = least * size * (members - 1)
        assert sum(arriving) >= needed * (1 - 1e-9), name
        if name == "ring":
            assert arriving == pytest.approx([needed / members] * members)


@pytest.mark.parametrize("members", [2, 3, 5, 8, 13])
@pytest.mark.parametrize("algorithm", ["binomial", "scatter_gather", "double_tree", "gloo"])
def test_a_broadcast_brings_the_whole_tensor_to_everybody(members: int, algorithm: str) -> None:
    network = build(SWITCH, members)
    found = cost(network, everybody(network), "broadcast", 1e6, algorithm)
    for device in range(1, members):
        into = network.path(0, device)[-1]
        assert found.link_bytes_L[into] >= 1e6 * (1 - 1e-9)


@pytest.mark.parametrize("members", [2, 3, 7, 8, 100, 1024])
def test_double_trees_are_shallow_and_nobody_works_in_both(members: int) -> None:
    up_N = [0, *parents(members).tolist()]
    inner = set(up_N[1:])
    depths = []
    for member in range(members):
        steps, at = 0, member
        while at:
            at, steps = up_N[at], steps + 1
        depths.append(steps)
    assert max(depths) <= members.bit_length()
    assert all(member % 2 == 0 for member in inner)  # mirrored or shifted by one, the odd ones work
    network = build(SWITCH, members)
    large = cost(network, everybody(network), "all_reduce", 4e9, "double_tree").seconds
    assert 2 * 4e9 / BYTES * 0.49 < large < 2 * 4e9 / BYTES * 1.6


def test_an_oversubscribed_tree_slows_what_crosses_it() -> None:
    shifted = [[host, (host + 16) % 64] for host in range(64)]
    full, thin = (build(f"{TREE},oversubscription={over}") for over in (1, 4))
    pattern = [np.array(column, np.int64) for column in zip(*shifted, strict=True)]
    one, other = (each.pattern(*pattern).seconds_per_byte for each in (full, thin))
    assert one == pytest.approx(1 / BYTES)
    assert other == pytest.approx(4 / BYTES)
    ring = [cost(each, everybody(each), "all_reduce", 64e6, "ring").seconds for each in (full, thin)]
    assert ring[0] == pytest.approx(ring[1])  # only neighbours talk: one flow crosses each uplink


def test_islands_pay_by_the_hierarchical_way() -> None:
    network = build("islands:hosts=4,devices=8,inside=300GB,link=100Gbit,latency=5us,inside_latency=1us")
    found = best(network, everybody(network), "all_reduce", 1e9)
    part, out, inside = 1e9 / 8, 12.5e9, 300e9
    expected = 14 * (1e9 / 8 / inside + 2e-6) + 6 * (8 * part / 4 / out + 12e-6)
    hierarchical = cost(network, everybody(network), "all_reduce", 1e9, "hierarchical")
    assert hierarchical.seconds == pytest.approx(expected)
    assert found.seconds <= hierarchical.seconds
    assert network.graph.label(found.busiest(network)).startswith(("host", "switch"))


def test_groups_at_the_same_time_share_links() -> None:
    network = build("islands:hosts=2,devices=4,inside=300GB,link=10Gbit,latency=0us,inside_latency=0us")
    alone = cost(network, [[0, 4]], "all_reduce", 1e6, "ring").seconds
    together = cost(network, [[n, n + 4] for n in range(4)], "all_reduce", 1e6, "ring").seconds
    assert together == pytest.approx(4 * alone)


def test_gloo_sends_what_gloo_sends() -> None:
    network = build(SWITCH, 2)
    megabytes = 10 * 2**20
    found = cost(network, everybody(network), "all_reduce", megabytes, "gloo")
    assert found.link_bytes_L[network.path(0, 1)[0]] == 2 * 8 * 2**20  # of ten segments eight, in both phases
    quick = cost(network, everybody(network), "all_reduce", 4, "gloo")
    assert quick.seconds == pytest.approx(2 * 2 * LATENCY, rel=0.01)  # there and back
    slow = Transport("slow", message_seconds=1e-3, start_seconds=1e-2)
    eight = build(SWITCH, 8)
    tiny = cost(eight, everybody(eight), "all_reduce", 4, "gloo", slow).seconds
    assert tiny == pytest.approx(1e-2 + 14 * (1e-3 + 2 * LATENCY), rel=0.1)


def test_transports_cost_what_they_say() -> None:
    network = build(SWITCH, 4)
    ideal = cost(network, everybody(network), "all_reduce", 4e6, "ring").seconds
    adding = Transport("adding", reduce_bytes_per_second=1e9)
    headers = Transport("headers", wire_bytes_per_byte=1.05)
    assert cost(network, everybody(network), "all_reduce", 4e6, "ring", adding).seconds == pytest.approx(
        ideal + 3 * 1e6 / 1e9
    )
    assert cost(network, everybody(network), "all_reduce", 4e6, "ring", headers).seconds == pytest.approx(
        ideal + 0.05 * 6 * 1e6 / BYTES
    )


@pytest.mark.parametrize(
    ("groups", "collective", "size", "algorithm", "said"),
    [
        ([[0, 1]], "all_reduce", 1, "rings", "no algorithm for all_reduce 'rings'.*Did you mean 'ring'"),
        ([[0, 1]], "allreduce", 1, "ring", "no collective 'allreduce'.*Did you mean 'all_reduce'"),
        ([[0, 1]], "all_reduce", -1, "ring", "of -1 bytes"),
        ([[0, 1]], "all_reduce", float("nan"), "ring", "of nan bytes"),
        ([[0, 9]], "all_reduce", 1, "ring", "devices 0 to 9 in groups.*0 to 3"),
        ([[0, 1], [1, 2]], "all_reduce", 1, "ring", "in two groups"),
        ([[0, 1], [2]], "all_reduce", 1, "ring", "equally large"),
        ([[0, 1]], "all_reduce", 1, "hierarchical", "not several equal islands"),
    ],
)
def test_collectives_that_cannot_be_are_refused(
    groups: list[list[int]], collective: str, size: float, algorithm: str, said: str
) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        cost(build(SWITCH, 4), groups, collective, size, algorithm)


@pytest.mark.parametrize(
    "odd",
    [
        {"start_seconds": -1.0},
        {"message_seconds": -1.0},
        {"reduce_bytes_per_second": 0.0},
        {"wire_bytes_per_byte": 0.5},
    ],
)
def test_odd_transports_are_refused(odd: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="transport odd"):
        Transport("odd", **odd)


def test_axes_with_much_to_say_are_placed_on_islands() -> None:
    network = build("islands:hosts=4,devices=4,inside=300GB,link=10Gbit")
    layout = Layout(dp_replicate=4, tp=4)
    little, much = 1e6, 1e9
    usual = place(
        network,
        layout,
        [Traffic(("tp",), "all_reduce", much), Traffic(("dp_replicate",), "all_reduce", little)],
    )
    assert usual.order == ("dp_replicate", "tp")
    assert usual.device_of == tuple(range(16))
    assert "along tp sit next to each other" in usual.why
    assert "times that" in usual.why
    turned = place(
        network,
        layout,
        [Traffic(("tp",), "all_reduce", little), Traffic(("dp_replicate",), "all_reduce", much)],
    )
    assert turned.order == ("tp", "dp_replicate")
    assert turned.device_of[:5] == (0, 4, 8, 12, 1)
    assert turned.tried[0] == (turned.order, turned.seconds)
    assert turned.seconds < turned.tried[1][1]


def test_an_order_that_gains_nothing_leaves_the_mesh_as_it_is() -> None:
    network = build(SWITCH, 8)
    found = place(network, Layout(pp=2, tp=4), [Traffic(("tp",), "all_reduce", 1e6)])
    assert found.order == ("pp", "tp")
    assert "no other order is slower" in found.why
    assert place(network, Layout(), []).why == "nothing is split"


def test_what_does_not_fit_is_not_placed() -> None:
    with pytest.raises(UsageError, match="16 ranks on 8 devices"):
        place(build(SWITCH, 8), Layout(dp_replicate=16), [])
    with pytest.raises(UsageError, match="no axis 'ep'"):
        place(build(SWITCH, 8), Layout(dp_replicate=8), [Traffic(("ep",), "all_reduce", 1)])


def test_groups_are_those_of_the_mesh() -> None:
    layout = Layout(pp=2, dp_replicate=2, tp=2)
    assert groups_of(layout, ["tp"]) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert groups_of(layout, ["pp", "tp"]) == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert groups_of(layout, ["dp_replicate"], range(10, 18)) == [[10, 12], [11, 13], [14, 16], [15, 17]]


def test_a_cable_can_be_slowed_by_name() -> None:
    network = build(SWITCH, 4)
    slowed = network.slowed("host2", "switch", BYTES / 10)
    whole = [cost(each, everybody(each), "all_reduce", 1e8, "ring").seconds for each in (network, slowed)]
    assert whole[1] == pytest.approx(10 * whole[0], rel=0.01)
    with pytest.raises(UsageError, match="no link joins host2 and host3"):
        network.slowed("host2", "host3", 1.0)

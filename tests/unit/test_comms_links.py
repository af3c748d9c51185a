"""Links of a given rate between hosts of this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from hocket.comms.links import Hosts, Link, why_not
from hocket.comms.links import hosts as module
from hocket.comms.links.kernel import run
from hocket.comms.links.throughput import measure
from hocket.comms.links.wiring import ring, tree
from hocket.core.errors import RunError, UsageError

NAME = f"hkt{os.getpid()}"
needs_root = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.mark.parametrize(
    ("text", "bits", "delay"),
    [("1gbit", 1e9, 0.0), ("100mbit", 1e8, 0.0), ("1.5Mbit+20ms", 1.5e6, 0.02), ("64kbit+500us", 64e3, 5e-4)],
)
def test_links_as_people_write_them(text: str, bits: float, delay: float) -> None:
    link = Link.parse(text)
    assert (link.bits_per_second, link.delay_seconds) == (bits, pytest.approx(delay))


@pytest.mark.parametrize("text", ["", "fast", "100", "0mbit", "-1mbit", "100mbit+5", "1gbit+1s"])
def test_what_is_no_link_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"100mbit\+5ms"):
        Link.parse(text)


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="need root"):
        Hosts(2, Link.parse("1gbit"), NAME).__enter__()


def namespaces() -> list[str]:
    return [path.name for path in Path("/run/netns").glob(f"{NAME}-*")]


@needs_root
def test_the_limit_holds_and_bytes_cross_it_and_nothing_is_left() -> None:
    with Hosts(2, Link.parse("20mbit"), NAME) as (one, other):
        found = measure(one, other, seconds=0.8)
        assert (
            found.bits_per_second < 1.05 * 20e6
        )  # that it is near needs an idle machine: benchmarks/links.py
        assert one.bytes_sent() > found.num_bytes > 200_000
        with pytest.raises(OSError, match="refused"):  # this host's loopback is not theirs
            one.call(lambda: socket.create_connection(("127.0.0.1", 9), timeout=1.0))
        with pytest.raises(RunError, match="in use by another process"):
            Hosts(2, Link.parse("20mbit"), NAME).__enter__()
    assert namespaces() == []


@needs_root
def test_what_a_killed_run_left_is_removed() -> None:
    subprocess.run(["ip", "netns", "add", f"{NAME}-1"], check=True)
    with Hosts(1, Link.parse("1gbit"), NAME) as (host,):
        assert host.namespace == f"{NAME}-0"
        assert f"{NAME}-1" not in namespaces()
    assert namespaces() == []


@needs_root
def test_only_what_leaves_a_leaf_switch_crosses_its_thin_cable() -> None:
    def crossed() -> int:
        told = run("ip", "-n", f"{NAME}-switch", "-s", "-j", "link", "show", "up0")
        return int(json.loads(told)[0]["stats64"]["tx"]["bytes"])

    uplink = Link.parse("20mbit")
    with Hosts(4, Link.parse("200mbit"), NAME, tree(2, uplink)) as hosts:
        beside = measure(hosts[0], hosts[1], seconds=0.2)
        assert crossed() < 0.1 * beside.num_bytes
        across = measure(hosts[0], hosts[2], seconds=0.4)
        assert crossed() > across.num_bytes
        assert across.bits_per_second < 1.1 * uplink.bits_per_second  # a burst is much of so short a time
    assert namespaces() == []


@needs_root
def test_hosts_of_a_ring_pass_on_what_is_for_others() -> None:
    with Hosts(4, Link.parse("100mbit"), NAME, ring) as hosts:
        before = [host.bytes_sent() for host in hosts]
        found = measure(hosts[0], hosts[2], seconds=0.2)
        passed = [host.bytes_sent() - was for host, was in zip(hosts, before, strict=True)]
        assert passed[0] > found.num_bytes
        assert passed[1] > found.num_bytes  # half way round goes towards higher numbers
        assert passed[3] < 0.1 * found.num_bytes
    assert namespaces() == []

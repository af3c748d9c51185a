"""How hosts of this machine are joined: to one switch, to a tree of switches, or in a ring.

A wiring is called when the namespaces of the hosts and of the switches are there. Bridges are the switches;
they, too, are namespaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hocket.comms.links.host import Host
from hocket.comms.links.kernel import INTERFACE, cable, run
from hocket.comms.links.rate import Link

Wiring = Callable[[Sequence[Host], str, Link], None]
"""Joins hosts by a link; the namespace of the switches is given by name."""

_SETTINGS = Path("/proc/sys/net/ipv4")


def star(hosts: Sequence[Host], switch: str, link: Link) -> None:
    """Every host on one switch."""
    _bridge(switch, "bridge")
    _plug_in(hosts, switch, "bridge", link)


def tree(leaf: int, uplink: Link) -> Wiring:
    """``leaf`` hosts on each leaf switch, and every leaf switch by one ``uplink`` on the switch above."""

    def join(hosts: Sequence[Host], switch: str, link: Link) -> None:
        _bridge(switch, "spine")
        for number in range(-(-len(hosts) // leaf)):
            _bridge(switch, f"leaf{number}")
            _plug_in(hosts[number * leaf : (number + 1) * leaf], switch, f"leaf{number}", link)
            up, down = f"up{number}", f"down{number}"
            cable(switch, up, switch, down, uplink)
            run("ip", "-n", switch, "link", "set", up, "master", f"leaf{number}")
            run("ip", "-n", switch, "link", "set", down, "master", "spine")

    return join


def ring(hosts: Sequence[Host], switch: str, link: Link) -> None:
    """Every host to the two beside it; hosts pass on what is for others, the shorter way round.

    Half way round goes towards higher numbers. There must be 3 hosts at least, so that the sides differ.
    """
    count = len(hosts)
    if count < 3:
        raise ValueError(f"a ring of {count} hosts")
    for host in hosts:
        _bridge(host.namespace, INTERFACE)  # has the address, and no port
        run("ip", "-n", host.namespace, "address", "add", f"{host.address}/32", "dev", INTERFACE)
        host.call(_pass_on)
    for number, host in enumerate(hosts):
        cable(host.namespace, "right", hosts[(number + 1) % count].namespace, "left", link)
    for number, host in enumerate(hosts):
        for ahead in range(1, count):
            goal = hosts[(number + ahead) % count].address
            side = "right" if ahead <= count // 2 else "left"
            route = [f"{goal}/32", "dev", side, "scope", "link", "src", host.address]
            run("ip", "-n", host.namespace, "route", "add", *route)


def _bridge(namespace: str, name: str) -> None:
    run("ip", "-n", namespace, "link", "add", name, "type", "bridge")
    run("ip", "-n", namespace, "link", "set", name, "up")


def _plug_in(hosts: Sequence[Host], switch: str, bridge: str, link: Link) -> None:
    for host in hosts:
        port = f"port{host.namespace.rpartition('-')[2]}"
        cable(host.namespace, INTERFACE, switch, port, link)
        run("ip", "-n", host.namespace, "address", "add", f"{host.address}/24", "dev", INTERFACE)
        run("ip", "-n", switch, "link", "set", port, "master", bridge)


def _pass_on() -> None:
    """Forward packets, and answer for the hosts behind this one (proxy ARP, RFC 1027)."""
    (_SETTINGS / "ip_forward").write_text("1")
    (_SETTINGS / "conf/all/proxy_arp").write_text("1")
    (_SETTINGS / "conf/all/rp_filter").write_text("0")
    (_SETTINGS / "conf/default/rp_filter").write_text("0")
    (_SETTINGS / "conf/all/send_redirects").write_text("0")
    (_SETTINGS / "conf/default/send_redirects").write_text("0")

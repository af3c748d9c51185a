"""The networks that people build: ring, torus, switch, fat-tree, dragonfly; with islands inside of hosts.

Every builder takes the number of hosts and their :class:`Hosts`: a host of one device is that device; one
of several is an *island*, whose devices reach each other and the host's network cards over a switch inside
(NVLink, PCIe). A link's latency counts once for each link that a message takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from hocket.core.errors import UsageError
from hocket.planning.network.graph import Builder
from hocket.planning.network.routing import Network, Spread


@dataclass(frozen=True)
class Hosts:
    """What every host is, and its cable to the network."""

    link: float
    """Bytes a second of a network card, each way."""
    latency: float = 2e-6
    """Seconds that a link of the network adds."""
    devices: int = 1
    """Devices of a host."""
    nics: int = 1
    """Network cards of a host, which its devices share as one."""
    inside: float = 0.0
    """Bytes a second of a device to the others of its host, each way; for hosts of several devices."""
    inside_latency: float = 1e-6
    """Seconds that a link inside of a host adds."""

    def __post_init__(self) -> None:
        for name in ("link", *(("inside",) if self.devices > 1 else ())):
            if getattr(self, name) <= 0:
                raise UsageError(f"network: {name} is {getattr(self, name):g} bytes/s; it must be above 0")
        for name in ("latency", "inside_latency"):
            if getattr(self, name) < 0:
                raise UsageError(f"network: {name} is {getattr(self, name):g} s; it must not be below 0")
        for name in ("devices", "nics"):
            if getattr(self, name) < 1:
                raise UsageError(f"network: {name} is {getattr(self, name)}; it must be at least 1")

    @property
    def out(self) -> float:
        """Bytes a second of all of a host's network cards."""
        return self.link * self.nics


class _Site(Builder):
    """A builder that has the hosts already; ``hosts`` are their nodes."""

    def __init__(self, num_hosts: int, hosts: Hosts) -> None:
        super().__init__()
        if num_hosts < 1:
            raise UsageError(f"network: {num_hosts} hosts; there must be at least 1")
        self.of = hosts
        self.num_hosts = num_hosts
        if hosts.devices == 1:
            self.hosts = [self.node(f"host{number}", "device", 0) for number in range(num_hosts)]
            return
        for host in range(num_hosts):
            for device in range(hosts.devices):
                self.node(f"host{host}.{device}", "device", 0)
        self.hosts = [self.node(f"host{number}", "host", 1) for number in range(num_hosts)]
        for device in range(num_hosts * hosts.devices):
            self.cable(device, self.hosts[device // hosts.devices], hosts.inside, hosts.inside_latency)

    def network(
        self, name: str, leaves: Sequence[int] = (), spread: Spread = "destination", shape: Sequence[int] = ()
    ) -> Network:
        """What was built; ``leaves`` say on which leaf switch each host is, where there are such."""
        host_of = [host for host in range(self.num_hosts) for _ in range(self.of.devices)]
        apart = self.of.devices > 1 or not leaves
        island_of = host_of if apart else [leaves[host] for host in host_of]
        return Network(name, self.build(host_of, island_of), spread, shape, self.hosts)


def torus(shape: Sequence[int], hosts: Hosts, name: str = "torus") -> Network:
    """Hosts in a grid of 1, 2 or 3 axes, each joined to its two neighbours along every axis, ends to ends.

    A host's ``link`` is one cable to one neighbour. An axis of 2 has one cable, not two.
    """
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise UsageError(f"network: a torus of shape {'x'.join(map(str, shape))}: 1 to 3 axes of 1 and more")
    site = _Site(prod(shape), hosts)
    stride = 1
    for degree in reversed(shape):
        for number, host in enumerate(site.hosts):
            place = number // stride % degree
            if degree > 1 and (degree > 2 or place == 0):
                after = number - place * stride + (place + 1) % degree * stride
                site.cable(host, site.hosts[after], hosts.out, hosts.latency)
        stride *= degree
    return site.network(name, shape=shape)


def ring(num_hosts: int, hosts: Hosts, name: str = "ring") -> Network:
    """Hosts in a circle, each joined to the two beside it."""
    return torus((num_hosts,), hosts, name)


def switch(num_hosts: int, hosts: Hosts, name: str = "switch") -> Network:
    """A star: all hosts on one switch that never is the bottleneck."""
    site = _Site(num_hosts, hosts)
    hub = site.node("switch", "switch", 2)
    for host in site.hosts:
        site.cable(host, hub, hosts.out, hosts.latency)
    return site.network(name)


@dataclass(frozen=True)
class Tree:
    """The switches of a fat-tree (Leiserson, 1985; in its folded Clos form, Al-Fares et al., 2008)."""

    leaf: int
    """Hosts on each leaf switch."""
    oversubscription: float = 1.0
    """What the hosts of a leaf switch could send over what its uplinks carry: 1 is never too little."""
    spines: int | None = None
    """Uplinks of a leaf switch, each to a spine of its own; without a word ``leaf / oversubscription``, at
    least 1. Their bandwidth follows, so that the oversubscription is exact."""
    pod: int | None = None
    """Leaf switches in a pod, for a third level above the spines; without a word there are two levels."""
    core_oversubscription: float = 1.0
    """The same of a spine of a pod and its uplinks to the core."""

    def __post_init__(self) -> None:
        for name in ("leaf", "spines", "pod"):
            if (given := getattr(self, name)) is not None and given < 1:
                raise UsageError(f"network: {name} is {given}; it must be at least 1")
        for name in ("oversubscription", "core_oversubscription"):
            if getattr(self, name) <= 0:
                raise UsageError(f"network: {name} is {getattr(self, name):g}; it must be above 0")

    @property
    def num_spines(self) -> int:
        """Uplinks of a leaf switch."""
        return self.spines if self.spines is not None else max(1, int(self.leaf / self.oversubscription))


def fat_tree(
    num_hosts: int, hosts: Hosts, tree: Tree, spread: Spread = "destination", name: str = "fat-tree"
) -> Network:
    """Leaf switches, joined by spines; with pods also a core above: two or three levels."""
    site = _Site(num_hosts, hosts)
    num_leaves = ceil(num_hosts / tree.leaf)
    leaf_of = [host // tree.leaf for host in range(num_hosts)]
    leaves = [site.node(f"leaf{number}", "switch", 2) for number in range(num_leaves)]
    for number, host in enumerate(site.hosts):
        site.cable(host, leaves[leaf_of[number]], hosts.out, hosts.latency)
    spines = tree.num_spines
    up = tree.leaf * hosts.out / tree.oversubscription
    pod = tree.pod or num_leaves
    pods = ceil(num_leaves / pod)
    above: list[list[int]] = []
    for group in range(pods if num_leaves > 1 else 0):
        stem = f"pod{group}.spine" if pods > 1 else "spine"
        above.append([site.node(f"{stem}{number}", "switch", 3) for number in range(spines)])
        for leaf in leaves[group * pod : (group + 1) * pod]:
            for spine in above[-1]:
                site.cable(leaf, spine, up / spines, hosts.latency)
    if pods > 1:
        cores = max(1, int(pod / tree.core_oversubscription))
        through = pod * up / spines / tree.core_oversubscription / cores
        for place in range(spines):
            core = [site.node(f"core{place}.{number}", "switch", 4) for number in range(cores)]
            for spines_of_pod in above:
                for top in core:
                    site.cable(spines_of_pod[place], top, through, hosts.latency)
    return site.network(name, leaf_of, spread)


@dataclass(frozen=True)
class Dragonfly:
    """Groups of routers, all joined to all inside; one cable between any two groups (Kim et al., 2008)."""

    routers: int
    """Routers of a group."""
    per_router: int
    """Hosts on a router."""
    local: float
    """Bytes a second between two routers of a group, each way."""
    between: float
    """Bytes a second between two groups, each way."""

    def __post_init__(self) -> None:
        for name in ("routers", "per_router", "local", "between"):
            if getattr(self, name) <= 0:
                raise UsageError(f"network: {name} is {getattr(self, name):g}; it must be above 0")


def dragonfly(num_hosts: int, hosts: Hosts, fly: Dragonfly, name: str = "dragonfly") -> Network:
    """Groups as many as the hosts need; messages take the shortest way, over one group-to-group cable."""
    site = _Site(num_hosts, hosts)
    router_of = [host // fly.per_router for host in range(num_hosts)]
    groups = ceil((router_of[-1] + 1) / fly.routers)
    routers = [
        [site.node(f"group{group}.router{number}", "switch", 2) for number in range(fly.routers)]
        for group in range(groups)
    ]
    for number, host in enumerate(site.hosts):
        group, place = divmod(router_of[number], fly.routers)
        site.cable(host, routers[group][place], hosts.out, hosts.latency)
    for own in routers:
        for number, one in enumerate(own):
            for other in own[number + 1 :]:
                site.cable(one, other, fly.local, hosts.latency)
    each = ceil((groups - 1) / fly.routers)  # cables to other groups on one router
    for one_group in range(groups):
        for port in range(groups - 1):  # port q leads to the group q + 1 further; its other end is port g-2-q
            other_group = (one_group + port + 1) % groups
            if one_group < other_group:
                one = routers[one_group][port // each]
                other = routers[other_group][(groups - 2 - port) // each]
                site.cable(one, other, fly.between, hosts.latency)
    return site.network(name, router_of)

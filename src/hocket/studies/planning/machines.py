"""What a plan is made for: this machine, another one's profile, or hardware from the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hocket.core.errors import UsageError
from hocket.hardware import catalogue, host, profile
from hocket.hardware.device import choose_device
from hocket.hardware.probing import ProbeSettings, default_workers, probe
from hocket.hardware.profile import MachineProfile
from hocket.parallel.precision import Precision
from hocket.planning import calibrating, calibration
from hocket.planning.candidate import Cluster, Crowding
from hocket.planning.fabric import AlphaBeta, Fabric, Line, Operation, Table
from hocket.planning.network import spec
from hocket.planning.network.routing import Network
from hocket.planning.network.spec import Spec
from hocket.planning.nominal import ACCELERATOR, PROCESSOR, rates_of
from hocket.planning.on_network import OnNetwork
from hocket.planning.rates import Rates
from hocket.planning.scaling import MOST
from hocket.studies.planning import ledger

Told = Callable[[str, int, int], None]
"""Hears what is being done (``work: detail``), how many parts of it are done, and how many there are."""

MACHINE = "machine.json"
"""This machine's profile, in the folder of what was measured."""

_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
_PEAKS = (*_PRECISIONS, "int8")
_CATALOGUED = re.compile(r"(?P<name>.+):(?P<nodes>\d+)x(?P<devices>\d+)")
_WORKER_BYTES = {"cpu": 0.45e9, "cuda": 1.5e9}
"""What a worker takes beside tensors: Python, torch, kernels; on a GPU its context and workspaces."""
_PCIE, _BETWEEN = Line(1e-5, 12e9), Line(2e-5, 12.5e9)
"""Where nobody says: devices of a host over PCIe 3.0, hosts over 100 Gbit/s."""
_SWITCH = "switch:link=100Gbit,latency=5us"
"""The same as a topology, to place ranks on and to draw."""
_INSIDE_LATENCY = 8e-6
_MOST_WITH_TOPOLOGY = 1024
_PROBE_SECONDS = 40.0
_YEARS = 3
"""Over which a bought device is written off; it runs all the time."""
_HOST_WATTS_SHARE = 1.35
"""A device's share of the host's fans, processors and power supplies on top of its own power."""


@dataclass(frozen=True)
class Ground:
    """What a plan stands on."""

    cluster: Cluster
    notes: tuple[str, ...]
    """What was assumed, and where figures are from."""
    network: Network | None = None
    """The topology: the one that was given, or where hosts of the catalogue have none, a switch."""
    asked: Spec | None = None
    """How it was asked for: more of the same kind can be had."""

    @property
    def most(self) -> int:
        """Devices at the end of a scaling curve."""
        return MOST if self.asked is None else _MOST_WITH_TOPOLOGY

    def grow(self, num_hosts: int) -> Cluster:
        """The cluster with so many hosts, on a network of the same kind."""
        fabric = self.cluster.fabric
        if self.asked is not None:
            fabric = OnNetwork(self.asked.with_hosts(num_hosts, self.cluster.per_host).build())
        return replace(self.cluster, num_hosts=num_hosts, fabric=fabric)


def ground_for(
    hardware: str | None,
    network: str | None,
    *,
    cache: Path,
    device: str = "auto",
    threads: int = 1,
    again: bool = False,
    told: Told = lambda what, done, of: None,
) -> Ground:
    """What ``--hardware`` and ``--network`` mean, for training.

    ``hardware`` is None for this machine, a file of ``hocket probe``, or ``NAME:NODESxDEVICES`` with a name
    from the catalogue. ``cache`` is a folder that keeps what was measured of this machine; ``again`` measures
    anew. Raises :class:`UsageError` for what is not known.
    """
    if hardware is None:
        return _here(None, network, cache, device, threads, again, told)
    path = Path(hardware)
    if path.suffix == ".json" or path.is_file():
        found = profile.read(path)
        if is_here(found):
            return _here(found, network, cache, device, threads, again, told)
        return elsewhere(found, network)
    return catalogued(hardware, network)


def _here(
    known: MachineProfile | None,
    network: str | None,
    cache: Path,
    device: str,
    threads: int,
    again: bool,
    told: Told,
) -> Ground:
    kind = choose_device(device).type
    known = known_here(known, cache, again, told)
    file = rates_file(cache, kind, threads)
    if again or not file.exists():
        calibrating.measure(file, kind, threads, of_rates(told))
    measured = calibration.read(file)
    if measured.machine.get("cpu") != known.host.cpu or measured.machine.get("torch") != known.host.torch:
        calibrating.measure(file, kind, threads, of_rates(told))
        measured = calibration.read(file)
    notes = [
        f"rates of this machine: {file}, measured by running small models; over those runs they are "
        f"right to {100 * measured.rates.spread:.0f} % in the median",
        *known.notes,
        *again_if_noisy(known),
    ]
    if network is None:
        notes.append("the curve over more hosts than this one takes 100 Gbit/s and 20 us between them")
    rates, corrections = ledger.corrected(measured.rates, kind, cache)
    return of_profile(known, rates, kind, threads, network, [*notes, *corrections])


def known_here(known: MachineProfile | None, cache: Path, again: bool, told: Told) -> MachineProfile:
    """This machine's profile: the one at hand, the one that ``cache`` keeps, or a new one."""
    stored = cache / MACHINE
    if known is None and stored.exists() and not again:
        known = profile.read(stored)
    if known is None or not is_here(known):
        cache.mkdir(parents=True, exist_ok=True)
        settings = ProbeSettings(workers=default_workers(), folder=cache, seconds=_PROBE_SECONDS)
        known = probe(settings, lambda what, done, of, note: told(f"{what}: {note}", done, of or done + 1))
        known.write(stored)
    return known


def again_if_noisy(known: MachineProfile) -> list[str]:
    """What to do about rates that were measured beside other work."""
    return ["--calibrate measures again: do so when nothing else runs"] if known.noise.noisy else []


def of_rates(told: Told) -> Told:
    """Tells ``told`` what a measurement of rates is at."""
    return lambda what, done, of: told(f"rates of this machine: {what}", done, of)


def rates_file(cache: Path, device: str, threads: int) -> Path:
    """Where the rates of this machine's devices are kept."""
    return cache / f"rates-{device}-{threads}.json"


def elsewhere(known: MachineProfile, network: str | None = None) -> Ground:
    """From a profile alone: what its products and its memory reach, and efficiencies."""
    own = known.device
    kind = "cpu" if own.kind == "cpu" else "cuda"
    flops: dict[Precision, float] = {}
    for precision in _PRECISIONS:
        rate = own.rate(precision)
        if rate is not None:
            flops[precision] = rate.alone.median
    bandwidth = own.memory_bandwidth.median if own.memory_bandwidth else known.memory.bandwidth_one.median
    efficiency = PROCESSOR if kind == "cpu" else replace(ACCELERATOR, products=0.7)
    notes = [
        f"{own.name}: another machine's profile: its measured rates of products and memory at "
        f"{100 * efficiency.products:.0f} % and {100 * efficiency.memory:.0f} %",
        *known.notes,
    ]
    return of_profile(known, rates_of(flops, bandwidth, efficiency), kind, 1, network, notes)


def of_profile(
    known: MachineProfile, rates: Rates, kind: str, threads: int, network: str | None, notes: Sequence[str]
) -> Ground:
    """Hosts like the profile's, whose devices have these ``rates``."""
    own = known.device
    per_host = max(1, own.count // threads) if kind == "cpu" else own.count
    tables: dict[tuple[Operation, int], Table] = {}
    for each in known.collectives:
        tables[each.operation, each.world_size] = each
        if each.operation == "all_reduce":  # a ring's halves take half of it each
            tables["reduce_scatter", each.world_size] = _Halved(each)
    p2p = known.collective("p2p", 2)
    inside = Line(p2p.alpha, 1 / p2p.beta) if p2p is not None and p2p.beta > 0 else _PCIE
    fabric: Fabric = AlphaBeta("measured in this host", per_host, inside, _BETWEEN, tables)
    num_hosts, topology, asked = 1, None, None
    if network is not None:
        asked = _network(network, None, per_host, inside)
        topology = asked.build()
        fabric, num_hosts = OnNetwork(topology), topology.num_devices // per_host
    parts = own.count if kind == "cpu" else 1  # the price of a processor is that of all its cores
    products = own.rate("fp32")
    slower = products.alone.median / products.together.median if products is not None else 1.0
    memory = known.memory
    shared = memory.bandwidth_one.median * memory.workers / memory.bandwidth_all.median
    cluster = Cluster(
        name=f"{own.name}, {per_host} of them" if num_hosts == 1 else f"{num_hosts} hosts with {own.name}",
        rates=rates,
        fabric=fabric,
        per_host=per_host,
        num_hosts=num_hosts,
        device=kind,
        memory_bytes=own.memory_bytes / (per_host if kind == "cpu" else 1),
        base_bytes=_WORKER_BYTES[kind],
        crowding=Crowding(max(1.0, slower), max(1.0, shared)),
        host_bytes_per_second=inside.bandwidth if kind == "cpu" else None,
        watts=own.power_watts,
        price_per_hour=None if own.price is None else _an_hour(own.price.usd, own.price.per) / parts,
        peaks={
            **{dtype: rate.alone.median for dtype in _PEAKS if (rate := own.rate(dtype)) is not None},
            "memory": (own.memory_bandwidth or memory.bandwidth_one).median,
        },
    )
    return Ground(cluster, tuple(notes), topology, asked)


@dataclass(frozen=True)
class _Halved:
    table: Table

    def seconds(self, num_bytes: float) -> float:
        """Half of what the whole takes."""
        return self.table.seconds(num_bytes) / 2


def catalogued(text: str, network: str | None = None, job: str = "training") -> Ground:
    """``NAME:NODESxDEVICES`` of the catalogue, for a ``job`` that is named where a card cannot do it."""
    found = _CATALOGUED.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"--hardware {text}: neither a file nor NAME:NODESxDEVICES",
            "As in --hardware H100-SXM:4x8 for four nodes of eight, or a file that `hocket probe` wrote.",
        )
    nodes, devices = int(found["nodes"]), int(found["devices"])
    if nodes < 1 or devices < 1:
        raise UsageError(f"--hardware {text}: {nodes} nodes of {devices} devices", "Both start at 1.")
    card = catalogue.find(found["name"])
    if nodes * devices * (card.cores or 1) > spec.MOST_DEVICES:
        raise UsageError(
            f"--hardware {text}: more than {spec.MOST_DEVICES:,} devices or cores are not planned"
        )
    if card.kind not in ("cpu", "gpu"):
        raise UsageError(
            f"--hardware {card.name}: {job} runs on CPUs and GPUs, and this is of kind {card.kind}",
            f"How an exported model gets there: {card.path.how}",
        )
    if card.memory_bandwidth is None:
        raise UsageError(f"--hardware {card.name}: its memory's bandwidth is not published")
    flops: dict[Precision, float] = {}
    for precision in _PRECISIONS:
        rate = card.rate(precision)
        if rate is not None:
            flops[precision] = rate
    if "fp32" not in flops:
        raise UsageError(f"--hardware {card.name}: no rate in fp32 is published")
    kind, per_host = ("cpu", devices * (card.cores or 1)) if card.kind == "cpu" else ("cuda", devices)
    parts = card.cores or 1 if card.kind == "cpu" else 1
    efficiency = PROCESSOR if kind == "cpu" else ACCELERATOR
    rates = rates_of(
        {name: rate / parts for name, rate in flops.items()}, card.memory_bandwidth.value / parts, efficiency
    )
    fastest = max((link.bytes_per_second.value for link in card.links), default=_PCIE.bandwidth)
    inside = Line(_INSIDE_LATENCY, fastest)
    notes = [
        f"{card.name}: the maker's figures ({card.memory_bytes.source.url}); products are taken to reach "
        f"{100 * efficiency.products:.0f} % of the peak, passes {100 * efficiency.memory:.0f} % of the "
        "bandwidth"
    ]
    topology: Network | None = None
    asked = None
    if network is None:
        fabric: Fabric = AlphaBeta("100 Gbit/s between hosts", per_host, inside, _BETWEEN)
        if nodes > 1:
            topology = _network(_SWITCH, nodes, per_host, inside).build()
            notes.append(
                "no --network was given: one switch is assumed, with 100 Gbit/s and 20 us between hosts"
            )
    else:
        asked = _network(network, nodes, per_host, inside)
        topology = asked.build()
        fabric = OnNetwork(topology)
        if topology.num_devices != nodes * per_host:
            raise UsageError(
                f"--network {network}: {topology.num_devices} devices, and the hardware has "
                f"{nodes * per_host}",
                "Leave out hosts, shape and devices, or make them agree.",
            )
    if "bf16" not in card.rates:
        notes.append(f"{card.name} does not compute in bf16: it is taken to be as fast there as in fp32")
    price = card.prices[0] if card.prices else None
    if price is not None and price.per == "unit":
        notes.append(
            f"${price.usd:,.0f} ({price.date}) written off over {_YEARS} years of running all the time"
        )
    cluster = Cluster(
        name=f"{nodes} x {devices} {card.name}",
        rates=rates,
        fabric=fabric,
        per_host=per_host,
        num_hosts=nodes,
        device=kind,
        memory_bytes=card.memory_bytes.value / parts,
        base_bytes=_WORKER_BYTES[kind],
        host_bytes_per_second=inside.bandwidth if kind == "cpu" else None,
        watts=None if card.power_watts is None else card.power_watts.value / parts * _HOST_WATTS_SHARE,
        price_per_hour=None if price is None else _an_hour(price.usd, price.per) / parts,
        peaks={
            **{dtype: rate / parts for dtype in _PEAKS if (rate := card.rate(dtype)) is not None},
            "memory": card.memory_bandwidth.value / parts,
        },
    )
    return Ground(cluster, tuple(notes), topology, asked)


def _network(text: str, hosts: int | None, per_host: int, inside: Line) -> Spec:
    """The kind of network that a text describes, with this hardware's hosts where it does not say."""
    asked = spec.parse(text)
    if hosts is not None and not {"shape", "hosts"} & set(asked.given):
        asked = asked.with_hosts(hosts, None if "devices" in asked.given else per_host)
    given = {"devices": per_host, **asked.given}
    if given["devices"] > 1:
        given = {"inside": inside.bandwidth, "inside_latency": inside.latency, **given}
    return replace(asked, given=given)


def _an_hour(usd: float, per: str) -> float:
    return usd if per == "hour" else usd / (_YEARS * 365 * 24)


def is_here(known: MachineProfile) -> bool:
    """True for the profile of this machine, as it is now."""
    own = host.describe()
    return (known.host.cpu, known.host.cores, known.host.torch) == (own.cpu, own.cores, own.torch)

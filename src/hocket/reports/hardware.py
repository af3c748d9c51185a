"""A machine's profile, the catalogue and cards, and checks of exports against cards, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hocket.hardware.card_check import CardCheck
from hocket.hardware.catalogue import Card, Published
from hocket.hardware.profile import Device, Figure, MachineProfile
from hocket.reports.axes import duration, number
from hocket.reports.tables import Row, facts

_SCALES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SHOWN_RATES = ("fp32", "bf16", "fp16", "fp8", "int8")


def scaled(value: float, unit: str) -> str:
    """``3.35e12``, ``B/s`` as ``3.35 TB/s``."""
    for size, letter in _SCALES:
        if abs(value) >= size:
            return f"{number(value / size)} {letter}{unit}"
    return f"{number(value)} {unit}"


def measured(figure: Figure, unit: str) -> str:
    """A median and what it may be off by."""
    return f"{scaled(figure.median, unit)} ±{100 * figure.spread:.0f} %"


def profile(found: MachineProfile) -> RenderableType:
    """What a probe measured."""
    host, memory = found.host, found.memory
    caches = ", ".join(
        f"{cache.count} x {cache.num_bytes / 2**20:.3g} MiB L{cache.level} {cache.kind}"
        for cache in host.caches
    )
    rows: list[Row] = [
        ("processor", f"{host.cpu}, {host.cores} cores, {len(host.numa_nodes)} NUMA node(s)"),
        ("caches", caches or None),
        ("vector units", ", ".join(host.vector_units) or None),
        ("memory", f"{memory.num_bytes / 1e9:.3g} GB"),
        ("its bandwidth", f"{measured(memory.bandwidth_one, 'B/s')} for one process"),
        ("", f"{measured(memory.bandwidth_all, 'B/s')} for {memory.workers} together"),
        ("measured", f"{found.rounds} rounds in {duration(found.took_seconds)}, {found.workers} workers"),
        ("noise", f"the same product within ±{100 * found.noise.reference.spread:.0f} %"),
        *(("note", note) for note in found.notes),
    ]
    parts: list[RenderableType] = [facts(rows, "machine")]
    parts += [_device(device) for device in found.devices]
    parts += [_messages(found)] if found.collectives else []
    parts.append(_storage(found))
    return Group(*parts)


def _device(device: Device) -> Table:
    extra = [f"{device.count} of them", f"{device.memory_bytes / 1e9:.3g} GB"]
    if device.memory_bandwidth is not None:
        extra.append(measured(device.memory_bandwidth, "B/s"))
    extra += [f"{link.name} {scaled(link.bytes_per_second, 'B/s')}" for link in device.links]
    if device.power_watts is not None:
        extra.append(f"{device.power_watts:.0f} W")
    table = Table(title=f"{device.name}: {', '.join(extra)}", title_justify="left", title_style="bold")
    for column in ("products", "shape", "dtype", "alone", "all at once"):
        table.add_column(column, justify="left" if column in ("products", "shape", "dtype") else "right")
    for rate in device.products:
        shape = " x ".join(str(side) for side in rate.shape)
        unit = "OP/s" if rate.dtype == "int8" else "FLOP/s"
        table.add_row(rate.name, shape, rate.dtype, measured(rate.alone, unit), measured(rate.together, unit))
    return table


def _messages(found: MachineProfile) -> Table:
    table = Table(title="between workers", title_justify="left", title_style="bold")
    columns = ("operation", "workers", "latency", "1 MiB", "largest", "line's worst error")
    for column in columns:
        table.add_column(column, justify="left" if column == "operation" else "right")
    for each in found.collectives:
        last = each.timings[-1]
        table.add_row(
            each.operation,
            str(each.world_size),
            f"{1e3 * each.timings[0].seconds.median:.2g} ms",
            scaled(2**20 / each.seconds(2**20), "B/s"),
            f"{scaled(last.num_bytes / last.seconds.median, 'B/s')} at {last.num_bytes / 2**20:.3g} MiB",
            f"{100 * each.worst_error:.0f} %",
        )
    return table


def _storage(found: MachineProfile) -> Table:
    storage = found.storage
    title = f"storage: {storage.file_system}, cold by {storage.cold_by}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("reads", "readers", "of", "rate", "reads a second"):
        table.add_column(column, justify="left" if column == "reads" else "right")
    for rate in storage.rates:
        table.add_row(
            f"{rate.pattern}, {rate.cache}",
            str(rate.readers),
            f"{rate.request_bytes // 1024} KiB",
            measured(rate.bytes_per_second, "B/s"),
            f"{rate.bytes_per_second.median / rate.request_bytes:,.0f}",
        )
    return table


def catalogue(cards: Iterable[Card]) -> Table:
    """All cards, a line each."""
    table = Table(title="published hardware, dense rates in TFLOP/s (int8: TOP/s)", title_justify="left")
    table.add_column("name")
    table.add_column("kind")
    table.add_column("year", justify="right")
    for column in (*_SHOWN_RATES, "memory GB", "GB/s", "watts", "price"):
        table.add_column(column, justify="right")
    for card in cards:
        rates = [_tera(card.rates.get(dtype)) for dtype in _SHOWN_RATES]
        bandwidth = "" if card.memory_bandwidth is None else f"{card.memory_bandwidth.value / 1e9:,.0f}"
        watts = "" if card.power_watts is None else f"{card.power_watts.value:,.0f}"
        memory = number(card.memory_bytes.value / 1e9)
        table.add_row(card.name, card.kind, str(card.year), *rates, memory, bandwidth, watts, _price(card))
    return table


def _price(card: Card) -> str:
    """The first that is published; an hour's where it is rented."""
    if not card.prices:
        return ""
    price = card.prices[0]
    return f"${price.usd:,.0f}" if price.per == "unit" else f"${price.usd:,.2f}/{price.per}"


def _tera(rate: Published | None) -> str:
    return "" if rate is None else number(rate.value / 1e12)


def card(found: Card) -> RenderableType:
    """One card, each figure with its source."""
    table = Table(title=f"{found.name} ({found.kind}, {found.maker}, {found.year})", title_justify="left")
    for column in ("figure", "value", "published in", "read in"):
        table.add_column(column, overflow="fold", justify="right" if column == "value" else "left")
    for name, figure in found.figures():
        value = scaled(figure.value, _unit(name))
        seen = Text("not looked up", style="dim") if figure.seen is None else Text(figure.seen.url)
        table.add_row(name, value, f"{figure.source.title}\n{figure.source.url}", seen)
    for price in found.prices:
        what = f"price, {price.per}, {price.date}"
        seen = Text("not looked up", style="dim") if price.seen is None else Text(price.seen.url)
        table.add_row(what, f"{price.usd:,.2f} USD", f"{price.source.title}\n{price.source.url}", seen)
    path = found.path
    rows: list[Row] = [
        ("also called", ", ".join(found.aliases) or None),
        ("a model gets there", path.how),
        ("reads", {"torch": "torch modules", "onnx": "ONNX", "nothing": "no exported model"}[path.takes]),
        ("computes in", ", ".join(path.dtypes)),
        (
            "int8",
            {"no": None, "dynamic": "scales found anew from each input", "static": "fixed scales"}[
                path.quantised
            ],
        ),
        ("shapes", "fixed when compiled" if path.fixed_shapes else "may vary"),
        ("operators", ", ".join(path.operators) if path.operators else None),
        ("says", f"{path.source.title} {path.source.url}"),
        ("note", found.note or None),
    ]
    return Group(table, facts(rows))


def _unit(name: str) -> str:
    if name.startswith("rate"):
        return "OP/s" if name.endswith("int8") else "FLOP/s"
    return {"memory": "B", "power": "W"}.get(name, "B/s")


def checks(found: Sequence[CardCheck]) -> RenderableType:
    """Exported files beside a card."""
    parts: list[RenderableType] = []
    for check in found:
        verdict = "nothing stands against it" if check.fits else "does not fit as it is"
        title = f"{check.file} on {check.card}: {verdict}"
        says = {True: "fits", False: "does not", None: "depends"}
        rows: list[Row] = [
            (finding.topic, f"{says[finding.fits]}: {finding.text}") for finding in check.findings
        ]
        parts.append(facts([*rows, ("how", check.how)], title))
    return Group(*parts)

"""Reading the catalogue's files, strictly, and finding cards by name."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hocket.core import recipe as recipes
from hocket.core.errors import UsageError
from hocket.core.recipe import Section
from hocket.hardware.catalogue.facts import Card, CardLink, CardPrice, ModelPath, Published, Source
from hocket.hardware.profile import Kind

FILES = Path(__file__).parent
_Positive = Annotated[float, Field(gt=0)]
_Field = Literal["tera", "memory", "bandwidth", "links", "watts"]
_NEAR = 3


class _Source(Section):
    title: str
    url: str = Field(pattern=r"^https?://")


class _Link(Section):
    name: str
    gb: _Positive
    """10^9 bytes a second, one direction, all together."""


class _Price(Section):
    usd: _Positive
    per: Literal["unit", "hour"] = "unit"
    date: str = Field(pattern=r"^\d{4}(-\d{2})?$")
    source: str
    seen: str | None = None


class _Cpu(Section):
    """A processor's rates follow from its cores: cores x GHz x operations a cycle and core."""

    cores: int = Field(gt=0)
    ghz: _Positive
    """The base clock, which all cores hold."""
    per_cycle: dict[str, _Positive]


class _Card(Section):
    name: str
    aliases: tuple[str, ...] = ()
    maker: str
    kind: Kind
    year: int = Field(ge=2010, le=2030)
    source: str
    sources: dict[_Field, str] = Field(default_factory=dict)
    """Figures that come from elsewhere."""
    seen: str | dict[_Field, str] = Field(default_factory=dict)
    """Where figures were read: one page for all, or by figure; those not named were not looked up."""
    tera: dict[str, _Positive] = Field(default_factory=dict)
    """10^12 operations a second by dtype, dense."""
    cpu: _Cpu | None = None
    memory_gib: _Positive
    bandwidth_gb: _Positive | None = None
    links: tuple[_Link, ...] = ()
    watts: _Positive | None = None
    prices: tuple[_Price, ...] = ()
    path: str
    note: str = ""


class _Path(Section):
    takes: Literal["torch", "onnx", "nothing"]
    how: str
    dtypes: tuple[str, ...]
    quantised: Literal["no", "dynamic", "static"] = "no"
    fixed_shapes: bool = False
    most_opset: int | None = None
    operators: tuple[str, ...] | None = None
    rest: Literal["host", "refused"] = "refused"
    source: str
    seen: str | None = None


class _File(Section):
    sources: dict[str, _Source]
    paths: dict[str, _Path] = Field(default_factory=dict)
    cards: tuple[_Card, ...] = ()


@functools.cache
def cards() -> tuple[Card, ...]:
    """The whole catalogue: CPUs, GPUs, TPUs, other ASICs, FPGA cards, as its files list them."""
    found: list[Card] = []
    for path in sorted(FILES.glob("*.yaml")):
        file = recipes.load(path, _File)
        sources = {name: Source(one.title, one.url) for name, one in file.sources.items()}
        paths = {name: _path(name, one, sources) for name, one in file.paths.items()}
        found += [_card(card, sources, paths) for card in file.cards]
    return tuple(sorted(found, key=lambda card: _KINDS.index(card.kind)))


_KINDS = ("cpu", "gpu", "tpu", "asic", "fpga")


def find(name: str) -> Card:
    """The card of a name or alias; case, spaces and hyphens do not matter, and the maker may be left out.

    Raises :class:`UsageError` for one that is not there, with the names nearest to it.
    """
    wanted = _plain(name)
    names: dict[str, str] = {}
    for card in cards():
        for own in (card.name, *card.aliases):
            if wanted and _plain(own) in (wanted, _plain(card.maker) + wanted):
                return card
            names[_plain(own)] = card.name
    near = [names[each] for each in names if wanted and wanted in each]
    near += [names[each] for each in difflib.get_close_matches(wanted, names, n=_NEAR, cutoff=0.5)]
    several = list(dict.fromkeys(near))[:_NEAR]
    hint = f"Nearest: {', '.join(several)}." if several else "hocket hardware lists all."
    raise UsageError(f"hardware: {name!r} is not in the catalogue", hint)


def recognise(reported: str) -> Card | None:
    """The card whose name stands, word for word, in what a driver or system reports; the longest such."""
    text = _words(reported)
    best: tuple[int, Card] | None = None
    for card in cards():
        for own in (card.name, *card.aliases):
            words = _words(own)
            size = len(words)
            inside = any(text[start : start + size] == words for start in range(len(text) - size + 1))
            if inside and (best is None or len("".join(words)) > best[0]):
                best = (len("".join(words)), card)
    return None if best is None else best[1]


def _plain(name: str) -> str:
    return "".join(_words(name))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)|[®™]", "", name.lower()))


def _path(name: str, path: _Path, sources: Mapping[str, Source]) -> ModelPath:
    return ModelPath(
        name=name,
        takes=path.takes,
        how=path.how,
        dtypes=path.dtypes,
        quantised=path.quantised,
        fixed_shapes=path.fixed_shapes,
        most_opset=path.most_opset,
        operators=path.operators,
        rest=path.rest,
        source=sources[path.source],
        seen=None if path.seen is None else sources[path.seen],
    )


def _card(card: _Card, sources: Mapping[str, Source], paths: Mapping[str, ModelPath]) -> Card:
    def published(field: _Field, value: float) -> Published:
        seen = card.seen if isinstance(card.seen, str) else card.seen.get(field)
        source = sources[card.sources.get(field, card.source)]
        return Published(value, source, None if seen is None else sources[seen])

    tera = dict(card.tera)
    if card.cpu is not None:
        a_cycle = card.cpu.cores * card.cpu.ghz / 1e3
        tera |= {dtype: each * a_cycle for dtype, each in card.cpu.per_cycle.items()}
    return Card(
        name=card.name,
        aliases=card.aliases,
        maker=card.maker,
        kind=card.kind,
        year=card.year,
        rates={dtype: published("tera", rate * 1e12) for dtype, rate in tera.items()},
        memory_bytes=published("memory", card.memory_gib * 2**30),
        memory_bandwidth=(
            None if card.bandwidth_gb is None else published("bandwidth", card.bandwidth_gb * 1e9)
        ),
        links=tuple(CardLink(link.name, published("links", link.gb * 1e9)) for link in card.links),
        power_watts=None if card.watts is None else published("watts", card.watts),
        prices=tuple(
            CardPrice(
                price.usd,
                price.per,
                price.date,
                sources[price.source],
                None if price.seen is None else sources[price.seen],
            )
            for price in card.prices
        ),
        path=paths[card.path],
        cores=None if card.cpu is None else card.cpu.cores,
        note=card.note,
    )

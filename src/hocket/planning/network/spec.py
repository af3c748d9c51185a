"""Networks as people write them: ``fat-tree:hosts=64,leaf=16,oversubscription=4,link=100Gbit,latency=5us``.

A kind, then ``key=value`` with commas between. Rates are in bits (``100Gbit``) or bytes (``12.5GB``) a
second, ``/s`` or not; times in ``ns``, ``us``, ``ms`` or ``s``. ``KINDS`` says what a kind takes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from hocket.core.errors import UsageError
from hocket.planning.network import topologies as made
from hocket.planning.network.routing import Network

MOST_DEVICES = 1 << 16

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(bit|b)(?:/s|ps)?", re.IGNORECASE)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s)")
_TIMES = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_THOUSANDS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("give a whole number of 1 and more")
    return int(text)


def _ratio(text: str) -> float:
    number = text.removesuffix(":1")
    if not re.fullmatch(r"\d+(?:\.\d+)?", number) or float(number) <= 0:
        raise ValueError("give a number above 0, as 4 or 4:1")
    return float(number)


def _rate(text: str) -> float:
    """Bytes a second: 100Gbit, 12.5GB, 300GB/s."""
    found = _RATE.fullmatch(text)
    if found is None or float(found[1]) <= 0:
        raise ValueError("give a rate above 0, as 100Gbit or 12.5GB")
    bits = found[3].lower() == "bit"
    if not bits and found[3] != "B":
        raise ValueError("write bit or B: a small b could be either")
    return float(found[1]) * _THOUSANDS[found[2].lower()] / (8 if bits else 1)


def _time(text: str) -> float:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("give a time of 0 and more, as 5us or 1ms")
    return float(found[1]) * _TIMES[found[2]]


def _shape(text: str) -> tuple[int, ...]:
    degrees = text.lower().split("x")
    if not 1 <= len(degrees) <= 3:
        raise ValueError("give 1 to 3 axes, as 8x8 or 4x4x4")
    return tuple(_count(degree) for degree in degrees)


def _spread(text: str) -> str:
    if text not in ("destination", "hash"):
        raise ValueError("give destination or hash")
    return text


Keys = Mapping[str, Callable[[str], Any]]

_HOSTS: Keys = {
    "hosts": _count,
    "link": _rate,
    "latency": _time,
    "devices": _count,
    "nics": _count,
    "inside": _rate,
    "inside_latency": _time,
}
KINDS: Mapping[str, Keys] = {
    "ring": _HOSTS,
    "switch": _HOSTS,
    "islands": _HOSTS,
    "torus": {**_HOSTS, "shape": _shape, "axes": _count},
    "fat-tree": {
        **_HOSTS,
        "leaf": _count,
        "oversubscription": _ratio,
        "spines": _count,
        "pod": _count,
        "core_oversubscription": _ratio,
        "spread": _spread,
    },
    "dragonfly": {**_HOSTS, "routers": _count, "per_router": _count, "local": _rate, "between": _rate},
}
"""Keys of each kind of network, and how their text is read."""

_NEEDED = {"fat-tree": ("leaf",), "dragonfly": ("routers", "per_router"), "islands": ("devices", "inside")}


@dataclass(frozen=True)
class Spec:
    """A network that was asked for; of any number of hosts where its text names none."""

    text: str
    kind: str
    given: Mapping[str, Any]

    def with_hosts(self, hosts: int, devices: int | None = None) -> Spec:
        """The same kind of network for other numbers of hosts, and of devices in each."""
        given = {key: value for key, value in self.given.items() if key != "shape"}
        if "shape" in self.given:
            given["axes"] = len(self.given["shape"])
        given["hosts"] = hosts
        if devices is not None:
            given["devices"] = devices
        return replace(self, given=given)

    def build(self) -> Network:
        """The network. Raises :class:`UsageError` for what is missing or does not go together."""
        given = dict(self.given)
        shape = self._torus_shape(given) if self.kind == "torus" else ()
        num_hosts = prod(shape) if shape else given.get("hosts")
        if num_hosts is None:
            raise self._wrong("hosts is missing", "Say how many there are: hosts=16.")
        for key in ("link", *_NEEDED.get(self.kind, ())):
            if key not in given:
                raise self._wrong(f"{key} is missing", f"As in {EXAMPLES[self.kind]}")
        devices = given.get("devices", 1)
        if devices > 1 and "inside" not in given:
            raise self._wrong(
                f"{devices} devices in a host, but no rate between them", "Add inside=, as inside=300GB."
            )
        if self.kind == "islands" and devices < 2:
            raise self._wrong(
                "an island has at least 2 devices", "A plain switch has hosts of one: switch:..."
            )
        if num_hosts * devices > MOST_DEVICES:
            raise self._wrong(f"{num_hosts * devices} devices; at most {MOST_DEVICES} can be planned")
        fields = {key: given[key] for key in _HOSTS if key in given and key != "hosts"}
        return self._make(num_hosts, made.Hosts(**fields), shape, given)

    def _make(
        self, num_hosts: int, hosts: made.Hosts, shape: tuple[int, ...], given: dict[str, Any]
    ) -> Network:
        if self.kind == "ring":
            return made.ring(num_hosts, hosts, self.text)
        if self.kind == "torus":
            return made.torus(shape, hosts, self.text)
        if self.kind == "fat-tree":
            keys = ("leaf", "oversubscription", "spines", "pod", "core_oversubscription")
            tree = made.Tree(**{key: given[key] for key in keys if key in given})
            return made.fat_tree(num_hosts, hosts, tree, given.get("spread", "destination"), self.text)
        if self.kind == "dragonfly":
            local, between = given.get("local", hosts.out), given.get("between", hosts.out)
            fly = made.Dragonfly(given["routers"], given["per_router"], local, between)
            return made.dragonfly(num_hosts, hosts, fly, self.text)
        return made.switch(num_hosts, hosts, self.text)

    def _torus_shape(self, given: dict[str, Any]) -> tuple[int, ...]:
        shape: tuple[int, ...] | None = given.get("shape")
        hosts: int | None = given.get("hosts")
        if shape is not None:
            if hosts is not None and hosts != prod(shape):
                raise self._wrong(f"shape {'x'.join(map(str, shape))} is {prod(shape)} hosts, not {hosts}")
            return shape
        if hosts is None:
            raise self._wrong("shape is missing", "As in " + EXAMPLES["torus"])
        return even_shape(hosts, given.get("axes", 2))

    def _wrong(self, what: str, hint: str = "") -> UsageError:
        return UsageError(f"network {self.text!r}: {what}", hint)


EXAMPLES = {
    "ring": "ring:hosts=8,link=10Gbit",
    "switch": "switch:hosts=8,link=10Gbit,latency=5us",
    "islands": "islands:hosts=4,devices=8,inside=300GB,link=200Gbit,nics=8",
    "torus": "torus:shape=4x4x4,link=100Gbit",
    "fat-tree": "fat-tree:hosts=64,leaf=16,oversubscription=4,link=100Gbit",
    "dragonfly": "dragonfly:hosts=72,routers=4,per_router=2,link=100Gbit",
}
"""One of each kind."""


def parse(text: str) -> Spec:
    """Read a network's text. Raises :class:`UsageError` that says what is odd and what would do."""
    head, _, rest = text.strip().partition(":")
    kind = head.strip().lower()
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(KINDS)}."
        raise UsageError(f"network {text!r}: there is no kind {head.strip()!r}", hint)
    keys = KINDS[kind]
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise UsageError(
                f"network {text!r}: {part!r} is not of the form key=value", "As in " + EXAMPLES[kind]
            )
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}?" if near else f"A {kind} takes: {', '.join(keys)}."
            raise UsageError(f"network {text!r}: unknown key {key!r}", hint)
        if key in given:
            raise UsageError(f"network {text!r}: {key} is given twice")
        try:
            given[key] = keys[key](value)
        except ValueError as error:
            raise UsageError(f"network {text!r}: {key}={value}: {error}") from None
    return Spec(text.strip(), kind, given)


def even_shape(hosts: int, axes: int) -> tuple[int, ...]:
    """The most even shape of so many hosts along 1 to 3 axes, longest first; raises :class:`UsageError`."""
    if not 1 <= axes <= 3:
        raise UsageError(f"network: a torus of {axes} axes; 1 to 3 can be had")
    if axes == 1:
        return (hosts,)
    least = max(degree for degree in range(1, hosts + 1) if degree**axes <= hosts and hosts % degree == 0)
    rest = even_shape(hosts // least, axes - 1)
    return tuple(sorted((*rest, least), reverse=True))

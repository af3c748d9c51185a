"""What the catalogue says of a card, as frozen facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from hocket.hardware.profile import Kind

DTYPES = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4")
"""Names of what rates are given for. Those of 8 bits and less need a model that was quantised."""


@dataclass(frozen=True)
class Source:
    """A page or document."""

    title: str
    url: str


@dataclass(frozen=True)
class Published:
    """A figure, who publishes it, and where it was read."""

    value: float
    source: Source
    """The maker's own page or sheet."""
    seen: Source | None
    """The page on which the figure was read, often another's; None where it was not looked up again."""

    @property
    def checked(self) -> bool:
        """Whether the figure was compared with a page."""
        return self.seen is not None


@dataclass(frozen=True)
class CardLink:
    """A way out of a card."""

    name: str
    bytes_per_second: Published
    """One direction, all lanes or cables of this kind together."""


@dataclass(frozen=True)
class CardPrice:
    """A published price of one card (of a whole processor, for CPUs)."""

    usd: float
    per: Literal["unit", "hour"]
    date: str
    """When it was published: prices move."""
    source: Source
    seen: Source | None


@dataclass(frozen=True)
class ModelPath:
    """How a hocket model gets onto a card, and what it must be for that."""

    name: str
    takes: Literal["torch", "onnx", "nothing"]
    """What the card's compiler or runtime reads; ``nothing``: models must be written anew for it."""
    how: str
    dtypes: tuple[str, ...]
    """In which products can be computed."""
    quantised: Literal["no", "dynamic", "static"]
    """``static``: int8 needs fixed scales of activations, found on examples; ``dynamic``: none."""
    fixed_shapes: bool
    """Number of utterances and of frames must be known when the model is compiled."""
    most_opset: int | None
    """The newest version of ONNX's operators that is read; None where nobody says."""
    operators: tuple[str, ...] | None
    """Of ONNX that run on the card; None: whatever the runtime knows. ``MatMul:values`` is a product of
    two computed matrices, ``MatMul`` one by weights; ``Conv:1d`` a convolution over time alone."""
    rest: Literal["host", "refused"]
    """Where other operators go: to the host's CPU, with a copy each way, or nowhere."""
    source: Source
    seen: Source | None


@dataclass(frozen=True)
class Card:
    """One processor or accelerator."""

    name: str
    aliases: tuple[str, ...]
    """Other names, those that drivers and systems report among them."""
    maker: str
    kind: Kind
    year: int
    rates: Mapping[str, Published]
    """FLOP (or integer operations) a second by dtype, dense; empty where the maker gives sparse ones only."""
    memory_bytes: Published
    memory_bandwidth: Published | None
    """Bytes a second of the memory that holds a model."""
    links: tuple[CardLink, ...]
    power_watts: Published | None
    prices: tuple[CardPrice, ...]
    path: ModelPath
    cores: int | None = None
    """Of a CPU."""
    note: str = ""

    def rate(self, dtype: str) -> float | None:
        """FLOP a second in a dtype, or of the next wider one that the card computes it in; None for none."""
        for wider in _IN_PLACE_OF.get(dtype, (dtype,)):
            if wider in self.rates:
                return self.rates[wider].value
        return None

    def figures(self) -> Iterator[tuple[str, Published]]:
        """All figures with a name for each."""
        yield from ((f"rate {dtype}", rate) for dtype, rate in self.rates.items())
        yield "memory", self.memory_bytes
        if self.memory_bandwidth is not None:
            yield "memory bandwidth", self.memory_bandwidth
        yield from ((f"link {link.name}", link.bytes_per_second) for link in self.links)
        if self.power_watts is not None:
            yield "power", self.power_watts


_IN_PLACE_OF = {
    "fp32": ("fp32",),
    "tf32": ("tf32", "fp32"),
    "bf16": ("bf16", "tf32", "fp32"),
    "fp16": ("fp16", "bf16", "tf32", "fp32"),
    "fp8": ("fp8", "bf16", "fp16", "fp32"),
    "int8": ("int8", "fp16", "bf16", "fp32"),
}

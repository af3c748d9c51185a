"""Whether an exported model can get onto a card: by its format, operators, precision, shapes and size.

What is checked is what the card's tools say they read. That a graph passes does not show that they
compile it: that has to be tried on the card.
"""

from __future__ import annotations

from dataclasses import dataclass

from hocket.hardware.catalogue import Card
from hocket.hardware.graph_facts import GraphFacts

_MOST_NAMED = 6


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    fits: bool | None
    """None: it depends, and the text says on what."""
    text: str


@dataclass(frozen=True)
class CardCheck:
    """One exported file beside one card."""

    card: str
    file: str
    how: str
    """How a model gets there."""
    findings: tuple[Finding, ...]

    @property
    def fits(self) -> bool:
        """Nothing stands against it."""
        return all(finding.fits is not False for finding in self.findings)


def check_graph(card: Card, graph: GraphFacts) -> CardCheck:
    """An ONNX graph beside a card."""
    findings = [_way(card, "onnx"), _size(card, graph)]
    if card.path.takes != "nothing":
        findings += [_opset(card, graph), _shapes(card, graph), _precision(card, graph)]
        findings.append(_operators(card, graph))
    return CardCheck(card.name, graph.file, card.path.how, tuple(findings))


def check_torch(card: Card, file: str, weight_bytes: int) -> CardCheck:
    """A model written for torch (``hf``) beside a card."""
    fixed = Finding(
        "shapes",
        None,
        "each shape is compiled by itself: pad to a few lengths" if card.path.fixed_shapes else "may vary",
    )
    findings = (_way(card, "torch"), _room(card, weight_bytes), fixed, _torch_precision(card))
    return CardCheck(card.name, file, card.path.how, findings)


def _way(card: Card, format: str) -> Finding:
    takes = card.path.takes
    if takes == "nothing":
        return Finding("format", False, "no tool of this card reads an exported model")
    if takes == format:
        return Finding("format", True, f"its tools read {_FORMATS[format]}")
    if takes == "torch" and card.kind in ("cpu", "gpu"):
        return Finding("format", True, "ONNX Runtime computes the graph there")
    return Finding("format", False, f"its tools read {_FORMATS[takes]}: export --format {_OPTIONS[takes]}")


_FORMATS = {"onnx": "ONNX", "torch": "torch modules"}
_OPTIONS = {"onnx": "onnx", "torch": "hf"}


def _size(card: Card, graph: GraphFacts) -> Finding:
    return _room(card, graph.weight_bytes)


def _room(card: Card, weight_bytes: int) -> Finding:
    share = weight_bytes / card.memory_bytes.value
    text = f"weights of {weight_bytes / 1e6:,.1f} MB, memory of {card.memory_bytes.value / 1e9:,.3g} GB"
    return Finding("memory", share < 1.0, text)


def _opset(card: Card, graph: GraphFacts) -> Finding:
    most = card.path.most_opset
    if most is None:
        return Finding("operator set", None, f"{graph.opset}; the card's tools name no limit")
    return Finding("operator set", graph.opset <= most, f"{graph.opset}; its tools read up to {most}")


def _shapes(card: Card, graph: GraphFacts) -> Finding:
    free = "; ".join(f"{name}: {', '.join(dims)}" for name, dims in graph.free.items())
    if not card.path.fixed_shapes:
        return Finding("shapes", True, "may vary" if free else "fixed")
    if free:
        return Finding("shapes", False, f"must be fixed, and vary here ({free}): export --fixed 1x1600")
    return Finding("shapes", True, "fixed, as they must be")


def _precision(card: Card, graph: GraphFacts) -> Finding:
    able = card.path.dtypes
    computed = ", ".join(able)
    if graph.integer_products == 0:
        if "fp32" in able:
            return Finding("precision", True, "fp32")
        if card.path.quantised == "static":
            return Finding(
                "precision", None, f"fp32, which its tools turn into {computed} with examples to find scales"
            )
        return Finding("precision", None, f"fp32, which its tools turn into {computed}")
    if "int8" not in able:
        return Finding("precision", False, f"products of int8; it computes in {computed}: leave out --int8")
    if graph.quantised == "dynamic" and card.path.quantised != "dynamic":
        text = (
            "int8 with scales found anew from each input; its tools want fixed ones: give them the fp32 graph"
        )
        return Finding("precision", False, text)
    return Finding("precision", True, f"{graph.integer_products} products of int8")


def _operators(card: Card, graph: GraphFacts) -> Finding:
    total = sum(graph.operators.values())
    if card.path.operators is None:
        kinds = f"{len(graph.operators)} kinds in {total:,} nodes"
        return Finding("operators", None, f"{kinds}; its tools publish no list to hold them against")
    lacking = {name: count for name, count in graph.operators.items() if name not in card.path.operators}
    if not lacking:
        return Finding("operators", True, f"all {total:,} nodes run there")
    several = sorted(lacking, key=lambda name: -lacking[name])
    named = ", ".join(f"{lacking[name]} {_SAID.get(name, name)}" for name in several[:_MOST_NAMED])
    more = f" and {len(several) - _MOST_NAMED} other kinds" if len(several) > _MOST_NAMED else ""
    missing = sum(lacking.values())
    where = "run on the host's CPU, with copies there and back" if card.path.rest == "host" else "are refused"
    # Copies at every block make a card useless, though nothing is refused.
    return Finding("operators", False, f"{missing:,} of {total:,} nodes {where}: {named}{more}")


_SAID = {"MatMul:values": "MatMul of two computed matrices", "Conv:1d": "Conv over time alone"}


def _torch_precision(card: Card) -> Finding:
    dtypes = ", ".join(card.path.dtypes)
    return Finding(
        "precision", "fp32" in card.path.dtypes or None, f"weights are fp32; it computes in {dtypes}"
    )

"""Published hardware: peak rates, memory, links, power and price of cards, each figure with its source.

The figures lie in YAML files beside this module, in the units of data sheets; here they are bytes, bytes a
second, FLOP a second and watts. All rates are dense: what sparsity promises on top is left out.
"""

from hocket.hardware.catalogue.facts import (
    Card,
    CardLink,
    CardPrice,
    ModelPath,
    Published,
    Source,
)
from hocket.hardware.catalogue.loading import cards, find, recognise

__all__ = [
    "Card",
    "CardLink",
    "CardPrice",
    "ModelPath",
    "Published",
    "Source",
    "cards",
    "find",
    "recognise",
]

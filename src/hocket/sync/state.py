"""Reading what a strategy kept in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch

import torch

from hocket.core.errors import CheckpointError


def expect(found: Iterable[str], patterns: Sequence[str]) -> None:
    """Raise :class:`CheckpointError` when a checkpoint's ``sync`` names are not as ``patterns`` say.

    Every pattern must match a name and every name a pattern.
    """
    names = list(found)
    strange = [name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)]
    missing = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)]
    if strange or missing:
        what = f"keeps {strange[0]!r}" if strange else f"lacks {missing[0]!r}"
        raise CheckpointError(
            f"the checkpoint's replicas were synchronised in another way: it {what}",
            "Go on with the recipe's sync section as it was, or begin a new run with init.",
        )


class Within(Mapping[str, torch.Tensor]):
    """The part of a state whose names begin with a prefix, without it; reads nothing before it is asked."""

    def __init__(self, state: Mapping[str, torch.Tensor], prefix: str) -> None:
        self._state, self._prefix = state, prefix

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._state[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (n.removeprefix(self._prefix) for n in self._state if n.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

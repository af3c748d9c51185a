"""Several prepared corpora as one: the rows of the first, then those of the next.

Nothing is copied or held: a row is looked up where it lies. Utterances of different corpora may have the
same id; here each is ``NAME/ID`` and has a key of its own.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from pydantic import Field

from hocket.core import seeds
from hocket.core.errors import CorpusError, RecipeError
from hocket.core.recipe import Section
from hocket.corpus.index import I32, CorpusIndex, Utterance
from hocket.corpus.tokens import CharTokens, Tokens, name_characters


class CorpusShare(Section):
    """A corpus among several."""

    path: Path
    """A folder made by ``hocket prepare``."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How many times an epoch goes through it: 2 repeats every utterance, 0.5 takes every other."""
    store: str | None = None
    """Where its shards lie: an address such as ``https://host/corpus`` or ``s3://bucket/corpus``, or a
    folder; by default the corpus's own."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What it is called in reports and ids; by default the name of the folder."""

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or self.path.name


@dataclass(frozen=True)
class Member:
    """One split of one corpus."""

    name: str
    index: CorpusIndex
    weight: float
    salt: int | None
    """Of the keys of its utterances; None when it is the only corpus of its run."""
    store: str | None = None
    """Where its shards lie; None for its own folder."""


class CorpusMixture:
    """The same split of some corpora, in their order."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.ends = list(accumulate(len(member.index) for member in self.members))

    @staticmethod
    def open(shares: Sequence[CorpusShare], split: str, *, where_there: bool = False) -> CorpusMixture:
        """The split of every corpus; with ``where_there`` of those that have it, perhaps of none.

        Raises :class:`RecipeError` when two corpora have the same name.
        """
        twice = [name for name, count in Counter(share.called for share in shares).items() if count > 1]
        if twice:
            raise RecipeError(
                f"corpus: two are called {twice[0]!r}", "Give each a name of its own: {path: ..., name: ...}."
            )
        alone = len(shares) == 1
        return CorpusMixture(
            [
                Member(
                    share.called,
                    CorpusIndex.open(share.path, split),
                    share.weight,
                    None if alone else seeds.key("corpus", share.called),
                    share.store,
                )
                for share in shares
                if not where_there or (share.path / split).is_dir()
            ]
        )

    @property
    def stored(self) -> list[tuple[CorpusIndex, str | None]]:
        """Every index, and where its shards lie."""
        return [(member.index, member.store) for member in self.members]

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def fingerprint(self) -> str:
        """Of all indexes and names; of one corpus alone that of its index."""
        if len(self.members) == 1:
            return self.members[0].index.fingerprint
        told = [(member.name, member.index.fingerprint) for member in self.members]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def id(self, row: int) -> str:
        """The utterance's id, after its corpus's name where there are several."""
        member, own = self._find(row)
        return self._named(member, member.index.id(own))

    def key_of(self, row: int) -> int:
        """What randomness of the utterance is keyed by."""
        member, own = self._find(row)
        if member.salt is None:
            return member.index.key_of(own)
        return int(seeds.mix(member.salt, np.asarray(member.index.key[own : own + 1]))[0])

    def samples_of(self, row: int) -> int:
        """Its samples at 16 kHz."""
        member, own = self._find(row)
        return member.index.samples_of(own)

    def token_ids(self, row: int) -> I32:
        """Its tokens."""
        member, own = self._find(row)
        return member.index.token_ids(own)

    def utterance(self, row: int) -> Utterance:
        """The row in full."""
        member, own = self._find(row)
        found = member.index.utterance(own)
        return replace(found, id=self._named(member, found.id))

    def _find(self, row: int) -> tuple[Member, int]:
        number = bisect_right(self.ends, row)
        return self.members[number], row - (self.ends[number - 1] if number else 0)

    def _named(self, member: Member, id: str) -> str:
        return id if member.salt is None else f"{member.name}/{id}"


def common_tokens(shares: Sequence[CorpusShare]) -> Tokens:
    """The tokens of all corpora. Raises :class:`CorpusError` saying what to do when they differ."""
    first = shares[0].path
    tokens = Tokens.load(first)
    for share in shares[1:]:
        other = Tokens.load(share.path)
        if other.fingerprint != tokens.fingerprint:
            raise CorpusError(
                f"corpus: {share.path} has other tokens than {first}: {_difference(other, tokens)}",
                _what_to_do(share.path, other, first, tokens),
            )
    return tokens


def _difference(ours: Tokens, theirs: Tokens) -> str:
    if ours.kind != theirs.kind:
        return f"{ours.kind} here, {theirs.kind} there"
    if ours.kind != CharTokens.kind:
        return f"two models of {len(ours.pieces)} and {len(theirs.pieces)} pieces"
    parts = [
        f"{name_characters(more)} only {where}"
        for more, where in (
            (set(ours.pieces) - set(theirs.pieces), "here"),
            (set(theirs.pieces) - set(ours.pieces), "there"),
        )
        if more
    ]
    return "; ".join(parts)


def _what_to_do(here: Path, ours: Tokens, there: Path, theirs: Tokens) -> str:
    """The commands that give both corpora the same tokens, and lose no character."""
    this, that = set(ours.pieces), set(theirs.pieces)
    if ours.kind == theirs.kind == CharTokens.kind and not this <= that:
        if that <= this:
            return f"Prepare the other again with these: hocket prepare SOURCE {there} --tokens {here}"
        return (
            "Prepare both again, with the characters of both: "
            f"hocket prepare SOURCE {here} --tokens char+{there}, "
            f"then hocket prepare SOURCE {there} --tokens {here}"
        )
    return f"Prepare it again with those: hocket prepare SOURCE {here} --tokens {there}"

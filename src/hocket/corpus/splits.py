"""Which utterance belongs to which part of the corpus."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from hocket.core import seeds
from hocket.core.errors import CorpusError
from hocket.corpus.looking import Seen

TRAIN, DEV = "train", "dev"
MIN_SPEAKERS = 10
"""With fewer speakers in training than this, none is given up for dev."""
_ALIASES = {"training": TRAIN, "valid": DEV, "val": DEV, "validation": DEV, "testing": "test", "eval": "test"}
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def canonical(split: str | None) -> str:
    """The name of a split here: ``train``, ``dev``, ``test``, or the source's own; none is ``train``.

    Raises :class:`CorpusError` for a name that could be no folder.
    """
    name = _ALIASES.get((split or TRAIN).lower(), split or TRAIN)
    if not _SAFE.fullmatch(name):
        raise CorpusError(
            f"a split is called {name!r}", "Use letters, digits, points, dashes and underscores."
        )
    return name


def is_training(split: str) -> bool:
    """Whether a split is for training: ``train``, or a name like ``train-clean-100``."""
    return split == TRAIN or split.startswith((TRAIN + "-", TRAIN + "_", TRAIN + "."))


def hold_back(train: Sequence[Seen], fraction: float, seed: int) -> tuple[set[str], str]:
    """The ids of training utterances that become dev, and how they were chosen, in words.

    Whole speakers where there are enough, so that dev says something about new voices; else
    utterances. A keyed draw: the order of ``train`` does not matter.
    """
    wanted = round(fraction * len(train))
    if fraction <= 0 or len(train) < 2:
        return set(), ""
    wanted = max(1, wanted)
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for seen in train:
        if seen.item.speaker is not None:
            by_speaker[seen.item.speaker].append(seen.item.id)
    everyone_known = sum(map(len, by_speaker.values())) == len(train)
    if not everyone_known or len(by_speaker) < MIN_SPEAKERS:
        ids = _shuffled([seen.item.id for seen in train], "utterance", seed)
        why = f"{len(by_speaker)} speakers are too few" if everyone_known else "not all speakers are known"
        return set(
            ids[:wanted]
        ), f"dev: {wanted} utterances held back from training ({why} to hold back speakers)"
    held: set[str] = set()
    num_speakers = 0
    for speaker in _shuffled(list(by_speaker), "speaker", seed):
        if len(held) >= wanted:
            break
        held.update(by_speaker[speaker])
        num_speakers += 1
    return held, f"dev: {len(held)} utterances of {num_speakers} speakers held back from training"


def training_order(train: Sequence[Seen], seed: int) -> list[Seen]:
    """The keyed, shuffled order of a training split's rows."""
    keys = np.asarray([seeds.key("utterance", seen.item.id) for seen in train], np.uint64)
    return [train[place] for place in np.argsort(seeds.mix(seeds.key("order", seed), keys))]


def _shuffled(names: list[str], kind: str, seed: int) -> list[str]:
    keys = np.asarray([seeds.key(kind, name) for name in names], np.uint64)
    return [names[place] for place in np.argsort(seeds.mix(seeds.key("hold back", seed), keys))]

"""Randomness keyed by what is learnt from, never by who learns it.

There is no global generator. Whoever needs a random number names what it is for (a seed, an epoch,
an utterance id, a site in the model) and gets the same number on any worker, in any order.

Sources: splitmix64 (Steele, Lea & Flood, OOPSLA 2014); Philox (Salmon et al., SC 2011) through
numpy; BLAKE2b (RFC 7693) to turn names into keys.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_MASK = (1 << 64) - 1


def key(*parts: int | str) -> int:
    """A 64-bit key of a tuple of names and numbers; the types and borders of parts count."""
    text = "\x1f".join(f"{type(p).__name__}:{p}" for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(salt: int, values: U64) -> U64:
    """Map each of ``values`` (uint64) to a uint64 by a keyed bijection (splitmix64's finaliser).

    For a fixed ``salt`` distinct inputs give distinct outputs, so sorting by the output is a
    permutation without ties.
    """
    with np.errstate(over="ignore"):
        z = values + np.uint64(salt & _MASK)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        # A second round with the salt in another place: one round of a sum of salt and value
        # would make neighbouring salts shift the same sequence.
        z = (z ^ np.uint64(key(salt) & _MASK)) * np.uint64(0x9E3779B97F4A7C15)
        return z ^ (z >> np.uint64(32))


def uniform(salt: int, values: U64) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each of ``values`` (uint64), 53 bits each."""
    return (mix(salt, values) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator of its own for the thing named by ``parts``."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))

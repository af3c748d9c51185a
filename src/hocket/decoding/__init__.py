"""How outputs of the model become words, and how words are scored.

Searches are named by their modules: scoring is not to wait for torch.
"""

from hocket.core.transcript import Alternative, Transcript, Word, stitch
from hocket.decoding.normalise import Normalisation, normalise
from hocket.decoding.paths import TokenPath
from hocket.decoding.wer import Scored, ScoreReport, UtteranceErrors, score

__all__ = [
    "Alternative",
    "Normalisation",
    "ScoreReport",
    "Scored",
    "TokenPath",
    "Transcript",
    "UtteranceErrors",
    "Word",
    "normalise",
    "score",
    "stitch",
]

"""How outputs of the model become words, and how words are scored."""

from hocket.core.transcript import Alternative, Transcript, Word, stitch
from hocket.decoding.greedy import greedy, greedy_paths
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
    "greedy",
    "greedy_paths",
    "normalise",
    "score",
    "stitch",
]

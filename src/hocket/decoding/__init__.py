"""How outputs of the model become words, and how words are scored."""

from hocket.core.transcript import Alternative, Transcript, Word, stitch
from hocket.decoding.greedy import GreedyPath, greedy, greedy_paths
from hocket.decoding.normalise import Normalisation, normalise
from hocket.decoding.wer import Scored, ScoreReport, UtteranceErrors, score

__all__ = [
    "Alternative",
    "GreedyPath",
    "Normalisation",
    "ScoreReport",
    "Scored",
    "Transcript",
    "UtteranceErrors",
    "Word",
    "greedy",
    "greedy_paths",
    "normalise",
    "score",
    "stitch",
]

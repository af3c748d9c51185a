"""How outputs of the model become words, and how words are scored."""

from hocket.decoding.greedy import GreedyPath, greedy, greedy_paths
from hocket.decoding.normalise import Normalisation, normalise
from hocket.decoding.wer import Scored, ScoreReport, UtteranceErrors, score

__all__ = [
    "GreedyPath",
    "Normalisation",
    "ScoreReport",
    "Scored",
    "UtteranceErrors",
    "greedy",
    "greedy_paths",
    "normalise",
    "score",
]

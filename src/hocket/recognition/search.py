"""How outputs of the encoder become transcripts: greedy or by beam, with or without times of words.

Shape suffixes: B utterances, T encoder frames, V tokens with blank.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hocket.core import files
from hocket.core.errors import UsageError
from hocket.core.transcript import Alternative, Transcript
from hocket.decoding.alignment import align
from hocket.decoding.beam import BeamSearch, BeamSettings
from hocket.decoding.calibration import Calibration
from hocket.decoding.greedy import greedy_paths
from hocket.decoding.paths import F32, TokenPath, words
from hocket.decoding.vocabulary import Vocabulary


@dataclass(frozen=True)
class SearchSettings:
    """What is searched for. All of it is part of the answer, none of it of who computes it."""

    beam: BeamSettings | None = None
    """None: the best token of every frame (greedy)."""
    words: bool = False
    """Times and confidences of words."""
    num_best: int = 1
    """Texts of an N-best list; above 1 it is written."""
    calibration: Calibration = field(default_factory=Calibration)

    def fingerprint(self) -> dict[str, Any]:
        """All that can change a transcript, as plain data: files and lists by their content's hash."""
        facts = asdict(self)
        if self.beam is not None:
            facts["beam"]["lm"] = (
                None if self.beam.lm is None else f"sha256 {files.sha256(self.beam.lm)[:16]}"
            )
            facts["beam"]["hotwords"] = _hash(self.beam.hotwords)
        return facts


def _hash(lines: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(lines).encode()).hexdigest()
    return f"{len(lines)} of sha256 {digest[:16]}" if lines else "none"


class Search:
    """Searches micro-batches of one vocabulary. Raises :class:`UsageError` for settings that cannot be."""

    def __init__(self, settings: SearchSettings, vocabulary: Vocabulary, frame_seconds: float) -> None:
        if settings.num_best > 1 and settings.beam is None:
            raise UsageError("an N-best list needs a beam", "Give a beam width, such as 8.")
        self._settings, self._vocabulary, self._frame_seconds = settings, vocabulary, frame_seconds
        self._beam = None if settings.beam is None else BeamSearch(settings.beam, vocabulary)

    def __call__(self, log_probs_BTV: torch.Tensor, lens_B: torch.Tensor) -> list[Transcript]:
        """A transcript of each row. One transfer from the device."""
        if self._beam is None:
            paths = greedy_paths(log_probs_BTV, lens_B, self._vocabulary.blank)
            if not self._settings.words:
                return [Transcript(self._vocabulary.text(path.tokens)) for path in paths]
        rows_BTV, lens = log_probs_BTV.float().cpu().numpy(), lens_B.tolist()
        found = []
        for row, length in enumerate(lens):
            log_probs_TV = rows_BTV[row, :length]
            if self._beam is None:
                found.append(self._transcript(paths[row], log_probs_TV))
                continue
            best = self._beam.search(log_probs_TV, self._settings.num_best)
            transcript = self._transcript(self._aligned(best[0].tokens, log_probs_TV), log_probs_TV)
            if self._settings.num_best > 1:
                alternatives = tuple(Alternative(entry.text, entry.score) for entry in best)
                transcript = replace(transcript, alternatives=alternatives)
            found.append(transcript)
        return found

    def _aligned(self, tokens: list[int], log_probs_TV: F32) -> TokenPath:
        """The tokens on their best path; a search that sums over paths has followed none."""
        if self._settings.words:
            path = align(log_probs_TV, tokens, self._vocabulary.blank)
            if path is None:
                raise RuntimeError(f"{len(tokens)} tokens were found in {len(log_probs_TV)} frames too few")
            return path
        return TokenPath(tokens, [], [])

    def _transcript(self, path: TokenPath, log_probs_TV: F32) -> Transcript:
        text = self._vocabulary.text(path.tokens)
        if not self._settings.words:
            return Transcript(text)
        calibrated = tuple(
            replace(word, confidence=round(self._settings.calibration(word.confidence or 0.0), 4))
            for word in words(path, log_probs_TV, self._vocabulary, self._frame_seconds)
        )
        shares = [word.confidence or 0.0 for word in calibrated]
        # The share of words that is expected to be right; without words there is nothing to be sure of.
        return Transcript(text, calibrated, round(sum(shares) / len(shares), 4) if shares else None)


def read_calibration(path: Path) -> Calibration:
    """What ``hocket score --calibrate`` wrote. Raises :class:`UsageError`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Calibration(float(document["scale"]), float(document["offset"]))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot read the calibration: {error.strerror}", "hocket score --calibrate writes one."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: not a calibration: it has no numbers 'scale' and 'offset'",
            "hocket score --calibrate writes one.",
        ) from error


def read_lines(path: Path) -> tuple[str, ...]:
    """Words and phrases, one a line. Raises :class:`UsageError`, also when there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: cannot read the list: {why}", "It is text, an entry a line.") from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise UsageError(f"{path}: the list is empty", "Write an entry a line, or leave it out.")
    return found

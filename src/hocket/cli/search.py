"""Options of a search, as verbs that recognise share them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hocket.recognition.search import SearchSettings

Beam = Annotated[int, typer.Option(min=0, help="Prefixes of the beam search; 0 searches greedily.")]
Lm = Annotated[Path | None, typer.Option(help="Language model of words, ARPA (hocket lm build).")]
LmScale = Annotated[float, typer.Option(min=0.0, help="Weight of the language model.")]
WordScore = Annotated[float, typer.Option(help="Added for every word.")]
HotwordsFile = Annotated[
    Path | None, typer.Option("--hotwords", help="Words and phrases to prefer, one a line.")
]
HotwordScore = Annotated[float, typer.Option(min=0.0, help="Added for every character of a hotword.")]
Model = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Folder of a run, of a model, or an exported one; hf:FOLDER for a published model.",
        show_default=False,
    ),
]
BlankSkip = Annotated[
    float, typer.Option(min=0.5, max=1.0, help="Of frames in a row with a blank that sure, one is searched.")
]
NumBest = Annotated[int, typer.Option("--nbest", min=1, help="Texts of an N-best list.")]
Words = Annotated[bool, typer.Option("--words", help="Times and confidences of words.")]
CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", help="What hocket score --calibrate wrote: for confidences.")
]


def settings(
    beam: int,
    lm: Path | None,
    lm_scale: float,
    word_score: float,
    hotwords: Path | None,
    hotword_score: float,
    blank_skip: float,
    num_best: int,
    words: bool,
    calibration: Path | None,
) -> SearchSettings:
    """The options as settings. Raises :class:`UsageError` where they do not fit together."""
    from hocket.core.errors import UsageError
    from hocket.decoding.beam import BeamSettings
    from hocket.decoding.calibration import Calibration
    from hocket.decoding.fusion import Weights
    from hocket.recognition.search import SearchSettings, read_calibration, read_lines

    if beam == 0 and (lm is not None or hotwords is not None or num_best > 1):
        raise UsageError("--lm, --hotwords and --nbest need a beam", "Add --beam 8.")
    if calibration is not None and not words:
        raise UsageError("--calibration is for confidences", "Add --words.")
    if lm is not None:
        check_lm(lm)
    weights = Weights(lm_scale=lm_scale, word_score=word_score, hotword_score=hotword_score)
    widely = BeamSettings(
        beam=beam,
        blank_skip=blank_skip,
        lm=None if lm is None else lm.absolute(),
        hotwords=() if hotwords is None else read_lines(hotwords),
        weights=weights,
    )
    return SearchSettings(
        beam=widely if beam else None,
        words=words,
        num_best=num_best,
        calibration=Calibration() if calibration is None else read_calibration(calibration),
    )


def check_lm(lm: Path) -> None:
    """Raises :class:`UsageError` where the file is not there."""
    from hocket.core.errors import UsageError

    if not lm.is_file():
        raise UsageError(f"--lm: {lm}: no such file", "hocket lm build TEXT --out FILE writes one.")

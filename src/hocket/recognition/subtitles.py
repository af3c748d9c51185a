"""Words with times as subtitles: SubRip and WebVTT (https://www.w3.org/TR/webvtt1/).

A cue is what is said without a pause, at most two lines of 42 characters and six seconds.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Sequence

from hocket.core.transcript import Word

_LINE, _LINES = 42, 2
_LONGEST = 6.0
_PAUSE = 0.8


def cues(words: Sequence[Word]) -> list[tuple[float, float, list[str]]]:
    """Start and end in seconds, and the lines, of each cue."""
    groups: list[list[Word]] = []
    for word in words:
        group = groups[-1] if groups else []
        fits = (
            bool(group)
            and word.start - group[-1].end < _PAUSE
            and word.end - group[0].start <= _LONGEST
            and len(_wrap([*group, word])) <= _LINES
        )
        if fits:
            group.append(word)
        else:
            groups.append([word])
    return [(group[0].start, group[-1].end, _wrap(group)) for group in groups]


def srt(words: Sequence[Word]) -> str:
    """The whole file in SubRip's format."""
    return "".join(
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{chr(10).join(lines)}\n\n"
        for number, (start, end, lines) in enumerate(cues(words), 1)
    )


def vtt(words: Sequence[Word]) -> str:
    """The whole file in WebVTT."""
    return "WEBVTT\n\n" + "".join(
        f"{_time(start, '.')} --> {_time(end, '.')}\n{html.escape(chr(10).join(lines), quote=False)}\n\n"
        for start, end, lines in cues(words)
    )


FORMATS: dict[str, Callable[[Sequence[Word]], str]] = {".srt": srt, ".vtt": vtt}


def _wrap(words: Sequence[Word]) -> list[str]:
    return textwrap.wrap(
        " ".join(word.text for word in words), _LINE, break_long_words=False, break_on_hyphens=False
    )


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"

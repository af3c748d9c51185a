"""A reliability diagram: confidences against the share of words that were right, as one SVG file.

Niculescu-Mizil & Caruana, "Predicting good probabilities with supervised learning", ICML 2005.
"""

from __future__ import annotations

from collections.abc import Sequence

from hocket.decoding.calibration import Reliability
from hocket.recognition.confidence import ConfidenceReport
from hocket.reports.axes import number, percent

_SIZE, _LEFT, _TOP = 260.0, 52.0, 40.0
_COLOURS = ("#3b6ea8", "#c2571a")
_STYLE = (
    "text{font:12px sans-serif;fill:#444}.grid{stroke:#ddd}.even{stroke:#999;stroke-dasharray:4 4}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}.grid{stroke:#444}}"
)


def svg(report: ConfidenceReport) -> str:
    """The diagram; the size of a point follows the number of its words."""
    lines = [("as recognised", report.before)]
    if report.after is not None:
        lines.append(("calibrated on these words", report.after))
    parts = [f"<style>{_STYLE}</style>"]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _place(tick, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _SIZE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _SIZE + 16}" text-anchor="middle">{tick:g}</text>')
    (x0, y0), (x1, y1) = _place(0.0, 0.0), _place(1.0, 1.0)
    parts.append(f'<line class="even" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')
    for place, (name, line) in enumerate(lines):
        parts += _line(line, _COLOURS[place])
        said = f"{name}: calibration error {percent(line.ece)}, {number(line.cross_entropy)} nats a word"
        parts.append(f'<text x="8" y="{16 + 16 * place}" style="fill:{_COLOURS[place]}">{said}</text>')
    below = _TOP + _SIZE + 34
    middle = _LEFT + _SIZE / 2
    parts.append(f'<text x="{middle}" y="{below}" text-anchor="middle">confidence of a word</text>')
    turned = f'transform="translate(14 {_TOP + _SIZE / 2}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">share of words that were right</text>')
    return _document(parts, 400.0, below + 12)


def _line(line: Reliability, colour: str) -> list[str]:
    most = max(entry.num_words for entry in line.bins)
    points = [_place(entry.confidence, entry.correct) for entry in line.bins]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>']
    for (x, y), entry in zip(points, line.bins, strict=True):
        radius = 2.0 + 5.0 * (entry.num_words / most) ** 0.5
        title = (
            f"{entry.num_words:,} words, confidence {entry.confidence:.3f}, {percent(entry.correct)} right"
        )
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.6">'
            f"<title>{title}</title></circle>"
        )
    return parts


def _place(confidence: float, share: float) -> tuple[float, float]:
    return _LEFT + confidence * _SIZE, _TOP + (1.0 - share) * _SIZE


def _document(parts: Sequence[str], width: float, height: float) -> str:
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
    return f"{head}\n<title>Reliability of word confidences</title>\n{body}\n</svg>\n"

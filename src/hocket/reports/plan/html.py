"""What the pages of plans have in common: head, tiles, words, commands, tables, notes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import hocket.reports

_HERE = Path(__file__).parent
_REPORTS = Path(hocket.reports.__file__).parent
_STYLES = (_REPORTS / "page.css", _REPORTS / "scale" / "scale.css", _HERE / "plan.css")


def document(
    name: str,
    tiles: Sequence[tuple[str, str]],
    words: Sequence[str],
    commands: Sequence[str],
    body: str,
    notes: Sequence[str],
) -> str:
    """A page of HTML: ``body`` is HTML already, everything else text. Tiles are (what, how much)."""
    style = "".join(path.read_text() for path in _STYLES)
    title = escape(name)
    told = "".join(f"<p class='told'>{escape(paragraph)}</p>" for paragraph in words)
    said = "".join(f"<li>{escape(note)}</li>" for note in notes)
    drawn = "".join(
        f"<div><b>{_breaking(value)}</b><span>{escape(what)}</span></div>" for what, value in tiles
    )
    run = "<br>".join(f"<code>{escape(command)}</code>" for command in commands)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>Plan: {title}</title><style>{style}</style></head><body>\n<h1>Plan: {title}</h1>\n"
        f'<div class="tiles">{drawn}</div>\n{told}\n<p class="told">To run it: {run}</p>\n'
        f"{body}\n<h2>What this stands on</h2><ul>{said}</ul></body></html>\n"
    )


def _breaking(text: str) -> str:
    """A layout may be cut after a comma and a line: ``pp=2,dp_shard=2``."""
    return escape(text).replace(",", ",<wbr>").replace("_", "_<wbr>")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are text."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'

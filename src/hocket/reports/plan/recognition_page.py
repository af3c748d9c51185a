"""``plan.html`` of a recognition: self-contained, for someone who wants to know what to buy."""

from __future__ import annotations

from html import escape

from hocket.planning.explain import size
from hocket.planning.recognizing.candidate import batch_words
from hocket.reports.axes import duration, number
from hocket.reports.plan.html import document, table
from hocket.reports.plan.recognition_rows import Told, commands, reasons, title, ways
from hocket.reports.scale.charts import bars
from hocket.reports.svg import stacked_bars

_MARK = "\N{RIGHTWARDS ARROW}"
_DRAWN, _LISTED = 8, 40
_NAMED = {"encoder": "compute", "reading": "data"}


def page(answer: Told) -> str:
    """The page's HTML, from what ``hocket plan --recognize --json`` says."""
    body = f"{_figures(answer)}\n{_tables(answer)}"
    tiles = _tiles(answer)
    return document(title(answer), tiles, answer["explanation"], commands(answer), body, answer["notes"])


def _tiles(answer: Told) -> list[tuple[str, str]]:
    chosen = answer["chosen"]
    found = [
        (f"workers, each on a {chosen['unit']}", f"{chosen['workers']:,}"),
        ("what computes", f"{chosen['backend']} {chosen['precision']}"),
        ("micro-batch", batch_words(chosen["batch_seconds"])),
        ("seconds of speech recognised in a second", number(chosen["rtfx"])),
    ]
    if chosen["latency_p99_seconds"] is not None:
        found.append(("from an utterance to its text", f"{1000 * chosen['latency_p99_seconds']:,.0f} ms"))
    if chosen["job_seconds"] is not None:
        found.append(("the job", duration(chosen["job_seconds"])))
    found.append(("memory of a worker", size(chosen["memory_bytes"])))
    if chosen["dollars"] is not None:
        found.append(("dollars for all", f"{chosen['dollars']:,.2f}"))
    if chosen["dollars_an_hour"] is not None:
        found.append(("dollars an hour", f"{chosen['dollars_an_hour']:,.2f}"))
    return found


def _figures(answer: Told) -> str:
    shown = answer["by_way"][:_DRAWN]
    several = len({each["hardware"] for each in answer["by_way"]}) > 1

    def name(each: Told) -> str:
        where = f"{each['hardware']}: " if several else ""
        return f"{where}{each['backend']} {each['precision']}, {batch_words(each['batch_seconds'])}"

    rows = {
        f"{name(each)}\n": {_NAMED[kind]: 1000 * taken for kind, taken in each["seconds_of_a_second"].items()}
        for each in shown
    }
    drawn = [stacked_bars(rows, title="One worker, for a second of speech", unit="ms")]
    known = {"dollars": "dollars for all", "dollars_an_hour": "dollars an hour", "workers": ""}
    cost, unit = next(each for each in known.items() if answer["chosen"][each[0]] is not None)
    values = [(name(each), float(each[cost])) for each in shown if each[cost] is not None]
    said = "What it costs" if unit else "Workers"
    drawn.append(bars(values, title=said, unit=unit, said=number))
    return (
        '<div class="sections"><section><h2>The best of each way</h2>'
        f"<p>{escape(_FIGURES)}</p>\n{''.join(drawn)}\n</section></div>"
    )


_FIGURES = (
    "Computing is encoder and search; data is reading and features that no computing hides. Precisions "
    "narrower than fp32 are faster and may cost words: they are recommended only where that was allowed."
)


def _tables(answer: Told) -> str:
    best = table(*ways(answer, answer["by_way"], _MARK))
    every = table(*ways(answer, answer["candidates"][:_LISTED], _MARK))
    refused = [(name, f"{number:,}", why) for name, why, number in reasons(answer)]
    left_out = f"<h2>What is left out</h2>{table(('way', 'how many', 'why'), refused)}" if refused else ""
    return (
        f"<h2>The best of each way</h2><p>{_MARK} is recommended; * may cost words.</p>{best}"
        f"<h2>All that do what is wanted, the best first</h2>{every}{left_out}"
    )

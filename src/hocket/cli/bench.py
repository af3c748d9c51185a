"""``hocket bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hocket.cli.output import JsonOption, reporting

if TYPE_CHECKING:
    from hocket.studies.storage import StorageReport

app = typer.Typer(no_args_is_help=True, help="Measure what a machine or a store can do.")


@app.command("storage")
def storage(
    corpus: Annotated[Path, typer.Argument(help="A corpus prepared with --shards.", show_default=False)],
    store: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where its shards lie, such as https://host/corpus or s3://bucket/corpus; else in CORPUS.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="A run that has ended: say how many workers like its own the store feeds.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Which split to read.")] = "train",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of the first pass, at most.")] = 30.0,
    requests: Annotated[int, typer.Option(min=1, max=64, help="Reads beside each other, at most.")] = 8,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder on the disk that is to keep blocks.", show_default="for temporary files"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read and decode a corpus in the order of training: rates cold and warm, latency, workers fed."""
    with reporting(as_json) as output:
        from hocket.corpus.shard_source import StorageSettings
        from hocket.reports import tables
        from hocket.studies import storage as storages

        settings = StorageSettings(requests=requests, cache=cache)
        needed = None if run is None else storages.rate_of_run(run)
        report = storages.measure(
            corpus, store, split=split, settings=settings, seconds=seconds, needed=needed
        )
        output.give(report.as_dict(), lambda: tables.facts(_rows(report), report.store))


def _rows(report: StorageReport) -> list[tuple[str, str | None]]:
    rows: list[tuple[str, str | None]] = []
    for name, one in report.passes.items():
        rate = f"{one.utterances_per_second:,.0f} utterances, {one.megabytes_per_second:,.1f} MB"
        rows.append((f"{name}, a second", f"{rate}, {one.audio_per_second:,.0f} s of speech, decoded"))
        if one.read_ms_p50 is not None and one.read_ms_p99 is not None:
            rows.append(
                (
                    f"{name}, answers",
                    f"half within {one.read_ms_p50:.1f} ms, 99 % within {one.read_ms_p99:.1f} ms",
                )
            )
        spare = (
            f"{one.hedged_bytes / 1e6:.1f} MB asked for twice, {one.overread_bytes / 1e6:.1f} MB of headers"
        )
        fetched = f"{one.fetched_bytes / 1e6:,.1f} MB from the store ({spare})"
        rows.append((f"{name}, bytes", f"{fetched}, {one.disk_bytes / 1e6:,.1f} MB from this disk"))
        fed = report.workers_fed(name)
        if fed is not None:
            rows.append(
                (f"{name}, feeds", f"{fed:,.1f} workers of {report.needed:,.0f} s of speech a second each")
            )
    return rows

"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hocket.reports import noise
from hocket.reports.axes import brief, duration, number, percent
from hocket.reports.picture import PAGE
from hocket.reports.run import RunInfo

if TYPE_CHECKING:  # what was reported is loaded by then; the rest need not be
    from hocket.corpus.report import PrepareReport
    from hocket.decoding.wer import ScoreReport
    from hocket.recognition.export import Exported
    from hocket.recognition.precision_cost import Cost
    from hocket.recognition.report import JobReport
    from hocket.training.checkpoint_average import Averaged

Row = tuple[str, str | None]
_SHOWN = 300
"""Characters of an utterance in the list of the worst."""


def facts(rows: Iterable[Row], title: str | None = None) -> Table:
    """Two columns: what, and how much. Rows without a value are left out."""
    table = Table(show_header=False, title=title, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(Text(name), Text(value))
    return table


def corpus(report: PrepareReport) -> RenderableType:
    """What a prepared corpus holds, what was left out, and what was done to the rest."""
    table = Table(title=str(report.folder), title_justify="left", title_style="bold")
    for column in ("split", "utterances", "hours", "speakers", "tokens", "shortest", "median", "longest"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, split in report.splits.items():
        counts = (f"{split.utterances:,}", f"{split.hours:.2f}", f"{split.speakers:,}", f"{split.tokens:,}")
        lengths = (f"{seconds:.1f} s" for seconds in (split.shortest, split.median, split.longest))
        table.add_row(Text(name), *counts, *lengths)
    left_out = ", ".join(f"{count:,} {kind}" for kind, count in report.left_out.items())
    rows: list[Row] = [
        ("tokens", f"{report.tokens['vocab_size']:,} with the blank, {report.tokens['kind']}"),
        ("left out", f"{left_out}; listed in {report.folder}/left_out.jsonl" if left_out else "nothing"),
        *(
            (
                f"{split} shards",
                f"{made.num_shards:,} of {made.smallest / 1e6:.1f} to {made.largest / 1e6:.1f} MB",
            )
            for split, made in report.shards.items()
        ),
        *(("note", note) for note in report.notes),
        ("fingerprint", report.fingerprint),
        ("took", duration(report.seconds)),
    ]
    return Group(table, facts(rows))


def run(info: RunInfo) -> RenderableType:
    """How a run went or is going."""
    of = "" if info.steps_total is None else f" of {info.steps_total:,}"
    epoch = "" if info.epoch is None else f", epoch {info.epoch + 1}"
    slowest = None
    if info.slowest_rank is not None and len(info.rank_seconds) > 1:
        mean = sum(info.rank_seconds) / len(info.rank_seconds)
        over = info.rank_seconds[info.slowest_rank] / mean if mean else 1.0
        slowest = f"rank {info.slowest_rank}, {over:.3f} times the mean"
    rows: list[Row] = [
        ("state", _state(info)),
        ("steps", f"{info.steps_done:,}{of}{epoch}"),
        ("stopped early", info.stopped_early),
        ("model", _with(info.model_step, "of the weights after step {:,}".format)),
        ("time left", duration(info.seconds_left) if info.seconds_left else None),
        ("rate", _rate(info)),
        ("loss", _with(info.loss, number, " nats per token")),
        ("development WER", _dev_wer(info)),
        *((f"corpus {name}", _of_corpus(told)) for name, told in info.corpora.items()),
        ("test WER", _with(info.wer, percent)),
        ("workers", _with(info.workers, str)),
        ("layout", info.layout),
        ("precision", info.precision),
        ("allocator", info.allocator),
        ("slowest rank", slowest),
        ("time by kind", shares(info.seconds) or None),
        ("storage", storage(info)),
        ("of the matrix rate", ceiling(info)),
        ("padding", _with(info.padding, percent)),
        ("noise scale", _noise_scale(info)),
        ("", None if info.noise_scale is None else noise.advise(info.noise_scale)),
        ("batches that follow it", _growth(info)),
        ("steps skipped", str(info.steps_skipped) if info.steps_skipped else None),
        ("starts of workers", str(info.attempts) if info.attempts > 1 else None),
        *((f"restart {n}", restart.reason) for n, restart in enumerate(info.restarts, 1)),
        ("last checkpoint", _with(info.last_checkpoint, "after step {:,}".format)),
        ("failed checkpoints", f"{info.checkpoints_failed:,}" if info.checkpoints_failed else None),
        ("a step, said and measured", _forecast(info)),
        ("weights", _with(info.weights_sha256, lambda digest: f"sha256 {digest}")),
        ("pictures", f"{info.run}/{PAGE}"),
    ]
    return facts(rows, info.run)


def _noise_scale(info: RunInfo) -> str | None:
    if info.no_noise_scale is not None:
        return info.no_noise_scale
    return None if info.noise_scale is None else noise.say(info.noise_scale)


def _growth(info: RunInfo) -> str | None:
    """As a recipe says it."""
    phases = [f"{{epoch: {phase['epoch']:g}, times: {phase['times']}}}" for phase in info.suggested_growth]
    return f"batch.growth: [{', '.join(phases)}]" if phases else None


def storage(info: RunInfo) -> str | None:
    """Where the bytes of rank 0 came from, and how long it waited for them; None without shards."""
    told = info.storage
    if not told:
        return None

    def megabytes(name: str) -> str:
        return f"{told.get(name, 0) / 1e6:,.1f} MB"

    parts = [f"{megabytes('store_bytes')} from the store, {megabytes('disk_bytes')} from this host's disk"]
    parts.append(f"{number(told.get('wait_seconds', 0.0))} s of reading where they were not in memory")
    if "read_ms_p50" in told:
        parts.append(f"{number(told['read_ms_p50'])} ms for half of the answers")
    for name, what in (
        ("retries", "asked for again"),
        ("damaged", "damaged"),
        ("not_kept", "not kept: disk full"),
    ):
        if told.get(name):
            parts.append(f"{told[name]:,} {what}")
    return "; ".join(parts)


def training(info: RunInfo, summary: Mapping[str, Any]) -> RenderableType:
    """What came out of a run that has just ended."""
    wall = summary.get("wall_seconds")
    rows: list[Row] = [("took", _with(wall, lambda seconds: duration(float(seconds))))]
    if summary.get("num_dropped"):
        rows.append(
            ("utterances left out", f"{summary['num_dropped']:,}, listed in {info.run}/dropped.jsonl")
        )
    rows.append(("recognise with", f"hocket recognize {info.run} AUDIO --out hyps.jsonl"))
    return Group(run(info), facts(rows))


def averaged(found: Averaged) -> RenderableType:
    """A model made of checkpoints."""
    rows: list[Row] = [
        ("model", str(found.out)),
        ("mean of", ", ".join(str(path) for path in found.checkpoints)),
        ("weights", f"sha256 {found.weights_sha256}"),
        ("recognise with", f"hocket recognize {found.out} AUDIO --out hyps.jsonl"),
    ]
    return facts(rows)


def recognition(report: JobReport) -> RenderableType:
    """What a recognition job did."""
    found = f"{report.num_utterances:,} utterances, {duration(report.audio_seconds)} of speech"
    earlier = f"{report.num_earlier:,} of {report.num_pieces:,} pieces, from {report.journal}"
    rows: list[Row] = [
        ("recognised", found),
        ("hypotheses", ", ".join(str(out) for out in report.out)),
        ("answered before", earlier if report.num_earlier else None),
        ("chosen", report.tuning),
        ("failed", f"{report.num_failed:,}, listed in {report.failed}" if report.num_failed else None),
        ("took", f"{duration(report.wall_seconds)}, {duration(report.startup_seconds)} of it to start"),
        ("speed", f"{number(report.rtfx_steady)} s of speech a second, {number(report.rtfx)} with the start"),
        ("on", f"{workers(report.workers)}, {report.device}, {report.precision}"),
        ("busiest worker over mean", f"{report.imbalance:.3f}"),
        ("padding", percent(report.padding)),
        *((f"worker lost {n}", loss) for n, loss in enumerate(report.losses, 1)),
    ]
    return facts(rows)


def exported(report: Exported) -> RenderableType:
    """What was written of a model."""
    from hocket.recognition.export import FORMATS

    runs_here = FORMATS[report.format].write_int8 is not None
    unmeasured = "not measured: --check INPUT does" if runs_here and not report.costs else None
    rows: list[Row] = [
        ("folder", str(report.out)),
        ("format", f"{report.format}: {FORMATS[report.format].what}"),
        ("files", ", ".join(f"{name} ({_size(size)})" for name, size in report.files.items())),
        ("parameters", f"{report.num_parameters:,}"),
        ("tokens", f"{report.vocab_size:,} with the blank"),
        ("weights in hocket", f"sha256 {report.source_sha256}"),
        *((cost.name, _cost(cost, first=cost is report.costs[0])) for cost in report.costs),
        ("cost in words", unmeasured),
    ]
    if not report.card_checks:
        return facts(rows)
    from hocket.reports.hardware import checks

    return Group(facts(rows), checks(report.card_checks))


def _cost(cost: Cost, first: bool) -> str:
    wer = "no references" if cost.wer is None else f"WER {percent(cost.wer)}"
    if first:
        return f"{wer} over {cost.num_utterances:,} utterances"
    return f"{wer}, {cost.num_differing:,} of {cost.num_utterances:,} utterances differ from the first"


def _size(num_bytes: int) -> str:
    return f"{number(num_bytes / 1e6)} MB" if num_bytes >= 100_000 else f"{number(num_bytes / 1e3)} kB"


def score(report: ScoreReport) -> RenderableType:
    """Error rates and the worst utterances."""
    interval = (
        f"{100 * report.wer_low:.1f} to {100 * report.wer_high:.1f} %, "
        f"{report.confidence:.0%} over {report.num_drawn:,} {report.by}s"
    )
    rows: list[Row] = [
        ("WER", f"{percent(report.wer)}  ({interval if report.num_drawn > 1 else f'one {report.by}'})"),
        ("CER", percent(report.cer)),
        ("words", f"{report.num_words:,}"),
        ("insertions", f"{report.insertions:,}"),
        ("deletions", f"{report.deletions:,}"),
        ("substitutions", f"{report.substitutions:,}"),
        ("utterances", f"{report.num_utterances:,}, {report.num_correct:,} of them without error"),
        ("texts compared after", f"{report.normalise} normalisation" if report.normalise != "none" else None),
        ("without reference", f"{report.num_without_ref:,}" if report.num_without_ref else None),
    ]
    if not report.worst:
        return facts(rows)
    worst = Table(title="most errors", title_justify="left", title_style="bold")
    for column in ("utterance", "errors", "words", "said, and what was heard"):
        worst.add_column(column, overflow="fold")
    for line in report.worst:
        said = Text(f"{_clipped(line.ref)}\n{_clipped(line.hyp)}")
        worst.add_row(Text(line.id), str(line.errors), str(line.num_words), said)
    return Group(facts(rows), worst)


def _clipped(text: str) -> str:
    """The beginning of a long text, an hour's say: all of it is in the file of hypotheses."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def workers(count: int) -> str:
    """``1 worker``, ``2 workers``."""
    return f"{count:,} worker{'' if count == 1 else 's'}"


def shares(seconds: Mapping[str, float]) -> str:
    """Kinds of time as shares of the whole: ``compute 90.1 %, wait 6.0 %``."""
    whole = sum(seconds.values())
    return ", ".join(f"{kind} {percent(part / whole)}" for kind, part in seconds.items()) if whole else ""


def ceiling(info: RunInfo) -> str | None:
    """``61.0 % (68.2 % while computing); plain matrix products here: 180 GFLOP/s``."""
    if info.matrix_share is None or info.matrix_rate is None:
        return None
    alone = info.matrix_share_computing
    computing = "" if alone is None else f" ({percent(alone)} while computing)"
    tera = info.matrix_rate >= 1e12
    rate = f"{number(info.matrix_rate / (1e12 if tera else 1e9))} {'T' if tera else 'G'}FLOP/s"
    on = workers(info.workers or 1)
    return f"{percent(info.matrix_share)}{computing}; plain matrix products on {on}: {rate}"


def _of_corpus(told: Mapping[str, float]) -> str:
    wer = f", development WER {percent(told['dev_wer'])}" if "dev_wer" in told else ""
    return (
        f"{duration(told['audio_seconds'])} learnt from, {percent(told['share'])} of the audio "
        f"at weight {told['weight']:g}{wer}"
    )


def _state(info: RunInfo) -> str:
    if info.state == "silent" and info.seconds_since_last_event is not None:
        return f"silent for {duration(info.seconds_since_last_event)}: lost, or at something long"
    if info.state == "stopped":
        return "stopped before its last step: --resume goes on with it"
    return info.state


def _rate(info: RunInfo) -> str | None:
    if info.audio_per_second is None:
        return None
    steps = "" if info.steps_per_second is None else f", {number(info.steps_per_second)} steps a second"
    return f"{number(info.audio_per_second)} s of speech a second{steps}"


def _dev_wer(info: RunInfo) -> str | None:
    if info.dev_wer is None:
        return None
    best = info.best_dev_wer
    return percent(info.dev_wer) + ("" if best is None or best == info.dev_wer else f", best {percent(best)}")


def _forecast(info: RunInfo) -> str | None:
    if info.forecast is None:
        return None
    said, measured = info.forecast.said, info.forecast.measured
    return f"{brief(said)} said, {brief(measured)} measured: off by {100 * (said / measured - 1):+.0f} %"


def _with(value: Any, say: Any, unit: str = "") -> str | None:
    return None if value is None else f"{say(value)}{unit}"

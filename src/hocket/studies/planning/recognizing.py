"""From a model and what is wanted to a plan of its recognition: what to run, what it costs, and why."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hocket.core.errors import UsageError
from hocket.model import hf, store
from hocket.model.config import ModelConfig
from hocket.model.presets import PRESETS
from hocket.planning.objective import Objective
from hocket.planning.recognizing import explain
from hocket.planning.recognizing.candidate import Candidate, Found, Goal, Ranked
from hocket.planning.recognizing.forecast import Site
from hocket.planning.recognizing.rates import Way
from hocket.planning.recognizing.search import search
from hocket.planning.recognizing.speech import Speech
from hocket.recognition import opening
from hocket.recognition.job import MAX_SECONDS, longest_piece
from hocket.recognition.opening import ONNX
from hocket.recognition.opening import Found as Folder
from hocket.studies.planning.hearing import Heard, of_inputs, of_typical

_TOKENS = 1024
"""Of a preset, which leaves them to the corpus."""
_UTTERANCE = 10.0
"""Seconds of an utterance, where nobody says."""


@dataclass(frozen=True)
class Wanted:
    """What a user asks for, as the command line has it."""

    rtfx: float | None = None
    hours: float | None = None
    within: float | None = None
    """Hours."""
    latency_ms: float | None = None
    budget: float | None = None
    utterance: float | None = None
    """Seconds of an utterance."""
    workers: int | None = None
    objective: Objective = "time"
    any_text: bool = False


@dataclass(frozen=True)
class RecognitionPlan:
    """All that is told of a search."""

    model: str
    inputs: tuple[str, ...]
    folder: Folder | None
    """None for a preset, which is no model yet."""
    config: ModelConfig
    speech: Speech
    found: Found
    words: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def chosen(self) -> Ranked:
        """What the plan recommends."""
        return self.found.chosen


def check(wanted: Wanted, inputs: Sequence[str]) -> None:
    """Raises :class:`UsageError` for what cannot be meant, before anything is measured."""
    above_0 = {
        "--rtfx": wanted.rtfx,
        "--hours": wanted.hours,
        "--within": wanted.within,
        "--latency": wanted.latency_ms,
        "--budget": wanted.budget,
        "--utterance": wanted.utterance,
    }
    for name, value in above_0.items():
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{name} {value:g}: it is a number above 0")
    if wanted.workers is not None and wanted.workers < 1:
        raise UsageError(f"--workers {wanted.workers}: a job needs at least one")
    if inputs and (wanted.hours is not None or wanted.utterance is not None):
        raise UsageError("--hours and --utterance are known of inputs", "Leave them out, or the inputs.")
    if wanted.within is not None and wanted.hours is None and not inputs:
        raise UsageError(
            "--within: hours for how much speech?", "Say --hours, or name what is to be recognised."
        )
    if wanted.hours is not None and wanted.within is None and wanted.rtfx is None and wanted.budget is None:
        raise UsageError(
            "--hours: how fast?",
            "Say --within HOURS, --rtfx SECONDS of speech a second, or --budget DOLLARS.",
        )
    if wanted.latency_ms is not None and (wanted.hours is not None or wanted.within is not None):
        raise UsageError(
            "--latency is for utterances that come one by one, and --hours for those that are there",
            "With --latency say how much comes: --rtfx SECONDS of speech a second.",
        )


def config_of(model: str) -> tuple[ModelConfig, Folder | None]:
    """The configuration of a preset, or of a folder that :func:`hocket.recognition.opening.find` knows."""
    if model in PRESETS and not Path(model).exists():
        return ModelConfig.model_validate({"preset": model, "vocab_size": _TOKENS}), None
    if not model.startswith("hf:") and not Path(model).exists():
        raise UsageError(
            f"--recognize {model}: neither a folder nor a preset", f"Presets are {', '.join(PRESETS)}."
        )
    folder = opening.find(model)
    if folder.kind != "hf":
        return store.load_config(folder.folder), folder
    if not opening.is_parakeet(folder):
        raise UsageError(
            f"--recognize {model}: not a model of hocket's kind, so that what it computes is not known",
            "hocket recognize --workers auto measures instead.",
        )
    return hf.read_config(folder.folder), folder


def ways_of(folder: Folder | None, way: Way) -> str | None:
    """Why a model cannot be recognised in a way; None where it can."""
    if folder is None or folder.kind == "hocket":
        return None
    if folder.kind == "hf" and way.backend == "onnx":
        return "a published model is computed by torch alone"
    if folder.kind == "onnx":
        if way.backend == "torch":
            return "the model was exported: torch computes the run that it is from"
        if not (folder.folder / ONNX[way.precision]).is_file():
            return f"there is no {ONNX[way.precision]} in {folder.folder} (hocket export --int8)"
    return None


def hear(model: str, inputs: Sequence[str], wanted: Wanted) -> Heard:
    """What is to be recognised. Raises :class:`UsageError` for a model or inputs that are not there."""
    config, folder = config_of(model)
    if not inputs:
        return of_typical(wanted.utterance or _UTTERANCE, wanted.hours, config.num_mel_bins)
    longest = MAX_SECONDS if folder is None else longest_piece(folder)
    return of_inputs(inputs, longest, config.num_mel_bins)


def plan(
    model: str,
    inputs: Sequence[str],
    wanted: Wanted,
    sites: Sequence[Site],
    speech: Speech,
    notes: Sequence[str],
) -> RecognitionPlan:
    """Search ``sites`` for the best way to recognise ``speech`` with ``model`` as is ``wanted``.

    Raises :class:`~hocket.core.errors.HocketError` for what the user can mend.
    """
    config, folder = config_of(model)
    goal = Goal(
        rtfx=wanted.rtfx,
        job_seconds=None if wanted.within is None else 3600 * wanted.within,
        latency=None if wanted.latency_ms is None else wanted.latency_ms / 1000,
        budget=wanted.budget,
    )
    for site in sites:
        if wanted.workers is not None and wanted.workers > (site.num_devices or wanted.workers):
            raise UsageError(
                f"--workers {wanted.workers}: {site.name} has {site.num_devices} {site.unit}s",
                "Give fewer, or none.",
            )
    found = search(
        config,
        speech,
        sites,
        goal,
        wanted.objective,
        workers=wanted.workers,
        any_text=wanted.any_text,
        why_not=lambda way: ways_of(folder, way),
    )
    words = tuple(explain.explain(found, config, speech))
    return RecognitionPlan(model, tuple(inputs), folder, config, speech, found, words, tuple(notes))


def commands(made: RecognitionPlan) -> list[str]:
    """What to type, in order: an export where the way needs one, then the recognition."""
    candidate = made.chosen.candidate
    way, site = candidate.way, candidate.site
    model, lines = made.model, list[str]()
    if made.folder is None:
        model = "RUN"
    if way.backend == "onnx" and (made.folder is None or made.folder.kind == "hocket"):
        run, model = model, "exported" if made.folder is None else f"{Path(model).name}-onnx"
        lines.append(
            shlex.join(["hocket", "export", run, model, "--format", "onnx"])
            + (" --int8" if way.precision == "int8" else "")
        )
    words = ["hocket", "recognize", model, *(made.inputs or ("INPUT",)), "--out", "hyps.jsonl"]
    words += ["--workers", str(candidate.workers)]
    size = _ALONE if candidate.batch_seconds is None else candidate.batch_seconds
    words += ["--batch-seconds", f"{size:g}"]
    if way.backend == "torch":
        words += ["--device", site.device]
    if way.precision != "fp32":
        words += ["--precision", way.precision]
    if site.hosts_of(candidate.workers) > 1:
        words += ["--engine", "ray"]
    return [*lines, shlex.join(words)]


_ALONE = 0.01
"""Padded seconds of a micro-batch that no two utterances share."""


def as_answer(made: RecognitionPlan) -> Mapping[str, Any]:
    """For ``--json``: everything with units in the names."""
    goal = made.found.goal
    return {
        "model": made.model,
        "inputs": list(made.inputs),
        "objective": made.found.objective,
        "wanted": {**asdict(goal), "hours_of_speech": made.speech.hours},
        "utterance_seconds": made.speech.mean_seconds,
        "chosen": _told(made.chosen),
        "commands": commands(made),
        "by_way": [_told(each) for each in made.found.by_way],
        "candidates": [_told(each) for each in made.found.ranked],
        "refused": [{**_named(each.candidate), "reason": each.reason} for each in made.found.refused],
        "explanation": list(made.words),
        "notes": list(made.notes),
    }


def _named(candidate: Candidate) -> dict[str, Any]:
    return {
        "hardware": candidate.site.name,
        "backend": candidate.way.backend,
        "precision": candidate.way.precision,
        "batch_seconds": candidate.batch_seconds,
        "workers": candidate.workers,
        "unit": candidate.site.unit,
    }


def _told(each: Ranked) -> dict[str, Any]:
    delay = each.latency
    return {
        **_named(each.candidate),
        "same_text": each.candidate.way.same_text,
        "hosts": each.candidate.site.hosts_of(each.candidate.workers),
        "rtfx": each.throughput.rtfx,
        "job_seconds": each.throughput.job_seconds,
        "seconds_of_a_second": dict(each.throughput.by_kind),
        "latency_p99_seconds": None if delay is None else delay.seconds,
        "waiting_p99_seconds": None if delay is None else delay.waiting,
        "busy": None if delay is None else delay.busy,
        "memory_bytes": each.memory.total,
        "dollars_an_hour": each.dollars_an_hour,
        "dollars": each.dollars,
        "dollars_per_1000_hours": each.dollars_per_1000_hours,
        "watts": each.watts,
    }

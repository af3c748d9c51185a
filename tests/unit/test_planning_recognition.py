"""Forecasts of recognition: throughput, latency, memory, and the search for the least that is enough."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hocket.core.errors import UsageError
from hocket.model import build
from hocket.planning.candidate import Crowding
from hocket.planning.demand import KINDS
from hocket.planning.nominal import PROCESSOR
from hocket.planning.recognizing import rates as stored
from hocket.planning.recognizing.candidate import Found, Goal
from hocket.planning.recognizing.explain import explain
from hocket.planning.recognizing.forecast import latency, makespan, throughput
from hocket.planning.recognizing.memory import worker_memory
from hocket.planning.recognizing.rates import WAYS, MeasuredRates, Way, nominal
from hocket.planning.recognizing.search import search
from hocket.planning.recognizing.speech import Speech
from hocket.recognition.encoders import TorchEncoder
from plans_on_paper import config
from sites_on_paper import rates, site, speech

PLAIN, ONNX, BF16, INT8 = WAYS
ANY = Goal()
ONE = 100 / 4 * 4e-5
"""Seconds of one worker for a second of speech, in torch and fp32: 25 frames of it."""


def test_workers_share_the_work_and_reading_shows_where_cores_do_both() -> None:
    one = throughput(config(), speech(), site(), PLAIN, 60.0, 1)
    four = throughput(config(), speech(), site(), PLAIN, 60.0, 4)
    assert one.rtfx == pytest.approx(1 / ONE)
    assert four.rtfx == pytest.approx(4 * one.rtfx)
    assert one.by_kind["reading"] == 0.0  # beside a device that computes
    full = throughput(config(), speech(), site(device="cpu"), PLAIN, 60.0, 8)
    assert full.rtfx == pytest.approx(8 / (ONE + 1e-3))
    spare = throughput(config(), speech(), site(device="cpu"), PLAIN, 60.0, 4)
    assert spare.rtfx == pytest.approx(4 / ONE)


def test_a_full_host_is_slower_by_its_crowding() -> None:
    crowded = site(crowding=Crowding(arithmetic=1.5))
    alone = throughput(config(), speech(), crowded, PLAIN, 60.0, 1)
    full = throughput(config(), speech(), crowded, PLAIN, 60.0, 8)
    assert full.rtfx == pytest.approx(8 * alone.rtfx / 1.5)


def test_a_job_ends_with_its_last_worker() -> None:
    assert makespan([3.0, 2.0, 2.0], [1, 1, 1], 2) == 4.0
    assert makespan([1.0], [7], 2) == 4.0
    assert makespan([1.0], [1000], 2) == pytest.approx(500, rel=0.01)
    found = throughput(config(), speech(hours=0.1), site(), PLAIN, 60.0, 4)
    assert found.job_seconds == pytest.approx(2.0 + math.ceil(6 / 4) * 60 * ONE)


def test_known_lengths_are_cut_as_a_job_cuts_them() -> None:
    lengths = Speech(np.array([100, 400, 300, 200], np.int64), 1000 / 360_000, known=True)
    parts = lengths.cut(6.0)
    assert [(part.rows, part.frames, part.audio_seconds) for part in parts] == [
        (1, 400, 4.0),
        (2, 300, 5.0),
        (1, 100, 1.0),
    ]
    many = Speech(np.full(10_000, 100, np.int64), 10_000 / 3600, known=True)
    assert sum(part.times * part.audio_seconds for part in many.cut(10.0)) == pytest.approx(10_000)


def test_latency_is_service_and_a_queue_that_grows_with_the_load() -> None:
    def after(workers: int, rtfx: float) -> Any:
        return latency(config(), speech(), site(), PLAIN, workers, rtfx)

    service = 10 * (ONE + 1e-3)
    assert after(1, 0.0).seconds == pytest.approx(service)
    low, high = after(2, 100.0), after(2, 900.0)
    assert low.service == high.service == pytest.approx(service)
    assert 0 < low.waiting < high.waiting
    assert after(3, 900.0).waiting < high.waiting
    assert after(1, 900.0) is None
    # Erlang's C of a load of 2 on 3 workers is 4/9; a service that never varies halves the waiting.
    load_of_two = after(3, 2 * 10 / service)
    assert load_of_two.busy == pytest.approx(2 / 3)
    assert load_of_two.waiting == pytest.approx(math.log(4 / 9 / 0.01) * service / 2)


def _peak(way: Way, rows: int, frames: int, **changes: Any) -> tuple[float, float]:
    """(Said, measured) bytes that a forward pass needs beside the model."""
    small = config(num_layers=2, **changes)
    encoder = TorchEncoder(build(small, seed=0).eval(), torch.device("cpu"), way.precision)
    features = [torch.zeros(frames, 80) for _ in range(rows)]
    encoder.encode(features, frames)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        encoder.encode(features, frames)
    now = most = 0
    events = [each for each in profile.profiler.kineto_results.events() if each.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return worker_memory(small, way, rows, frames).passing, float(most)


@pytest.mark.parametrize(
    ("way", "rows", "frames", "changes"),
    [
        (PLAIN, 16, 400, {}),
        (PLAIN, 2, 1600, {"subsampling_channels": 8}),
        (BF16, 2, 1600, {"subsampling_channels": 8}),
        (PLAIN, 8, 400, {"subsampling_channels": 8, "ff_size": 2048}),
        (PLAIN, 8, 400, {"subsampling_channels": 8, "vocab_size": 4000}),
    ],
)
def test_memory_is_what_a_forward_pass_needs(
    way: Way, rows: int, frames: int, changes: dict[str, Any]
) -> None:
    said, measured = _peak(way, rows, frames, **changes)
    assert said == pytest.approx(measured, rel=0.2)


def _search(goal: Goal = ANY, sites: list[Any] | None = None, **changes: Any) -> Found:
    hours = changes.pop("hours", None)
    return search(config(), speech(hours=hours), sites or [site()], goal, **changes)


def test_with_a_speed_that_is_wanted_the_fewest_workers_and_the_same_words() -> None:
    found = _search(Goal(rtfx=1900.0))
    assert found.chosen.candidate.way == ONNX  # twice as fast, and the same text
    assert found.chosen.candidate.workers == 1
    fewest = {str(each.candidate.way): each.candidate.workers for each in found.ranked}
    assert fewest == {"torch fp32": 2, "onnx fp32": 1, "torch bf16": 1, "onnx int8": 1}
    lossy = _search(Goal(rtfx=15_000.0), [site(num_devices=4)], any_text=True).chosen
    assert (lossy.candidate.way, lossy.candidate.workers) == (INT8, 4)
    with pytest.raises(UsageError, match=r"nothing does what is wanted.*8,000 s of speech"):
        _search(Goal(rtfx=15_000.0), [site(num_devices=4)])


def test_without_a_wish_the_fastest_and_the_plainest_of_those_that_are_as_good() -> None:
    chosen = _search().chosen
    assert (chosen.candidate.way, chosen.candidate.workers) == (ONNX, 8)
    job = _search(hours=0.01).chosen  # starting takes as long with all: the plainest is taken
    assert (job.candidate.way, job.candidate.workers) == (PLAIN, 1)
    alike = rates(encoding={way: rates().encoding[PLAIN] for way in WAYS})
    assert _search(sites=[site(rates=alike)]).chosen.candidate.way == PLAIN


def test_the_cheapest_place_is_taken_and_a_budget_holds() -> None:
    dear = site(name="dear", price_per_hour=3.0, rates=rates())
    cheap = site(name="cheap", price_per_hour=1.0)
    goal = Goal(rtfx=3000.0)
    chosen = _search(goal, [dear, cheap]).chosen
    assert (chosen.candidate.site.name, chosen.dollars_an_hour) == ("cheap", 2.0)
    assert chosen.dollars_per_1000_hours == pytest.approx(1000 * 2.0 / chosen.throughput.rtfx)
    with pytest.raises(UsageError, match=r"it costs \$6.00, and the budget is \$0.50"):
        _search(Goal(rtfx=3000.0, budget=0.5), [dear])
    job = _search(Goal(job_seconds=3600.0), [cheap], hours=4000.0).chosen
    assert job.throughput.job_seconds is not None and job.throughput.job_seconds <= 3600
    assert job.dollars == pytest.approx(job.candidate.workers * job.throughput.job_seconds / 3600)
    for wrong, said in ((Goal(budget=1.0), "--budget"), (Goal(), "--objective cost")):
        with pytest.raises(UsageError, match=f"{said}: paper has no price"):
            _search(wrong, objective="cost" if "cost" in said else "time")
    with pytest.raises(UsageError, match="has no power"):
        _search(objective="energy")


def test_a_job_is_priced_as_a_whole_and_not_by_the_hour() -> None:
    beginning = {"trellis": 4e-5, "micro_batch": 0.1}  # seconds: small micro-batches are slow
    slow = rates(encoding={way: tuple(beginning.get(kind, 0.0) for kind in KINDS) for way in WAYS})
    found = _search(Goal(job_seconds=24 * 3600.0), [site(price_per_hour=1.0, rates=slow)], hours=1000.0)
    least = min(each.dollars for each in found.ranked if each.dollars is not None)
    assert found.chosen.dollars is not None and found.chosen.dollars <= 1.05 * least
    assert found.chosen.candidate.batch_seconds is not None and found.chosen.candidate.batch_seconds > 10


def test_as_many_devices_as_are_needed_where_nobody_counts_them() -> None:
    chosen = _search(Goal(rtfx=100_000.0), [site(num_devices=None)]).chosen
    assert chosen.candidate.workers == 50
    assert chosen.candidate.site.hosts_of(50) == 7


def test_what_is_too_large_or_cannot_be_had_is_left_out_with_the_reason() -> None:
    small = site(memory_bytes=1.5e9, lacking={INT8: "no such thing here"})
    found = _search(Goal(rtfx=100.0), [small], why_not=lambda way: "not exported" if way == ONNX else None)
    reasons = {(str(each.candidate.way), each.candidate.batch_seconds): each.reason for each in found.refused}
    assert reasons["onnx int8", 10.0] == "no such thing here"
    assert reasons["onnx fp32", 10.0] == "not exported"
    assert (
        "a worker needs" in reasons["torch fp32", 1200.0]
        and "it can have 1.4 GB" in reasons["torch fp32", 1200.0]
    )
    assert found.chosen.memory.total + 1e9 <= 0.9 * 1.5e9
    said = " ".join(explain(found, config(), speech()))
    assert "no such thing here" in said and "not exported" in said


def test_a_latency_that_is_wanted_takes_utterances_one_by_one() -> None:
    found = _search(Goal(latency=0.025, rtfx=900.0))
    chosen = found.chosen
    assert chosen.candidate.batch_seconds is None and chosen.latency is not None
    assert chosen.latency.seconds <= 0.025
    fewer = latency(config(), speech(), site(), chosen.candidate.way, chosen.candidate.workers - 1, 900.0)
    assert fewer is None or fewer.seconds > 0.025
    with pytest.raises(UsageError, match="a text comes 15 ms after its utterance, and 1 ms are wanted"):
        _search(Goal(latency=0.001))
    said = " ".join(explain(found, config(), speech()))
    assert "Every utterance is recognised by itself" in said and "in line" in said


def test_rates_follow_from_peaks_and_int8_has_a_peak_of_its_own() -> None:
    peaks = {"fp32": 1e12, "bf16": 4e12, "int8": 8e12, "memory": 1e11}
    found = nominal(peaks, PROCESSOR)
    assert set(found.encoding) == set(WAYS)
    seconds = {way: found.seconds(config(hidden_size=512, ff_size=2048), way, 8, 1000) for way in WAYS}
    assert seconds[PLAIN] == seconds[ONNX] > seconds[INT8] > 0
    plain = {"fp32": 1e12, "bf16": 1e12, "memory": 1e11}  # no units for bf16: it is widened
    assert set(nominal(plain, PROCESSOR).encoding) == {PLAIN, ONNX}


def test_measured_rates_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    told = MeasuredRates({"cpu": "EPYC"}, "cpu", rates(spread=0.1), {"onnx int8": "none"})
    told.write(path)
    assert stored.read(path) == told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not rates of recognition"),
        ("[]", "not rates of recognition"),
        ('{"version": 9}', "of version 9"),
        ('{"version": 1, "kinds": ["steps"]}', "other kinds of work"),
        (None, "No such file"),
    ],
)
def test_a_spoilt_file_of_rates_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as refused:
        stored.read(path)
    assert said in str(refused.value) and "--calibrate" in str(refused.value.hint)

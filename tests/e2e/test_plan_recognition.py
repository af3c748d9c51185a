"""``hocket plan --recognize`` as a user types it; this machine is given rates: nothing is measured."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Hocket, Trained

from hocket.hardware import host
from hocket.hardware.device import describe
from hocket.planning.recognizing.rates import MeasuredRates
from profiles import machine
from sites_on_paper import rates

T4 = ("--hardware", "T4:1x4")


def test_the_command_of_a_plan_for_this_machine_does_what_was_planned(
    hocket: Hocket,
    hocket_here: Hocket,
    corpus: Path,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = machine()
    own = host.describe()
    devices = (replace(here.devices[0], count=own.cores),)
    cache = tmp_path / "hocket"
    cache.mkdir()
    replace(here, host=own, devices=devices).write(cache / "machine.json")
    lacking = {"onnx fp32": "no ONNX here", "onnx int8": "no ONNX here"}
    torch_alone = {way: each for way, each in rates().encoding.items() if way.backend == "torch"}
    measured = MeasuredRates(describe(), "cpu", rates(encoding=torch_alone), lacking)
    measured.write(cache / "recognition-cpu.json")
    page = tmp_path / "plan.html"
    words = ("plan", "--recognize", trained.folder, f"{corpus}:train", "--within", "1", "--out", page)
    told = hocket_here(*words, "--json").answer()
    (command,) = told["commands"]
    chosen = told["chosen"]
    assert (chosen["workers"], chosen["backend"], chosen["same_text"]) == (1, "torch", True)
    assert chosen["job_seconds"] < 3600 and told["wanted"]["hours_of_speech"] > 0
    left_out = {each["backend"]: each["reason"] for each in told["refused"]}
    assert left_out == {"onnx": "no ONNX here"}
    drawn = page.read_text()
    assert "<svg" in drawn and command in drawn.replace("&#x27;", "'")
    shown = hocket_here(*words, "--explain").out
    assert "Run 1 worker" in shown and "no ONNX here" in shown and "hocket recognize" in shown
    _, *typed = shlex.split(command)
    done = hocket(*typed, "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    report = done.answer()
    assert (report["workers"], report["batch_seconds"]) == (1, chosen["batch_seconds"])
    assert report["num_failed"] == 0 and (tmp_path / "hyps.jsonl").is_file()


def test_hardware_is_compared_and_the_cheapest_that_is_enough_is_taken(
    hocket_here: Hocket, tmp_path: Path
) -> None:
    words = ("--recognize", "large", "--rtfx", "20000", "--out", tmp_path / "plan.html")
    cards = ("--hardware", "RTX 4090", "--hardware", "RTX 3090")
    told = hocket_here("plan", *words, *cards, "--json").answer()
    best = {each["hardware"]: each for each in told["by_way"] if each["precision"] == "fp32"}
    assert set(best) == {"RTX 4090", "RTX 3090"}
    least = min(each["dollars_an_hour"] for each in best.values())
    assert least <= told["chosen"]["dollars_an_hour"] <= 1.03 * least
    assert told["chosen"]["rtfx"] >= 20_000
    assert told["commands"][0].startswith("hocket recognize RUN INPUT --out hyps.jsonl --workers")
    assert any("ONNX on CPUs alone" in each["reason"] for each in told["refused"])


def test_latency_and_a_backend_that_needs_an_export(hocket_here: Hocket, tmp_path: Path) -> None:
    words = ("--recognize", "base", "--latency", "2000", "--rtfx", "2000", "--any-answer", "--out")
    cpu = ("--hardware", "Xeon Platinum 8280:1x4", "--price", "0.04")
    told = hocket_here("plan", *words, tmp_path / "plan.html", *cpu, "--json").answer()
    chosen = told["chosen"]
    assert 0 < chosen["latency_p99_seconds"] <= 2.0 and chosen["batch_seconds"] is None
    assert (chosen["backend"], chosen["precision"]) == ("onnx", "int8")
    assert {each["reason"] for each in told["refused"]} == {f"{chosen['hardware']} has no units for bf16"}
    assert told["commands"][0] == "hocket export RUN exported --format onnx --int8"
    assert "--batch-seconds 0.01 --precision int8" in told["commands"][1]
    assert chosen["dollars_an_hour"] == pytest.approx(0.04 * chosen["workers"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--recognize", "huge"), ("huge", "neither a folder nor a preset", "xlarge")),
        (("--recognize", "base", "--rtfx", "-1"), ("--rtfx -1", "above 0")),
        (("--recognize", "base", "--rtfx", "nan"), ("--rtfx nan", "above 0")),
        (("--recognize", "base", "--latency", "0"), ("--latency 0", "above 0")),
        (("--recognize", "base", "--within", "2"), ("--within", "--hours")),
        (("--recognize", "base", "--hours", "2"), ("--hours: how fast?", "--within")),
        (("--recognize", "base", "--hours", "2", "--within", "1", "--latency", "9"), ("--latency", "--rtfx")),
        (("--recognize", "base", "--workers", "0"), ("--workers 0", "at least one")),
        (("--recognize", "base", "--workers", "9", *T4), ("--workers 9", "4 devices")),
        (("--recognize", "base", "--rtfx", "1e9", *T4), ("nothing does what is wanted", "Want less")),
        (("--recognize", "base", "--budget", "1", *T4), ("has no price", "--price")),
        (("--recognize", "base", "--objective", "cost", *T4), ("has no price", "--price")),
        (("--recognize", "base", "--price", "1", *T4, "--hardware", "L4"), ("--price", "of which hardware")),
        (("--recognize", "base", "--hardware", "T44"), ("T44", "T4")),
        (("--recognize", "base", "--hardware", "TPU v4"), ("recognition runs on CPUs and GPUs", "How an")),
        (("--recognize", "base", "--network", "switch:link=1Gbit"), ("--network goes with a recipe",)),
        (("--recognize", "base", "--set", "seed=1"), ("--set goes with a recipe",)),
        (("--recognize", "base", "gone.wav"), ("gone.wav",)),
        (("--recognize", "base", "x.wav", "--hours", "1", "--within", "1"), ("--hours", "known of inputs")),
        (("--rtfx", "3", "x.yaml"), ("--rtfx goes with --recognize",)),
        ((), ("which recipe?", "--recognize")),
        (("a.yaml", "b.yaml"), ("2 recipes",)),
        (("a.yaml", *T4, *T4), ("--hardware: several",)),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    words: tuple[str, ...], said: tuple[str, ...], hocket_here: Hocket, tmp_path: Path
) -> None:
    page = tmp_path / "plan.html"
    hocket_here("plan", *words, "--out", page).refused(2, *said)
    assert not page.exists()

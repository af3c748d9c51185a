"""Recognition jobs on real worker processes: the same answers from any number of them, and after losses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hocket.comms.supervision import is_running
from hocket.core.errors import HocketError, RunError, UsageError
from hocket.corpus import audio
from hocket.corpus.tokens import CharTokens
from hocket.model import ModelConfig, build, store
from hocket.recognition import hypotheses, inputs
from hocket.recognition.compare import differing
from hocket.recognition.coordinator import Endurance
from hocket.recognition.job import MAX_SECONDS, find_model, journal_path, recognize
from hocket.recognition.journal import read_fingerprint
from hocket.recognition.plan import make_plan
from hocket.recognition.recognizer import Recognizer
from hocket.recognition.report import JobProgress
from hocket.recognition.survey import survey
from jobs import await_end

BATCH_SECONDS = 5.0
NUM_FILES = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of random weights: it babbles, and what it babbles depends on every frame."""
    folder = tmp_path_factory.mktemp("run") / "model"
    tokens = CharTokens.train(["abcdefghijklmnopqrstuvwxyz '"])
    config = ModelConfig.model_validate({"preset": "tiny", "num_layers": 2, "vocab_size": tokens.vocab_size})
    store.save(folder, build(config, seed=1))
    tokens.save(folder)
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    random = np.random.default_rng(4)
    for number in range(NUM_FILES):
        rate = int(random.choice([8000, 16_000, 22_050]))
        time_N = np.arange(round(random.uniform(0.3, 2.5) * rate)) / rate
        chirps = sum(np.sin(random.uniform(500, 9000) * time_N**p) for p in (1.0, 1.3, 0.7))
        soundfile.write(folder / f"{number:02}.wav", 0.1 * chirps + random.normal(0, 0.02, len(time_N)), rate)
    return folder


@pytest.fixture(scope="module")
def reference(model: Path, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker answers."""
    out = tmp_path_factory.mktemp("one") / "hyps.jsonl"
    report = recognize(model, [str(sounds)], out, batch_seconds=BATCH_SECONDS)
    assert (report.num_utterances, report.num_failed, report.restarts) == (NUM_FILES, 0, 0)
    return out


def gone(pids: set[int]) -> bool:
    """Whether all these processes have ended."""
    return not any(is_running(pid) for pid in pids)


class Saboteur:
    """Watches a job; sends a signal to a worker as told by ``choose``. Collects pids."""

    def __init__(self, choose: Callable[[JobProgress], int | None], number: signal.Signals) -> None:
        self._choose, self._number = choose, number
        self.pids: set[int] = set()
        self.hit: list[int] = []

    def __call__(self, progress: JobProgress) -> None:
        together(progress, spare=self.hit)
        self.pids |= {worker.pid for worker in progress.workers}
        pid = self._choose(progress)
        if pid is not None and pid not in self.hit:
            self.hit.append(pid)
            os.kill(pid, self._number)


def together(progress: JobProgress, spare: Sequence[int] = ()) -> None:
    """Hold back workers that are ready until all are, so that all of them take part."""
    ready = [worker.pid for worker in progress.workers if worker.ready]
    for pid in set(ready).difference(spare):
        os.kill(pid, signal.SIGCONT if len(ready) == len(progress.workers) else signal.SIGSTOP)


def test_answers_are_in_order_and_say_what_is_known(reference: Path, sounds: Path) -> None:
    found = hypotheses.read(reference)
    assert [h.id for h in found] == [str(sounds / f"{number:02}.wav") for number in range(NUM_FILES)]
    assert len({h.text for h in found}) > NUM_FILES // 2, "the model's babble must depend on the sound"
    for hypothesis in found:
        info = soundfile.info(hypothesis.id)
        assert hypothesis.duration == pytest.approx(info.frames / info.samplerate, abs=2e-4)


def test_any_number_of_workers_gives_the_same_file(
    model: Path, sounds: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hyps.jsonl"
    report = recognize(model, [str(sounds)], out, workers=3, batch_seconds=BATCH_SECONDS, progress=together)
    assert out.read_bytes() == reference.read_bytes()
    plan = make_plan(survey(inputs.collect([str(sounds)]), MAX_SECONDS), BATCH_SECONDS)
    assert (report.num_micro_batches, report.padding) == (len(plan.micro_batches), plan.padding)
    assert report.workers == len(report.per_worker) == 3
    assert sum(worker.num_utterances for worker in report.per_worker) == NUM_FILES
    assert sum(worker.num_micro_batches for worker in report.per_worker) == report.num_micro_batches > 6
    assert 0.0 < report.startup_seconds < report.wall_seconds
    assert report.rtfx == pytest.approx(report.audio_seconds / report.wall_seconds, rel=1e-4)
    for worker in report.per_worker:
        assert worker.lost is None and worker.startup_seconds > 0.0
        assert worker.num_micro_batches > 0 and worker.encode_seconds > 0.0
    assert gone({worker.pid for worker in report.per_worker})


def test_the_python_api_answers_as_the_job_does(model: Path, sounds: Path, reference: Path) -> None:
    recognizer = Recognizer.load(model, device="cpu")
    waveforms = [audio.read(path) for path in sorted(sounds.iterdir())]
    found = recognizer.transcribe(waveforms, batch_seconds=BATCH_SECONDS)
    assert [h.text for h in found] == [h.text for h in hypotheses.read(reference)]


def test_killed_workers_are_replaced_and_nothing_changes(
    model: Path, sounds: Path, reference: Path, tmp_path: Path
) -> None:
    """SIGKILL for one that still starts, and for one that holds work after the first answer came."""

    def choose(progress: JobProgress) -> int | None:
        starting = [worker.pid for worker in progress.workers if not worker.ready]
        busy = [worker.pid for worker in progress.workers if worker.held]
        if not saboteur.hit:
            return starting[0] if starting else None
        return busy[0] if len(saboteur.hit) == 1 and progress.num_done and busy else None

    saboteur = Saboteur(choose, signal.SIGKILL)
    out = tmp_path / "hyps.jsonl"
    report = recognize(model, [str(sounds)], out, workers=2, batch_seconds=BATCH_SECONDS, progress=saboteur)
    assert out.read_bytes() == reference.read_bytes()
    assert len(report.losses) == len(saboteur.hit) == 2 and report.restarts in (1, 2)
    for pid, loss in zip(saboteur.hit, report.losses, strict=True):
        assert f"(pid {pid}) was ended by SIGKILL" in loss
    assert sum(worker.num_micro_batches for worker in report.per_worker) == report.num_micro_batches
    assert report.num_failed == 0 and not hypotheses.failures_path(out).exists()
    assert gone(saboteur.pids)


def test_a_micro_batch_that_kills_three_workers_is_listed(
    model: Path, sounds: Path, reference: Path, tmp_path: Path
) -> None:
    """Whoever is handed the largest micro-batch dies; all else is answered as ever."""

    def choose(progress: JobProgress) -> int | None:
        return next((worker.pid for worker in progress.workers if 0 in worker.held), None)

    saboteur = Saboteur(choose, signal.SIGKILL)
    out = tmp_path / "hyps.jsonl"
    report = recognize(model, [str(sounds)], out, batch_seconds=BATCH_SECONDS, progress=saboteur)
    plan = make_plan(survey(inputs.collect([str(sounds)]), MAX_SECONDS), BATCH_SECONDS)
    poisoned = {plan.items[position].id for position in plan.micro_batches[0].tolist()}
    failed = [json.loads(line) for line in hypotheses.failures_path(out).read_text().splitlines()]
    assert {failure["id"] for failure in failed} == poisoned
    assert all("3 workers died" in failure["reason"] for failure in failed)
    assert len(saboteur.hit) == len(report.losses) == 3
    assert report.num_failed == len(poisoned)
    expected = [h for h in hypotheses.read(reference) if h.id not in poisoned]
    assert hypotheses.read(out) == expected
    assert gone(saboteur.pids)


def test_a_silent_worker_is_ended_and_replaced(
    model: Path, sounds: Path, reference: Path, tmp_path: Path
) -> None:
    """It is stopped just before it is handed the third micro-batch, which it so cannot answer."""

    def choose(progress: JobProgress) -> int | None:
        return next((w.pid for w in progress.workers if 2 in w.held and not saboteur.hit), None)

    saboteur = Saboteur(choose, signal.SIGSTOP)
    out = tmp_path / "hyps.jsonl"
    report = recognize(
        model,
        [str(sounds)],
        out,
        batch_seconds=BATCH_SECONDS,
        endurance=Endurance(silence_seconds=0.5),
        progress=saboteur,
    )
    assert out.read_bytes() == reference.read_bytes()
    (stopped,) = [loss for loss in report.losses if f"(pid {saboteur.hit[0]})" in loss]
    assert "of silence" in stopped
    assert report.restarts == len(report.losses)  # of others, too, where the machine itself stands still
    assert gone(saboteur.pids)


def test_when_no_worker_is_left_the_rest_is_listed(model: Path, sounds: Path, tmp_path: Path) -> None:
    def choose(progress: JobProgress) -> int | None:
        return next((w.pid for w in progress.workers if w.held and progress.num_done > 0), None)

    saboteur = Saboteur(choose, signal.SIGKILL)
    out = tmp_path / "hyps.jsonl"
    report = recognize(
        model,
        [str(sounds)],
        out,
        batch_seconds=BATCH_SECONDS,
        endurance=Endurance(max_restarts=1),
        progress=saboteur,
    )
    assert 0 < report.num_utterances < NUM_FILES
    assert report.num_utterances + report.num_failed == NUM_FILES
    assert report.restarts == 1 and len(report.losses) == 2
    assert "no worker was left after 1 restarts" in hypotheses.failures_path(out).read_text()


def test_bad_files_are_listed_and_the_rest_is_answered(
    model: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some show it in the header, some only when the worker decodes them."""
    monkeypatch.chdir(tmp_path)
    good = sounds / "03.wav"
    Path("text.wav").write_text("no audio")
    Path("empty.wav").write_bytes(b"")
    samples, rate = soundfile.read(sounds / "01.wav")
    soundfile.write("torn.flac", samples, rate)
    Path("torn.flac").write_bytes(Path("torn.flac").read_bytes()[:-400])
    samples[5] = np.nan
    soundfile.write("nan.wav", samples, rate, subtype="FLOAT")
    rows = [
        {"id": "missing", "audio": "missing.wav"},
        {"id": "fine", "audio": str(good), "text": "a b", "speaker": "x"},
    ]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"id": \n')
    names = ["text.wav", "empty.wav", str(good), "torn.flac", "nan.wav", "t.jsonl"]
    report = recognize(model, names, Path("hyps.jsonl"), workers=64)
    assert report.workers == report.num_micro_batches == 1, "never more workers than micro-batches"
    first, second = hypotheses.read(Path("hyps.jsonl"))
    assert (first.id, second.id, second.ref, second.speaker) == (str(good), "fine", "a b", "x")
    assert first.text == second.text
    failed = {
        f["id"]: f["reason"] for f in map(json.loads, Path("hyps.failed.jsonl").read_text().splitlines())
    }
    words = {
        "text.wav": "not audio",
        "empty.wav": "the file is empty",
        "torn.flac": "truncated",
        "nan.wav": "NaN",
        "missing": "missing.wav: no such file",
        "t.jsonl:3": "t.jsonl:3: not JSON",
    }
    assert list(failed) == list(words), "in the order of the input"
    for id, word in words.items():
        assert word in failed[id]
    assert (report.num_utterances, report.num_failed, report.failed) == (2, 6, Path("hyps.failed.jsonl"))


def test_nothing_readable_needs_no_worker(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no audio")
    out = tmp_path / "hyps.jsonl"
    report = recognize(model, [str(tmp_path)], out, workers=3)
    assert (report.workers, report.num_utterances, report.num_failed, report.rtfx) == (0, 0, 1, 0.0)
    assert out.read_text() == ""


def test_batch_sizes_give_the_same_transcripts(model: Path, sounds: Path, reference: Path) -> None:
    recognizer = Recognizer.load(model, device="cpu")
    paths = sorted(sounds.iterdir())
    waveforms = [audio.read(path) for path in paths]
    for size in (1, 8, 64):
        found = recognizer.transcribe(waveforms, batch_seconds=1000.0, max_utterances=size)
        named = [replace(h, id=str(path)) for h, path in zip(found, paths, strict=True)]
        assert differing(hypotheses.read(reference), named) == []


def finished(out: Path) -> list[int]:
    """Numbers of the micro-batches in a journal, in its order."""
    lines = [json.loads(line[9:]) for line in journal_path(out).read_bytes().splitlines()]
    return [line["done"] for line in lines if "done" in line]


def test_an_interrupted_job_leaves_no_process_and_goes_on(
    model: Path, sounds: Path, reference: Path, tmp_path: Path
) -> None:
    """Nothing that was finished is done again, and the end is the same file."""
    pids: set[int] = set()

    def interrupt(progress: JobProgress) -> None:
        pids.update(worker.pid for worker in progress.workers)
        if progress.num_done:
            raise KeyboardInterrupt

    out = tmp_path / "hyps.jsonl"
    with pytest.raises(KeyboardInterrupt):
        recognize(model, [str(sounds)], out, workers=2, batch_seconds=BATCH_SECONDS, progress=interrupt)
    assert len(pids) == 2 and gone(pids)
    assert list(tmp_path.iterdir()) == [journal_path(out)]
    before = finished(out)
    assert before
    report = recognize(model, [str(sounds)], out, batch_seconds=BATCH_SECONDS)
    assert out.read_bytes() == reference.read_bytes()
    assert finished(out)[: len(before)] == before
    assert sorted(finished(out)) == list(range(report.num_micro_batches))
    assert sum(worker.num_micro_batches for worker in report.per_worker) == report.num_micro_batches - len(
        before
    )
    assert 0 < report.num_earlier < report.num_utterances == NUM_FILES


def test_a_finished_job_is_not_run_again_but_written_in_other_ways(
    model: Path, sounds: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hyps.jsonl"
    recognize(model, [str(sounds)], out, batch_seconds=BATCH_SECONDS)
    texts = tmp_path / "hyps.txt"
    report = recognize(model, [str(sounds)], [out, texts], order="finished")
    assert (report.workers, report.num_earlier, report.num_utterances) == (0, NUM_FILES, NUM_FILES)
    assert report.batch_seconds == BATCH_SECONDS, "the journal's, where nobody asks for another"
    found = hypotheses.read(out)
    assert texts.read_text() == "".join(f"{hypothesis.text}\n" for hypothesis in found)
    assert [h.id for h in found] != [h.id for h in hypotheses.read(reference)]
    assert sorted(found, key=lambda h: h.id) == hypotheses.read(reference)


def test_a_journal_of_other_inputs_or_settings_is_refused(model: Path, sounds: Path, tmp_path: Path) -> None:
    copied = tmp_path / "sounds"
    shutil.copytree(sounds, copied)
    out = tmp_path / "hyps.jsonl"
    recognize(model, [str(copied)], out)
    with pytest.raises(RunError, match="batch_seconds"):
        recognize(model, [str(copied)], out, batch_seconds=7.0)
    os.utime(copied / "03.wav", (1, 1))
    with pytest.raises(RunError, match="what differs: inputs"):
        recognize(model, [str(copied)], out)
    report = recognize(model, [str(copied)], out, fresh=True)
    assert report.num_earlier == 0


def test_long_audio_is_recognised_in_pieces_by_all_workers(model: Path, sounds: Path, tmp_path: Path) -> None:
    """The answer is that of the pieces; where they were cut is the survey's business."""
    parts = [audio.read(path) for path in sorted(sounds.iterdir())]
    gap = np.zeros(8000, np.float32)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.concatenate([x for part in parts for x in (part, gap)]), 16_000, subtype="FLOAT")
    out = tmp_path / "hyps.jsonl"
    inputs_ = [str(long), str(sounds / "00.wav")]
    report = recognize(model, inputs_, out, workers=2, batch_seconds=8.0, max_seconds=4.0, progress=together)
    assert (report.num_utterances, report.num_failed) == (2, 0)
    assert report.num_pieces > 10 and all(worker.num_micro_batches > 1 for worker in report.per_worker)
    whole, short = hypotheses.read(out)
    assert whole.duration == pytest.approx(soundfile.info(long).duration, abs=1e-3)
    plan = make_plan(survey(inputs.collect([str(long)]), 4.0), 8.0)
    starts, nums = plan.piece_start.tolist(), plan.piece_num.tolist()
    waveforms = [audio.read(long, None, *piece) for piece in zip(starts, nums, strict=True)]
    assert sum(map(len, waveforms)) == soundfile.info(long).frames
    found = Recognizer.load(model, device="cpu").transcribe(waveforms, batch_seconds=8.0)
    assert whole.text == " ".join(h.text for h in found if h.text)
    assert short.text


def test_workers_and_batch_are_chosen_by_measuring_and_the_choice_is_kept(
    model: Path, sounds: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hyps.jsonl"
    report = recognize(model, [str(sounds)], out, workers=None)
    assert report.tuning is not None and f"micro-batches of {report.batch_seconds:g} s" in report.tuning
    assert report.num_utterances == NUM_FILES
    settings = (read_fingerprint(journal_path(out)) or {})["settings"]
    assert settings["batch_seconds"] == report.batch_seconds
    again = recognize(model, [str(sounds)], out, workers=1)
    assert again.num_earlier == NUM_FILES


SCRIPT = """
import os, signal, sys
from pathlib import Path
from hocket.recognition.job import recognize

def tell(progress):
    ready = [worker.pid for worker in progress.workers if worker.ready]
    for pid in ready:  # who is ready first must not do all of the work alone
        os.kill(pid, signal.SIGCONT if len(ready) == len(progress.workers) else signal.SIGSTOP)
    if all(worker.held for worker in progress.workers):
        print(*(worker.pid for worker in progress.workers), flush=True)
        sys.stdin.readline()

recognize(Path(sys.argv[1]), [sys.argv[2]], Path(sys.argv[3]), workers=2, max_utterances=1, progress=tell)
"""


def test_workers_die_with_a_coordinator_that_is_killed(model: Path, sounds: Path, tmp_path: Path) -> None:
    """A plain script without a ``__main__`` guard starts workers and is killed while both have work."""
    command = [sys.executable, "-c", SCRIPT, str(model), str(sounds), str(tmp_path / "hyps.jsonl")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as script:
        assert script.stdout is not None
        pids = {int(pid) for pid in script.stdout.readline().split()}
        assert len(pids) == 2
        script.kill()
        await_end(pids)
    report = recognize(model, [str(sounds)], tmp_path / "hyps.jsonl", max_utterances=1)
    assert report.num_utterances == NUM_FILES


def test_errors_of_the_model_folder_come_before_any_worker(model: Path, sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "hyps.jsonl"
    with pytest.raises(HocketError, match="gone"):
        recognize(tmp_path / "gone", [str(sounds)], out)
    with pytest.raises(HocketError, match="no such run folder"):
        find_model(tmp_path / "gone")
    assert find_model(model.parent) == find_model(model) == model
    for settings in (
        {"workers": 0},
        {"threads": 0},
        {"device": "abacus"},
        {"precision": "fp7"},
        {"engine": "steam"},
    ):
        with pytest.raises(UsageError):
            recognize(model, [str(sounds)], out, **settings)


def test_a_damaged_model_is_named_once_and_ends_the_job(model: Path, sounds: Path, tmp_path: Path) -> None:
    """Only a worker reads the weights: what it finds there is the job's error, with no restarts."""
    broken = tmp_path / "model"
    broken.mkdir()
    for path in model.iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data if path.suffix != ".safetensors" else data[: len(data) // 2])
    with pytest.raises(HocketError, match=r"model\.safetensors"):
        recognize(broken, [str(sounds)], tmp_path / "hyps.jsonl", workers=2)

"""The Python API of recognition: what it answers, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hocket.core.errors import AudioError, UsageError
from hocket.corpus.tokens import CharTokens
from hocket.decoding.greedy import greedy
from hocket.model import FastConformerCTC, ModelConfig, build
from hocket.recognition.engine import Engine
from hocket.recognition.items import Item
from hocket.recognition.messages import Lease
from hocket.recognition.reading import Loaded, Readers
from hocket.recognition.recognizer import Recognizer

TOKENS = CharTokens.train(["abcdefgh "])


@pytest.fixture(scope="module")
def model() -> FastConformerCTC:
    torch.set_num_threads(1)
    config = ModelConfig.model_validate({"preset": "tiny", "num_layers": 1, "vocab_size": TOKENS.vocab_size})
    return build(config, seed=3)


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)


def test_transcripts_come_in_the_order_of_the_waveforms(model: FastConformerCTC) -> None:
    """Each as if it were alone, decoded by hand."""
    recognizer = Recognizer(model, TOKENS)
    waveforms = [noise(seconds, seed) for seed, seconds in enumerate([0.4, 2.0, 0.01, 1.1, 1.1])]
    found = recognizer.transcribe(waveforms, batch_seconds=3.0)
    assert [h.id for h in found] == ["0", "1", "2", "3", "4"]
    assert [h.duration for h in found] == [0.4, 2.0, 0.01, 1.1, 1.1]
    assert found[3].text != found[4].text
    for hypothesis, waveform in zip(found, waveforms, strict=True):
        features_BTF = recognizer.features(waveform)[None]
        with torch.inference_mode():
            logits_BTV, lens_B = model(features_BTF, torch.tensor([features_BTF.shape[1]]), None)
        assert hypothesis.text == TOKENS.decode(greedy(logits_BTV, lens_B, TOKENS.blank)[0])
    assert recognizer.transcribe([]) == []


def test_bf16_is_offered_and_close(model: FastConformerCTC) -> None:
    texts = [
        Recognizer(model, TOKENS, precision=precision).transcribe([noise(3.0, 1)])[0].text
        for precision in ("fp32", "bf16")
    ]
    assert texts[0] and abs(len(texts[0]) - len(texts[1])) < 0.3 * len(texts[0])


@pytest.mark.parametrize("waveform", [np.zeros(159, np.float32), np.zeros((2, 16_000), np.float32)])
def test_a_waveform_that_is_none_is_named(model: FastConformerCTC, waveform: np.ndarray) -> None:
    with pytest.raises(AudioError, match="waveform 1"):
        Recognizer(model, TOKENS).transcribe([noise(1.0, 0), waveform])


def test_output_that_is_not_finite_is_no_transcript(model: FastConformerCTC) -> None:
    """One utterance of NaN says so and leaves its neighbour in the micro-batch alone."""
    recognizer = Recognizer(model, TOKENS)
    good_TF = recognizer.features(noise(1.0, 0))
    alone = recognizer.recognize([good_TF], 100).transcripts
    assert recognizer.recognize([good_TF, torch.full_like(good_TF, torch.nan)], 100).transcripts == (
        *alone,
        None,
    )
    with pytest.raises(AudioError, match="waveform 0: the model's output is not finite"):
        recognizer.transcribe([np.full(16_000, np.nan, np.float32)])


def test_what_does_not_fit_into_memory_is_a_reason(
    model: FastConformerCTC, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = object.__new__(Engine)
    engine._recognizer = Recognizer(model, TOKENS)
    lease = Lease(0, 100, (Item("a", Path("a.wav")), Item("b", Path("b.wav"))), (16_000, 16_000))
    loaded = Loaded({1: engine._recognizer.features(noise(1.0, 0))}, {0: "a.wav: gone"}, 0.0)

    def refuse(*_: object) -> None:
        torch.empty(1 << 60)

    monkeypatch.setattr(engine._recognizer, "recognize", refuse)
    answer = engine.recognize(lease, loaded)
    assert answer.transcripts == (None, None)
    assert answer.reasons[0] == "a.wav: gone"
    assert "out of memory in a micro-batch of 1 utterances and 1.0 s" in answer.reasons[1]


def test_settings_that_do_not_fit(model: FastConformerCTC) -> None:
    with pytest.raises(UsageError, match="precision: 'fp7'"):
        Recognizer(model, TOKENS, precision="fp7")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the token set has 3"):
        Recognizer(model, CharTokens.train(["ab"]))


def test_readers_keep_the_encoder_fed_and_change_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.wav" for number in range(5)]
    for number, path in enumerate(paths):
        soundfile.write(path, noise(0.1 * (number + 1), number), 16_000, subtype="FLOAT")
    paths[3].write_text("no audio")
    items = tuple(Item(path.stem, path) for path in paths)
    lease = Lease(0, 50, items, tuple(1600 * (number + 1) for number in range(5)))
    readers = Readers(lambda waveform: torch.from_numpy(waveform.copy()), most=4)
    alone = readers.load(lease)
    assert list(alone.features) == [0, 1, 2, 4] and "not audio" in alone.reasons[3]
    for read_seconds, compute_seconds, num in [(2.5, 1.0, 3), (0.5, 1.0, 2), (9.0, 1.0, 4), (0.1, 1.0, 1)]:
        readers.keep_up(read_seconds, compute_seconds)
        assert readers.num == num
        found = readers.load(lease)
        assert list(found.features) == [0, 1, 2, 4] and found.reasons == alone.reasons
        assert all(torch.equal(found.features[place], x) for place, x in alone.features.items())

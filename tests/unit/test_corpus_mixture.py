"""Several corpora as one: ids, keys, tokens, what a recipe says of them, and what is wrong with them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corpora import spec, spoken_table, write_audio, write_table
from hocket.batching import BatchPlan, BatchSettings, Part
from hocket.core import recipe as recipes
from hocket.core.errors import CorpusError, RecipeError
from hocket.corpus.augment import AugmentSettings
from hocket.corpus.features import FeatureSettings
from hocket.corpus.index import CorpusIndex
from hocket.corpus.loading import Loader
from hocket.corpus.mixture import CorpusMixture, CorpusShare, common_tokens
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.tokens import Tokens
from hocket.training.launch import resolve
from hocket.training.recipe import TrainRecipe
from plans import COST


def made(folder: Path, name: str, texts: list[str], tokens: str = "char") -> Path:
    """A prepared corpus whose utterances have the ids u0, u1...: the same in every one."""
    rows = []
    for number, text in enumerate(texts):
        write_audio(folder / name / f"{number}.wav", 1.0 + 0.1 * number, seed=hash(name) % 1000 + number)
        rows.append({"id": f"u{number}", "audio": f"{number}.wav", "text": text})
    write_table(folder / name, rows)
    out = folder / f"{name}-prepared"
    prepare(str(folder / name), out, settings=PrepareSettings(dev_fraction=0, tokens=tokens))
    return out


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("mixture")
    one = made(folder, "one", ["abc ab", "cab", "bac", "ab c"])
    return one, made(folder, "two", ["ab", "ba", "cc"], tokens=str(one))


def shares(*paths: Path) -> tuple[CorpusShare, ...]:
    return tuple(CorpusShare(path=path) for path in paths)


def test_rows_are_those_of_one_corpus_after_the_other(pair: tuple[Path, Path]) -> None:
    both = CorpusMixture.open(shares(*pair), "train")
    one, two = (CorpusIndex.open(path, "train") for path in pair)
    assert len(both) == 7
    assert both.id(2) == f"one-prepared/{one.id(2)}"
    assert both.id(5) == f"two-prepared/{two.id(1)}"
    assert both.utterance(5).audio == two.utterance(1).audio
    assert both.utterance(5).id == both.id(5)
    assert both.samples_of(4) == two.samples_of(0)
    np.testing.assert_array_equal(both.token_ids(6), two.token_ids(2))
    assert len({both.id(row) for row in range(7)}) == len({both.key_of(row) for row in range(7)}) == 7


def test_one_corpus_alone_is_itself(pair: tuple[Path, Path]) -> None:
    alone, index = CorpusMixture.open(shares(pair[0]), "train"), CorpusIndex.open(pair[0], "train")
    assert alone.fingerprint == index.fingerprint
    assert [alone.id(row) for row in range(4)] == [index.id(row) for row in range(4)]
    assert [alone.key_of(row) for row in range(4)] == index.key.tolist()


def test_what_is_loaded_is_what_was_planned(pair: tuple[Path, Path]) -> None:
    both = CorpusMixture.open(shares(*pair), "train")
    parts = [Part(member.index, 2.0, member.salt) for member in both.members]
    settings = BatchSettings(seconds=5, micro_batches_per_step=1)
    plan = BatchPlan(parts, settings, COST, seed=1, speed_percents=(90, 100))
    loader = Loader(both, Tokens.load(pair[0]), FeatureSettings(), AugmentSettings(), 1)
    for step in range(2 * plan.steps_per_epoch):
        batch = plan.global_batch(step)
        loaded = [loader.load(micro_batch, batch.epoch, step) for micro_batch in batch.micro_batches]
        keys = [key for micro_batch in loaded for key in micro_batch.keys]
        assert sum(key & 0xFFFFFFFF for key in keys) == plan.digest(batch)


def test_the_same_utterance_is_masked_otherwise_each_time_it_comes(pair: tuple[Path, Path]) -> None:
    both = CorpusMixture.open(shares(*pair), "train")
    loader = Loader(both, Tokens.load(pair[0]), FeatureSettings(), AugmentSettings(), 1)
    index = CorpusIndex.open(pair[0], "train")
    wanted = replace(spec(index, [1, 1]), passes=np.asarray([4, 5]))
    first, second = loader.load(wanted, 0, 0).features_BTF
    assert not np.array_equal(first, second)
    again = loader.load(replace(wanted, passes=np.asarray([5, 4])), 9, 0).features_BTF
    np.testing.assert_array_equal(again[1], first)


def test_two_of_one_name_are_refused(pair: tuple[Path, Path]) -> None:
    twice = (CorpusShare(path=pair[0], name="a"), CorpusShare(path=pair[1], name="a"))
    with pytest.raises(RecipeError, match=r"two are called 'a'.*\n.*name"):
        CorpusMixture.open(twice, "train")


@pytest.mark.parametrize(
    ("texts", "said", "advice"),
    [
        (["ab", "ba"], r"'c' \(U\+0063\) only there", r"SOURCE \S*three-prepared --tokens \S*one-"),
        (["abc dé"], r"only here", r"the other again.*SOURCE \S*one-prepared --tokens \S*three-prepared"),
        (["abx"], r"'x' .* only here; .* only there", r"three-prepared --tokens char\+\S*one-prep"),
    ],
)  # fmt: skip
def test_other_tokens_are_refused_with_what_to_do(
    texts: list[str], said: str, advice: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    three = made(tmp_path, "three", texts)
    with pytest.raises(CorpusError, match=said) as caught:
        common_tokens(shares(pair[0], three))
    assert re.search(advice, str(caught.value)), str(caught.value)


def test_the_advice_works(tmp_path: Path) -> None:
    one, two = made(tmp_path, "one", ["ab", "bx"]), made(tmp_path, "two", ["ac"])
    two = made(tmp_path, "two", ["ac"], tokens=f"char+{one}")
    one = made(tmp_path, "one", ["ab", "bx"], tokens=str(two))
    assert set(common_tokens(shares(one, two)).pieces) == set("abcx")
    assert len(CorpusMixture.open(shares(one, two), "train")) == 3


def test_characters_cannot_be_added_to_pieces(pair: tuple[Path, Path], tmp_path: Path) -> None:
    texts = ["the cat sat", "a cat ran", "the rat sat"]
    pieces = made(tmp_path, "pieces", texts, tokens="sentencepiece:12")
    with pytest.raises(CorpusError, match="of kind sentencepiece"):
        made(tmp_path, "more", ["abc"], tokens=f"char+{pieces}")
    with pytest.raises(CorpusError, match="char here, sentencepiece there"):
        common_tokens(shares(pieces, pair[0]))


def read(tmp_path: Path, text: str) -> TrainRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return recipes.load(path, TrainRecipe)


def test_a_recipe_takes_one_or_several(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    assert read(tmp_path, "corpus: a\nsteps: 1").corpora == (CorpusShare(path=Path("a")),)
    several = read(tmp_path, "steps: 1\ncorpus:\n  - {path: a}\n  - {path: b, weight: 2.5, name: B}\n")
    assert [(share.called, share.weight) for share in several.corpora] == [("a", 1.0), ("B", 2.5)]
    (tmp_path / "two.json").write_text(
        json.dumps({"steps": 1, "corpus": [{"path": str(pair[0])}, {"path": str(pair[1]), "weight": 3}]})
    )
    settled = resolve(tmp_path / "two.json", [])
    again = tmp_path / "again.yaml"
    again.write_text(recipes.dump(settled))
    assert recipes.load(again, TrainRecipe) == settled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "steps: 1\ncorpus:\n  - {path: a}\n  - {path: b, wieght: 2}\n",
            r":4: unknown key 'corpus.1.wieght'.*'weight'",
        ),
        ("steps: 1\ncorpus:\n  - path: a\n    weight: 0\n", r":4: corpus.0.weight: .*greater than 0"),
        ("steps: 1\ncorpus:\n  - weight: 1\n", r":3: the key 'corpus.0.path' is missing"),
        ("steps: 1\ncorpus: []\n", r":2: corpus: .*at least one"),
        ("steps: 1\ncorpus: {path: a}\n", r":2: corpus: .*a list of \{path, weight\}"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_list_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        read(tmp_path, text)


def test_a_corpus_of_the_list_that_is_not_there_is_named(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"steps: 1\ncorpus:\n  - {{path: {pair[0]}}}\n  - {{path: nowhere}}\n")
    with pytest.raises(RecipeError, match=r"nowhere is no prepared corpus\n.*prepare SOURCE nowhere"):
        resolve(path, [])


def test_a_split_is_taken_where_it_is(pair: tuple[Path, Path], tmp_path: Path) -> None:
    spoken_table(tmp_path / "three", num=4, split="dev")
    prepare(str(tmp_path / "three"), tmp_path / "t", settings=PrepareSettings(tokens=str(pair[0])))
    found = CorpusMixture.open(shares(pair[0], tmp_path / "t"), "dev", where_there=True)
    assert [member.name for member in found.members] == ["t"]
    assert len(CorpusMixture.open(shares(*pair), "dev", where_there=True)) == 0

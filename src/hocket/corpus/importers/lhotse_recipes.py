"""Any of lhotse's own recipes, by name: ``--format lhotse:NAME`` with a corpus's folder as the source.

The recipe (``lhotse.recipes.prepare_NAME``) returns recordings and supervisions, or cuts, for each
part of the corpus; every supervision becomes an utterance, read as one in a manifest of cuts is.
https://lhotse.readthedocs.io/en/latest/corpus.html
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hocket.core.errors import CorpusError, UsageError
from hocket.corpus import manifest
from hocket.corpus.importers import cuts
from hocket.corpus.importers.base import (
    ImportContext,
    Imported,
    Item,
    LeftOut,
    Progress,
    names_a_part,
    part,
    refuse_mostly_broken,
    within,
)

_PREFIX = "prepare_"
_OUTPUT = "output_dir"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
Manifests = tuple[str | None, dict[str, Any]]
"""A split, and the manifests of it by lhotse's names of their types."""


class LhotseRecipe:
    """The importer that one of lhotse's recipes makes. It is never told from a source."""

    def __init__(self, name: str) -> None:
        self._name = name

    def detect(self, source: str) -> bool:
        """False: a recipe is asked for by its name."""
        return False

    def read(self, source: str, context: ImportContext) -> Imported:
        """Run the recipe and read what it returns.

        Raises :class:`UsageError` for a recipe that is not known, or that asks for more than a folder.
        """
        recipe = find_recipe(self._name)
        if not Path(source).exists():
            raise CorpusError(f"{source}: no such file or folder")
        made = context.audio_folder / "lhotse"
        context.progress(f"running lhotse's recipe {self._name}", 0, 1)
        returned = self._run(recipe, source, made)
        items: list[Item] = []
        broken: list[LeftOut] = []
        for split, of_split in _parts(returned, ()):
            before = f"{source}: {self._name}, {split or 'all'}"
            for cut_id, cut in _cuts(of_split, context.progress):
                where = f"{before}: {cut_id}"
                found = CorpusError(f"{where}: {cut}") if isinstance(cut, str) else manifest.parse(cut, where)
                cuts.add(found, where, split, items, broken)
        if not items and not broken:
            raise CorpusError(
                f"{source}: lhotse's recipe {self._name} returned no transcribed speech",
                "Is it the folder that the recipe asks for, and a corpus with transcripts?",
            )
        refuse_mostly_broken(source, items, broken)
        if made.exists() and not any(item.audio.is_relative_to(made.absolute()) for item in items):
            shutil.rmtree(made)  # manifests alone, which are read
        return Imported(self._name, items, broken)

    def _run(self, recipe: Callable[..., Any], source: str, made: Path) -> Any:
        first, *others = inspect.signature(recipe).parameters.values()
        needed = [one.name for one in others if one.default is one.empty]
        if any(name != _OUTPUT for name in needed):
            asked = ", ".join([first.name, *needed])
            raise UsageError(
                f"lhotse's recipe {self._name} asks for more than a folder: {asked}",
                "Run it by itself, make cuts of its manifests, and prepare those.",
            )
        try:
            # What a recipe prints is not the answer of this command.
            with contextlib.redirect_stdout(sys.stderr):
                return recipe(source, **{_OUTPUT: str(made)} if needed else {})
        except Exception as error:  # a recipe of others, on a user's files: anything may be wrong
            raise CorpusError(
                f"{source}: lhotse's recipe {self._name} failed: {type(error).__name__}: {error}",
                "Is it the folder that the recipe asks for?",
            ) from error


def find_recipe(name: str) -> Callable[..., Any]:
    """``lhotse.recipes.prepare_NAME``. Raises :class:`UsageError` that names the nearest known ones."""
    from lhotse import recipes

    known = sorted(one.removeprefix(_PREFIX) for one in dir(recipes) if one.startswith(_PREFIX))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(known)}."
        raise UsageError(f"format lhotse:{name}: lhotse has no recipe of that name", hint)
    recipe: Callable[..., Any] = getattr(recipes, _PREFIX + name)
    return recipe


def _parts(returned: Any, names: tuple[str, ...]) -> Iterator[Manifests]:
    """The manifests in a recipe's answer: a mapping by part of the corpus, of any depth, or without."""
    if not isinstance(returned, Mapping):
        return
    here = {type(value).__name__: value for value in returned.values()}
    if "CutSet" in here or {"RecordingSet", "SupervisionSet"} <= set(here):
        yield _split(names), here
        return
    for name, inner in returned.items():
        yield from _parts(inner, (*names, str(name)))


def _split(names: tuple[str, ...]) -> str | None:
    named = next((name for name in names if names_a_part(name)), None)
    if named is not None:
        return part(named)
    return _UNSAFE.sub("_", "-".join(names)) or None


def _cuts(found: dict[str, Any], progress: Progress) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Ids, and cuts as lhotse writes them or what is wrong."""
    if "CutSet" in found:
        for cut in found["CutSet"]:
            yield cut.id, cut.to_dict()
        return
    recordings = {recording.id: recording.to_dict() for recording in found["RecordingSet"]}
    for done, supervision in enumerate(found["SupervisionSet"]):
        if done % 1000 == 0:
            progress("reading lhotse's manifests", done, len(recordings))
        recording = recordings.get(supervision.recording_id)
        if recording is None:
            yield supervision.id, f"its recording {supervision.recording_id!r} is not among the recordings"
        else:
            yield supervision.id, _cut(supervision, recording)


def _cut(supervision: Any, recording: dict[str, Any]) -> dict[str, Any]:
    rate = recording["sampling_rate"]
    first = max(0, round(supervision.start * rate))
    num = within(first, round(supervision.end * rate) - first, recording["num_samples"], rate)
    return {
        "type": "MonoCut",
        "id": supervision.id,
        "start": first / rate,
        "duration": num / rate,
        "channel": supervision.channel,
        "recording": recording,
        "supervisions": [{"text": supervision.text, "speaker": supervision.speaker}],
    }

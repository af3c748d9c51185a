"""docs/recipes.md names every setting that a recipe can have, and the shipped recipes are recipes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from hocket.core import recipe as recipes
from hocket.core.errors import UsageError
from hocket.studies.recipes import shipped
from hocket.training.recipe import TrainRecipe

ROOT = Path(__file__).parents[2]


def settings(schema: type[BaseModel]) -> Iterator[str]:
    for name, field in schema.model_fields.items():
        below = list(recipes.sections_of(field.annotation))
        for form in below:
            yield from settings(form)
        if not below:
            yield name


def test_every_setting_is_on_the_page() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    named = {name.rsplit(".", 1)[-1] for name in re.findall(r"`([a-z0-9_.]+)`", page)}
    assert set(settings(TrainRecipe)) - named == set()


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")))
def test_shipped_recipes_are_valid(name: str) -> None:
    assert recipes.load(shipped(name), TrainRecipe).seed == 1


def test_unknown_shipped_recipe_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"Known: .*demo.*parity"):
        shipped("dmeo")

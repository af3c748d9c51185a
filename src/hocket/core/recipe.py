"""Recipes: YAML files read strictly into frozen pydantic models.

An unknown key is an error that names the file, the line and the nearest known key.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hocket.core.errors import RecipeError


class Section(BaseModel):
    """A part of a recipe: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=Section)


def load(path: Path, schema: type[R], overrides: Sequence[str] = ()) -> R:
    """Read a recipe and lay ``key.path=value`` overrides (values in YAML) over it.

    Raises :class:`RecipeError` naming file, line and key for whatever is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe: {error.strerror}") from error
    try:
        tree = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values")
    for override in overrides:
        _override(tree, override)
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(_explain(error, path, node, schema)) from None


def dump(recipe: Section) -> str:
    """The recipe as YAML, every setting written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _override(tree: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"--set {override}: not of the form key.path=value")
    *parents, last = dotted.strip().split(".")
    for part in parents:
        child = tree.setdefault(part, {})
        if not isinstance(child, dict):
            raise RecipeError(f"--set {override}: {part!r} is a value, not a section")
        tree = child
    try:
        tree[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: the value is not YAML: {error}") from error


def _explain(error: ValidationError, path: Path, node: yaml.Node | None, schema: type[Section]) -> str:
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        dotted = ".".join(location)
        line = _line(node, location[:-1] if problem["type"] == "missing" else location)
        where = f"{path}:{line}" if line else str(path)
        if problem["type"] == "extra_forbidden":
            known = _known_keys(schema, location[:-1])
            near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(sorted(known))}."
            lines.append(f"{where}: unknown key {dotted!r}. {hint}")
        elif problem["type"] == "missing":
            lines.append(f"{where}: the key {dotted!r} is missing")
        else:
            lines.append(f"{where}: {dotted}: {problem['msg']} (got {problem['input']!r})")
    return "\n".join(lines)


def _line(node: yaml.Node | None, location: Sequence[str]) -> int | None:
    """1-based line of a key in the YAML text; None for a key that came from elsewhere."""
    line = None
    for part in location:
        if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            return None if line is None else line
        for key_node, value_node in node.value:
            if key_node.value == part:
                line, node = key_node.start_mark.line + 1, value_node
                break
        else:
            return None
    return line


def _known_keys(schema: type[BaseModel], parents: Sequence[str]) -> list[str]:
    current: Any = schema
    for part in parents:
        if part.isdigit():  # an entry of a list: its section is already at hand
            continue
        field = current.model_fields.get(part)
        if field is None:
            return []
        current = _section_of(field.annotation)
        if current is None:
            return []
    return list(current.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_of(argument)
        if found is not None:
            return found
    return None

"""Recipes: YAML files read strictly into frozen pydantic models.

An unknown key is an error that names the file, the line and the nearest known key. Where a section
has several forms, its key ``name`` says which one, and its keys are those of that form.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from hocket.core.errors import RecipeError


class Section(BaseModel):
    """A part of a recipe: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=Section)


def by_name(default: str) -> BeforeValidator:
    """For a section of several forms, told apart by ``name``: a bare name is a form with its defaults.

    ``default`` is the form of a section that does not say its name.
    """

    def named(given: Any) -> Any:
        if isinstance(given, str):
            return {"name": given}
        return {"name": default, **given} if isinstance(given, dict) else given

    return BeforeValidator(named)


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
        if isinstance(child, str):  # the bare name of a form
            child = tree[part] = {"name": child}
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
        location, known = _follow(schema, [str(part) for part in problem["loc"]])
        dotted = ".".join(location)
        line = _line(node, location[:-1] if problem["type"] == "missing" else location)
        where = f"{path}:{line}" if line else str(path)
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key {dotted!r}. {_nearest(location[-1], known)}")
        elif problem["type"] == "union_tag_invalid":
            names = [name.strip("' ") for name in problem["ctx"]["expected_tags"].split(",")]
            name = problem["ctx"]["tag"]
            lines.append(f"{where}: {dotted}.name: there is no {name!r}. {_nearest(name, names)}")
        elif problem["type"] == "missing":
            lines.append(f"{where}: the key {dotted!r} is missing")
        else:
            # What a validator of ours said, without pydantic's "Value error, " before it.
            said = str(problem.get("ctx", {}).get("error", problem["msg"]))
            named = f"{dotted}: {said}" if dotted else said
            # A section, or the whole recipe, would bury the reason.
            whole = isinstance(problem["input"], Mapping | Section)
            lines.append(f"{where}: {named}" if whole else f"{where}: {named} (got {problem['input']!r})")
    return "\n".join(lines)


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(sorted(known))}."


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


def _follow(schema: type[BaseModel], location: Sequence[str]) -> tuple[list[str], list[str]]:
    """A problem's place as the recipe writes it (pydantic adds the form's name), and the keys known there."""
    written: list[str] = []
    forms: list[type[BaseModel]] = [schema]
    known = list(schema.model_fields)
    for part in location:
        if part.isdigit():  # an entry of a list: its section is already at hand
            written.append(part)
            continue
        fields = [form.model_fields[part] for form in forms if part in form.model_fields]
        chosen = [form for form in forms if part in (_name_of(form), form.__name__)]
        if chosen and not fields:
            forms = chosen
        else:
            written.append(part)
            known = [key for form in forms for key in form.model_fields]
            forms = [form for field in fields for form in sections_of(field.annotation)]
    return written, known


def _name_of(form: type[BaseModel]) -> str | None:
    field = form.model_fields.get("name")
    return None if field is None else str(field.default)


def sections_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections, one or several forms of one, that a field's annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from sections_of(argument)

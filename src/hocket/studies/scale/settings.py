"""What a study compares: grids of strategies, workers, links, partitions and seeds, in YAML or as flags."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from hocket.batching.partition import PartitionName
from hocket.comms.links import LOOPBACK, Link
from hocket.core.errors import UsageError
from hocket.core.recipe import Section
from hocket.sync import AllReduceSettings, SyncSettings

Scaling = Literal["strong", "weak"]


def strategy_of(text: str) -> dict[str, Any]:
    """``local_sgd:sync_every=8:outer.name=bmuf`` as the section ``sync`` of a recipe.

    Values are YAML. Raises :class:`UsageError` for a setting without a value.
    """
    name, *settings = text.strip().split(":")
    section: dict[str, Any] = {"name": name}
    for setting in settings:
        dotted, equals, value = setting.partition("=")
        if not equals or not dotted:
            raise UsageError(
                f"strategy {text!r}: {setting!r} is no setting", "Write NAME, or NAME:key=value:key=value."
            )
        *parents, last = dotted.split(".")
        place = section
        for part in parents:
            child = place.setdefault(part, {})
            if not isinstance(child, dict):
                raise UsageError(f"strategy {text!r}: {part!r} is a value, not a section")
            place = child
        place[last] = yaml.safe_load(value)
    return section


def _strategy(given: Any) -> Any:
    if isinstance(given, str):
        return {"sync": strategy_of(given)}
    if isinstance(given, dict) and "sync" not in given:
        return {"sync": given}
    if isinstance(given, dict) and isinstance(given["sync"], str):
        return {**given, "sync": strategy_of(given["sync"])}
    return given


class StrategySettings(Section):
    """A way of keeping workers together, under the name that reports call it by."""

    sync: SyncSettings
    set: tuple[str, ...] = ()
    """Settings of the recipe (``key.path=value``) that this strategy needs otherwise."""

    name: str | None = None

    @property
    def label(self) -> str:
        """Its name in reports: ``local_sgd sync_every=8``; what is left at its default is left out."""
        if self.name is not None:
            return self.name
        given = _said(self.sync.model_dump(mode="json", exclude_unset=True))
        return " ".join([self.sync.name, *given, *self.set])

    @property
    def is_plain(self) -> bool:
        """True for what all others are compared with: sums of whole gradients at every step."""
        return isinstance(self.sync, AllReduceSettings) and self.sync.exact_instead and not self.set


def _said(section: dict[str, Any]) -> list[str]:
    """``key=value`` of what was given, a form by its name, and its own keys after it."""
    said = []
    for key, value in section.items():
        if key == "name":
            continue
        if isinstance(value, dict):
            said += [f"{key}={value['name']}"] if "name" in value else []
            said += _said(value)
        else:
            said.append(f"{key}={value}")
    return said


Strategy = Annotated[StrategySettings, BeforeValidator(_strategy)]
STRATEGIES = ("all_reduce", "all_reduce:compression=one_bit", "local_sgd", "server", "gossip")
"""What is compared where nothing is said: one of each kind."""


class GridSettings(Section):
    """Every combination of these is a cell."""

    strategies: tuple[Strategy, ...] = Field(
        default=tuple(StrategySettings.model_validate(_strategy(name)) for name in STRATEGIES), min_length=1
    )
    workers: tuple[int, ...] = Field(default=(1, 2), min_length=1)
    seeds: int | tuple[int, ...] = 1
    """How many, counted from the recipe's on, or which."""

    links: tuple[str, ...] = Field(default=(LOOPBACK,), min_length=1)
    partitions: tuple[PartitionName, ...] = ()
    """Of batches; without a word that of the recipe."""

    scaling: tuple[Scaling, ...] = Field(default=("strong",), min_length=1)
    """``strong``: the same steps on any number of workers. ``weak``: N workers take N times as much audio
    a step and an N-th of the steps."""

    score: bool = True
    """Recognise and score the test part with every model; else only time and loss are compared."""

    @model_validator(mode="after")
    def _counts(self) -> GridSettings:
        if any(number < 1 for number in self.workers):
            raise ValueError("workers start at 1")
        if isinstance(self.seeds, int) and self.seeds < 1:
            raise ValueError("give at least one seed")
        for link in self.links:
            if link != LOOPBACK:
                try:
                    Link.parse(link)
                except UsageError as error:
                    raise ValueError(str(error)) from None
        return self

    def seeds_from(self, first: int) -> tuple[int, ...]:
        """The seeds, counted from ``first`` where only their number is given."""
        return tuple(range(first, first + self.seeds)) if isinstance(self.seeds, int) else self.seeds


class StudySettings(Section):
    """A whole study: some grids on one recipe. World size is what it varies, so no recipe has it."""

    grids: tuple[GridSettings, ...] = Field(default=(GridSettings(),), min_length=1)
    steps: int | None = Field(default=None, ge=1)
    """Of every run; without a word as many as the recipe says."""

    target_loss: float | None = Field(default=None, gt=0)
    """Nats per token, smoothed: the time to reach it is measured. Without a word what plain all-reduce
    had after four fifths of its steps."""

    split: str | None = None
    """Which part is scored; without a word ``test``, or ``dev`` where there is none."""

    set: tuple[str, ...] = ()
    """Settings of the recipe, ``key.path=value``, for all runs alike."""

    budget_minutes: float | None = Field(default=None, gt=0)
    """No cell is begun that would probably end after this; the same command goes on later."""

    baseline: bool = True
    """Run plain all-reduce on one worker, where no grid has it: speed-ups are over that."""


def checked(given: dict[str, Any]) -> StudySettings:
    """Settings that came as flags. Raises :class:`UsageError` that says what is wrong with which."""
    try:
        return StudySettings.model_validate(given)
    except ValidationError as error:
        said = []
        for problem in error.errors():
            where = [str(part) for part in problem["loc"] if part not in ("grids", 0)]
            said.append(f"--{' '.join(where)}: {problem['msg']} (got {problem['input']!r})")
        raise UsageError("\n".join(said)) from None

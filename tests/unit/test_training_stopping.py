"""When validations are in vain, and what the recipe may say about it."""

import pytest
from pydantic import ValidationError

from hocket.training.progress import Progress
from hocket.training.recipe import TrainRecipe
from hocket.training.stopping import Validated


def stops_at(values: list[float], patience: int, min_delta: float = 0.0) -> tuple[int | None, int | None]:
    """(number of validations done at the stop, step of the best), validating after every step."""
    seen = Validated()
    for step, value in enumerate(values, 1):
        seen.look(step, value, min_delta)
        if seen.in_vain(patience):
            return step, seen.best_step
    return None, seen.best_step


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "expected"),
    [
        ([5, 4, 3, 2, 1], 1, 0.0, (None, 5)),
        ([5, 4, 4.5, 4.2, 4.1], 3, 0.0, (5, 2)),
        ([5, 4, 4.5, 3.9, 4.1, 4.1], 2, 0.0, (6, 4)),
        ([5, 4, 4, 4], 2, 0.0, (4, 2)),  # equal is not better, and the first of equals is the best
        ([5.0, 4.9, 4.8, 4.7], 2, 0.5, (3, 3)),  # not by enough to wait on, and yet the best
        ([5.0, 4.8, 4.6, 4.4], 2, 0.3, (None, 4)),  # by enough in two steps
        ([float("nan"), float("nan")], 2, 0.0, (2, None)),
    ],
)
def test_patience(
    values: list[float], patience: int, min_delta: float, expected: tuple[int | None, int | None]
) -> None:
    assert stops_at(values, patience, min_delta) == expected


def test_without_patience_nothing_stops() -> None:
    seen = Validated()
    for step in range(100):
        seen.look(step, 1.0, 0.0)
    assert not seen.in_vain(None)


def test_what_was_validated_is_in_the_checkpoint() -> None:
    progress = Progress(step=7, wer=0.4, dev_loss=1.5, metric=0.4)
    progress.validated.look(3, 0.4, 0.0)
    progress.validated.look(6, 0.5, 0.0)
    assert Progress.from_dict(progress.as_dict()) == progress


def recipe(**validation: object) -> TrainRecipe:
    return TrainRecipe.model_validate({"corpus": "x", "steps": 9, "validation": validation})


def test_the_best_is_taken_with_patience_and_where_it_is_said() -> None:
    assert recipe(every_steps=3, patience=2).validation.takes_best
    assert recipe(every_steps=3, take="best").validation.takes_best
    assert not recipe(every_steps=3).validation.takes_best
    assert not recipe(every_steps=3, patience=2, take="last").validation.takes_best


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValidationError, match="give every_steps"):
        recipe(patience=2)
    with pytest.raises(ValidationError, match="keep_best must be 1"):
        TrainRecipe.model_validate(
            {
                "corpus": "x",
                "steps": 9,
                "validation": {"every_steps": 3, "patience": 2},
                "checkpoint": {"keep_best": 0},
            }
        )


@pytest.mark.parametrize("sync", ["local_sgd", "server", "gossip"])
def test_an_average_needs_weights_that_are_the_same_on_all(sync: str) -> None:
    with pytest.raises(ValidationError, match=f"ema.*sync.name {sync}"):
        TrainRecipe.model_validate({"corpus": "x", "steps": 9, "ema": {"decay": 0.9}, "sync": sync})


@pytest.mark.parametrize("sync", ["server", "gossip", "hogwild"])
def test_workers_at_their_own_pace_do_not_stop_together(sync: str) -> None:
    told = {"corpus": "x", "steps": 9, "validation": {"every_steps": 3, "patience": 2}, "sync": sync}
    with pytest.raises(ValidationError, match=f"patience.*sync.name {sync}"):
        TrainRecipe.model_validate(told)

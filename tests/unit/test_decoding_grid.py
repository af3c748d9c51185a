"""A grid that widens, and its choice among points that are equal but for luck."""

from __future__ import annotations

from collections.abc import Callable

from hocket.decoding.grid import Axis, choose

Point = tuple[float, ...]
X = Axis("x", first=0.2, last=0.6, step=0.2, lowest=0.0, highest=2.0, usual=0.4)
Y = Axis("y", first=-1, last=1, step=1, lowest=-3, highest=3, usual=0)


def bowl(x: float, y: float) -> Callable[[Point], int]:
    """Errors that grow with the distance from a point."""
    return lambda at: round(100 * ((at[0] - x) ** 2 + (at[1] - y) ** 2))


def test_it_widens_until_the_best_lies_inside() -> None:
    found = choose(bowl(1.4, 2), (X, Y))
    assert found.best == (1.4, 2)
    assert found.widened == ("x", "y") and found.at_limit == ()
    assert (1.6, 3) in found.errors and (2.0, 2) not in found.errors


def test_a_best_value_at_the_limit_is_told() -> None:
    found = choose(bowl(5.0, 0), (X, Y))
    assert found.best == (2.0, 0) and found.at_limit == ("x",)
    assert choose(bowl(0.4, 0), (X, Y)).at_limit == ()


def test_nothing_is_widened_without_need_and_nothing_tried_twice() -> None:
    tried: list[Point] = []

    def errors(at: Point) -> int:
        tried.append(at)
        return bowl(0.4, 0)(at)

    found = choose(errors, (X, Y))
    assert found.widened == () and len(tried) == len(set(tried)) == len(found.errors) == 9


def test_a_lucky_point_among_bad_ones_is_not_chosen() -> None:
    """The middle of a plain of 5 errors is, where a single point has 4 and its neighbours 9."""
    axis = Axis("x", first=0, last=8, step=1, lowest=0, highest=8, usual=1)
    counts = [9, 9, 4, 9, 9, 5, 5, 5, 9]
    assert choose(lambda at: counts[round(at[0])], (axis,)).best == (6,)


def test_where_it_makes_no_difference_the_usual_values_stay() -> None:
    found = choose(lambda at: 7, (X, Y))
    assert found.best == (0.4, 0) and found.widened == found.at_limit == ()

"""``hocket study batch`` and ``hocket fit-batch``: what cannot be is refused before anything is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Hocket


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--times", "0,1"), "--times: Input should be greater than 0 (got 0)"),
        (("--times", "2,4"), "1, the recipe's own size, must be among them"),
        (("--times", "1"), "--times"),
        (("--times", "1,two"), "--times 1,two: not whole numbers"),
        (("--times", "1,8"), "--times 8: 6 steps of the recipe leave less than two"),
        (("--rules", "sqrt,cubic"), "'none', 'linear' or 'sqrt' (got 'cubic')"),
        (("--seeds", "0"), "--seeds"),
        (("--workers", "0"), "--workers"),
        (("--budget", "0"), "--budget: Input should be greater than 0"),
        (("--set", "optimiser.lr_rule=sqrt"), "lr_rule sqrt needs reference_seconds"),
        (("--set", "steps=null", "--set", "epochs=3"), "it counts epochs"),
    ],
)
def test_a_study_that_cannot_be(
    hocket_here: Hocket, recipe: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "study"
    hocket_here("study", "batch", recipe, "--out", out, *words).refused(2, said)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Give --limit-mb"),
        (("--limit-mb", "32"), "--limit-mb"),
        (("--limit-mb", "400", "--workers", "0"), "--workers"),
        (("--limit-mb", "400", "--set", "layout=tp=2"), "holds a whole model"),
        (("--limit-mb", "400", "--set", "sync=gossip"), "--set sync=all_reduce"),
        (("--set", "memory.limit_mb=32"), "memory.limit_mb: Input should be greater than or equal to 64"),
    ],
)
def test_a_batch_that_cannot_be_fitted(
    hocket_here: Hocket, recipe: Path, words: tuple[str, ...], said: str
) -> None:
    hocket_here("fit-batch", recipe, *words).refused(2, said)

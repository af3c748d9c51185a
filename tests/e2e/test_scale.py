"""``hocket scale`` as a user types it; the runs of a study are tried in tests/ranks."""

from __future__ import annotations

from pathlib import Path

from commands import STEPS, Hocket


def test_a_dry_run_shows_the_cells_and_makes_nothing(
    hocket_here: Hocket, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    words = ("--strategies", "all_reduce,local_sgd:sync_every=3", "--strategies", "gossip", "--workers", "2")
    told = hocket_here("scale", recipe, "--out", out, *words, "--seeds", "2", "--dry-run", "--json").answer()
    labels = [cell["label"] for cell in told["cells"]]
    assert labels[0] == "all_reduce, 1 worker, seed 1"  # what speed-ups are over
    assert len(labels) == len(set(labels)) == 1 + 3 * 2
    assert "local_sgd sync_every=3, 2 workers, seed 2" in labels
    assert all(cell["expected_seconds"] > 0 and not cell["done"] for cell in told["cells"])
    assert not out.exists()


def test_a_study_file_is_taken_and_flags_of_the_whole_lie_over_it(
    hocket_here: Hocket, recipe: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "baseline: false\ngrids:\n  - {strategies: [{sync: hogwild, name: shared}], workers: [2]}\n"
    )
    told = hocket_here("scale", recipe, "--study", study, "--steps", STEPS, "--dry-run", "--json").answer()
    assert [cell["label"] for cell in told["cells"]] == ["shared, 2 workers, seed 1"]
    hocket_here("scale", recipe, "--study", study, "--workers", "3").refused(2, "--workers", "study.yaml")
    study.write_text("grids:\n  - {strategies: [gossip], worker: [2]}\n")
    hocket_here("scale", recipe, "--study", study).refused(2, "study.yaml:2", "worker", "'workers'")


def test_what_cannot_be_is_refused_before_anything_is_run(
    hocket_here: Hocket, recipe: Path, tmp_path: Path
) -> None:
    for words, said in (
        (("--strategies", "gosip"), "gosip"),
        (("--strategies", "local_sgd:sync_every"), "'sync_every' is no setting"),
        (("--workers", "two"), "--workers two"),
        (("--links", "fast"), "100mbit"),
        (("--split", "exam"), "exam"),
        (("--set", "optimiser.lrr=1"), "optimiser.lrr"),
    ):
        hocket_here("scale", recipe, "--out", tmp_path / "study", *words).refused(2, said)
    assert not (tmp_path / "study").exists()

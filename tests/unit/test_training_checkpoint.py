"""Checkpoints: whole or not there, checked, of this model, and no pickle of a stranger's."""

import json
import os
import pickle
import resource
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hocket.core.errors import CheckpointError
from hocket.core.layout import Layout
from hocket.parallel.held import held_by
from hocket.sync.all_reduce import AllReduce
from hocket.training import checkpoint_store as store
from hocket.training import checkpointer
from hocket.training.checkpointer import Checkpointer, collect
from hocket.training.recipe import CheckpointSettings
from hocket.training.seat import Seat


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store_file = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", f"file://{store_file}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trained(width: int = 6) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 2))
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(3):
        model(torch.randn(5, 4)).square().sum().backward()
        optimiser.step()
    return model, optimiser


class Keeper(AllReduce):
    """A strategy that keeps something."""

    def __init__(self) -> None:
        pass

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"residual": torch.ones(3)}


def restore(
    folder: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> Mapping[str, torch.Tensor]:
    return checkpointer.restore(folder, held_by(model), optimiser)


def seat(replica: int, num_replicas: int) -> Seat:
    return Seat(Layout(dp_replicate=num_replicas), replica=replica)


class Saves:
    """A checkpointer, and what it told."""

    def __init__(self, root: Path, **settings: int) -> None:
        self.told: list[tuple[int, BaseException | None]] = []
        self.root = root / "checkpoints"
        self.checkpointer = Checkpointer(
            self.root,
            CheckpointSettings.model_validate({"every_steps": 1, **settings}),
            lambda step, failure: self.told.append((step, failure)),
        )

    def save(
        self,
        step: int,
        model: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        metric: float | None = None,
    ) -> Path:
        self.checkpointer.save(
            step, collect(held_by(model), optimiser, Keeper()), {"step": step, "metric": metric}
        )
        return store.folder_for(self.root, step)


def test_everything_comes_back(tmp_path: Path) -> None:
    saves = Saves(tmp_path)
    model, optimiser = trained()
    folder = saves.save(7, model, optimiser)
    saves.checkpointer.wait()
    other, other_optimiser = trained()
    kept = restore(folder, other, other_optimiser)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        for slot, value in optimiser.state[ours].items():
            assert torch.equal(value, other_optimiser.state[theirs][slot])
    assert torch.equal(kept["residual"], torch.ones(3))
    assert store.read_progress(folder)["step"] == 7


def test_optimiser_states_of_replicas_come_back_to_each_or_as_their_mean(tmp_path: Path) -> None:
    class Alone(Keeper):
        per_replica_optimiser = True

    saves, replicas, tensors = Saves(tmp_path), [trained(), trained()], {}
    for rank, (model, optimiser) in enumerate(replicas):
        tensors.update(collect(held_by(model), optimiser, Alone(), seat(rank, 2)))
    saves.checkpointer.save(1, tensors, {"step": 1})
    saves.checkpointer.wait()

    def momentum(rank: int, world_size: int, per_replica_optimiser: bool) -> torch.Tensor:
        model, optimiser = trained()
        checkpointer.restore(
            store.folder_for(saves.root, 1),
            held_by(model),
            optimiser,
            seat(rank, world_size),
            per_replica_optimiser=per_replica_optimiser,
        )
        found: torch.Tensor = optimiser.state[next(model.parameters())]["exp_avg"]
        return found

    first, second = (o.state[next(m.parameters())]["exp_avg"] for m, o in replicas)
    assert torch.equal(momentum(0, 2, True), first)
    assert torch.equal(momentum(1, 2, True), second)
    mean = (first + second) / 2
    for rank, world_size, own in ((0, 2, False), (2, 3, True), (0, 1, True)):
        torch.testing.assert_close(momentum(rank, world_size, own), mean)


def test_training_goes_on_while_it_is_written(tmp_path: Path) -> None:
    saves = Saves(tmp_path)
    model, optimiser = trained()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    folder = saves.save(1, model, optimiser)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    saves.checkpointer.wait()
    other, other_optimiser = trained()
    restore(folder, other, other_optimiser)
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    saves = Saves(tmp_path, keep_last=2, keep_best=1)
    model, optimiser = trained()
    for step, metric in enumerate([0.9, 0.2, None, 0.5, 0.4, None]):
        saves.save(step, model, optimiser, metric)
    saves.checkpointer.wait()
    assert [store.step_of(folder) for folder in store.whole_checkpoints(saves.root)] == [1, 4, 5]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    saves = Saves(tmp_path)
    model, optimiser = trained()
    folder = saves.save(1, model, optimiser)
    saves.checkpointer.wait()
    data = next(folder.glob("*.distcp"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{data.name}.*SHA-256"):
        restore(folder, model, optimiser)
    data.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        restore(folder, model, optimiser)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    saves = Saves(tmp_path)
    folder = saves.save(1, *trained(width=6))
    saves.checkpointer.wait()
    with pytest.raises(CheckpointError, match=r"another model: 0\.bias is \(6,\) there and \(8,\) here"):
        restore(folder, *trained(width=8))


def test_a_disk_that_fills_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The kernel refuses to let files grow (as it does on a full disk) in the middle of a checkpoint."""
    saves = Saves(tmp_path)
    model, optimiser = trained(width=4000)
    good = saves.save(1, model, optimiser)
    saves.checkpointer.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        saves.save(2, model, optimiser)
        with pytest.raises(
            CheckpointError, match=r"could not be written: .* are free there\n.*earlier checkpoints are whole"
        ):
            saves.checkpointer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert saves.told[0] == (1, None)
    assert saves.told[1][0] == 2
    assert saves.told[1][1] is not None
    assert store.whole_checkpoints(saves.root) == [good]
    assert not list(saves.root.glob(".*"))
    restore(good, *trained(width=4000))


def test_leftovers_of_a_crash_are_cleared_and_never_taken_for_a_checkpoint(tmp_path: Path) -> None:
    torn = tmp_path / "checkpoints" / ".step-00000005.tmp"
    torn.mkdir(parents=True)
    saves = Saves(tmp_path)
    assert not torn.exists()
    assert store.whole_checkpoints(saves.root) == []


def test_a_checkpoint_that_was_being_deleted_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed when one file was gone: another start finds what is whole, and goes on deleting."""
    saves = Saves(tmp_path, keep_last=1, keep_best=1)
    model, optimiser = trained()
    saves.save(0, model, optimiser, 0.5)
    saves.checkpointer.wait()

    class Killed(BaseException):
        pass

    def delete_one(folder: Path, ignore_errors: bool = False) -> None:
        if folder.exists():
            (folder / "progress.json").unlink()
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(store.shutil, "rmtree", delete_one)
        store.remove(store.folder_for(saves.root, 0))
    assert store.whole_checkpoints(saves.root) == []
    again = Saves(tmp_path, keep_last=1, keep_best=1)
    assert not list(again.root.iterdir())
    again.save(1, model, optimiser, 0.4)
    again.checkpointer.wait()


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch trapped",)


def test_metadata_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saves = Saves(tmp_path)
    model, optimiser = trained()
    folder = saves.save(1, model, optimiser)
    saves.checkpointer.wait()
    metadata = folder / ".metadata"
    metadata.write_bytes(pickle.dumps(Trap()))
    sums = json.loads((folder / "checksums.json").read_text())
    sums[".metadata"] = store.files.sha256(metadata)
    (folder / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(CheckpointError, match=r"posix\.system has no place"):
        restore(folder, model, optimiser)
    assert not Path("trapped").exists()

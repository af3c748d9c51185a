"""The average of the weights: what it is, when the model holds it, and how it outlives a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hocket.core.errors import CheckpointError
from hocket.parallel.held import held_by
from hocket.sync.all_reduce import AllReduce
from hocket.training import checkpoint_store as store
from hocket.training.averaging import Average, EmaSettings, decay_at, make_average
from hocket.training.checkpointer import Checkpointer, collect, restore
from hocket.training.recipe import CheckpointSettings

DECAY = EmaSettings(decay=0.9)


class Plain(AllReduce):
    """A strategy that keeps nothing."""

    def __init__(self) -> None:
        pass

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store_file = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", f"file://{store_file}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def step(model: torch.nn.Module, optimiser: torch.optim.Optimizer, average: Average, number: int) -> None:
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(number))
    optimiser.zero_grad()
    model(inputs).square().sum().backward()
    optimiser.step()
    average.update(number)


def begin(seed: int = 1) -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = torch.nn.Linear(4, 3)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)


def test_it_is_the_weighted_mean_of_the_weights_so_far() -> None:
    model, optimiser = begin()
    average = make_average(held_by(model), DECAY)
    expected = model.weight.detach().double().clone()
    for number in range(200):
        step(model, optimiser, average, number)
        share = 1 - min(0.9, (1 + number) / (10 + number))
        expected += share * (model.weight.detach().double() - expected)
    assert torch.allclose(average.tensors()["ema.weight"].tensor.double(), expected, atol=1e-5)


def test_the_weights_drawn_at_the_start_soon_count_for_nothing() -> None:
    left = 1.0
    for number in range(20):
        left *= decay_at(number, 0.999)
    assert left < 1e-6
    assert decay_at(10**6, 0.999) == 0.999


def test_the_model_holds_it_inside_and_its_own_weights_after() -> None:
    model, optimiser = begin()
    average = make_average(held_by(model), DECAY)
    for number in range(5):
        step(model, optimiser, average, number)
    own = model.weight.detach().clone()
    with average.in_place():
        assert torch.equal(model.weight, average.tensors()["ema.weight"].tensor)
        assert not torch.equal(model.weight, own)
    assert torch.equal(model.weight, own)
    with pytest.raises(ZeroDivisionError), average.in_place():
        raise ZeroDivisionError
    assert torch.equal(model.weight, own)


def test_frozen_weights_need_no_average() -> None:
    model, _ = begin()
    model.bias.requires_grad_(False)
    assert set(make_average(held_by(model), DECAY).tensors()) == {"ema.weight"}


def saved(root: Path, average_on: bool, steps: int = 6) -> tuple[Path, torch.nn.Linear, Average]:
    model, optimiser = begin()
    average = make_average(held_by(model), DECAY if average_on else EmaSettings())
    for number in range(steps):
        step(model, optimiser, average, number)
    checkpointer = Checkpointer(root, CheckpointSettings(), lambda _step, _failure: None)
    checkpointer.save(steps, collect(held_by(model), optimiser, Plain(), average=average), {})
    checkpointer.wait()
    return store.folder_for(root, steps), model, average


def test_it_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    folder, _, _ = saved(tmp_path, average_on=True, steps=6)
    _, _, undisturbed = saved(tmp_path / "all", average_on=True, steps=9)
    model, optimiser = begin(seed=2)
    average = make_average(held_by(model), DECAY)
    restore(folder, held_by(model), optimiser, average=average)
    for number in range(6, 9):
        step(model, optimiser, average, number)
    for name, value in undisturbed.tensors().items():
        assert torch.equal(value.tensor, average.tensors()[name].tensor)


@pytest.mark.parametrize("was_on", [True, False])
def test_it_cannot_begin_or_end_in_the_middle_of_a_run(was_on: bool, tmp_path: Path) -> None:
    folder, _, _ = saved(tmp_path, average_on=was_on)
    model, optimiser = begin()
    average = make_average(held_by(model), EmaSettings() if was_on else DECAY)
    with pytest.raises(CheckpointError, match=r"average.*\n.*recipe"):
        restore(folder, held_by(model), optimiser, average=average)

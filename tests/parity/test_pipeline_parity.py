"""A pipeline trains what one process trains, in float64 with dropout on; here as threads."""

import pytest
import torch

import pipelines
from hocket.parallel.pipeline_schedule import ScheduleName
from pipelines import LENGTHS, Course, assert_near, assert_same, config, single, threaded

WAYS: list[tuple[int, ScheduleName, int]] = [
    (2, "1f1b", 1),
    (2, "interleaved", 2),
    (3, "gpipe", 1),
    (4, "1f1b", 1),
    (3, "interleaved", 2),
]


@pytest.fixture(scope="module")
def alone() -> Course:
    return single(config())


@pytest.mark.parametrize(("degree", "schedule", "chunks"), WAYS)
def test_a_pipeline_is_one_process(degree: int, schedule: ScheduleName, chunks: int, alone: Course) -> None:
    found = threaded(config(), degree, schedule, chunks)
    assert_same(found, alone)
    for course in found:
        assert all(told == list(range(len(told))) for told in course.handed_out)


@pytest.mark.parametrize("indices", [(2,), (5, 2), (2, 1, 2, 5)], ids=str)
@pytest.mark.parametrize(("schedule", "chunks"), [("1f1b", 1), ("interleaved", 2)])
def test_with_fewer_micro_batches_than_stages(
    indices: tuple[int, ...], schedule: ScheduleName, chunks: int
) -> None:
    if all(not LENGTHS[index] for index in indices):
        for course in threaded(config(), 3, schedule, chunks, indices=indices):
            assert course.losses == [[]] * pipelines.STEPS
            assert not any(value.any() for value in course.gradients[0].values())
            assert course.handed_out[0] == list(range(len(course.handed_out[0])))
        return
    assert_same(threaded(config(), 3, schedule, chunks, indices=indices), single(config(), indices=indices))


@pytest.mark.parametrize(("degree", "schedule", "chunks"), [(4, "1f1b", 1), (2, "interleaved", 3)])
def test_one_micro_batch_at_a_time(degree: int, schedule: ScheduleName, chunks: int) -> None:
    of = config()
    alone, found = single(of, one_by_one=True), threaded(of, degree, schedule, chunks, one_by_one=True)
    assert_same(found, alone)
    for step, expected in enumerate(alone.alone):
        assert sorted(expected) == [0, 1, 3, 4, 5]
        for position, gradient in expected.items():
            parts = [course.alone[step][position] for course in found]
            assert_near(pipelines.union(parts), gradient, 1e-9)


def test_in_float32_not_a_bit_differs() -> None:
    of = config(consistency=0.0)
    found, alone = threaded(of, 4, "1f1b", dtype=torch.float32), single(of, dtype=torch.float32)
    for name, value in pipelines.union([course.gradients[0] for course in found]).items():
        assert torch.equal(value, alone.gradients[0][name]), name
    assert [course.losses[0] for course in found] == [alone.losses[0]] * 4


def frozen_front(model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("encoder.layers.3", "ctc_head")))


def test_nothing_goes_back_to_stages_that_do_not_learn() -> None:
    found = threaded(config(), 3, "1f1b", freeze=frozen_front)
    assert_same(found, single(config(), freeze=frozen_front))
    assert not found[0].gradients[0]

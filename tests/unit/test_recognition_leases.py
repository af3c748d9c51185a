"""The queue of a job: everything ends exactly once, and nobody innocent is given up."""

from __future__ import annotations

import numpy as np

from hocket.recognition.leases import LeaseBook


def test_largest_first_and_one_ahead_while_enough_is_left() -> None:
    book = LeaseBook([1.0, 5.0, 3.0, 5.0, 2.0], max_deaths=3)
    assert [book.lease(0, 2), book.lease(0, 2), book.lease(0, 2)] == [1, 3, None]
    assert book.lease(1, 2) == 2
    assert book.lease(1, 2) == 4, "two are left for two workers"
    assert book.done(0, 1)
    assert book.lease(0, 2) is None, "the last one goes to a worker without work"
    assert book.done(0, 3)
    assert book.lease(0, 2) == 0
    assert (book.held(0), book.held(1), book.num_waiting) == ((0,), (2, 4), 0)


def test_an_answer_counts_once_and_from_its_holder_alone() -> None:
    book = LeaseBook([1.0], max_deaths=3)
    assert book.lease(0, 2) == 0
    assert not book.done(1, 0)
    assert book.done(0, 0)
    assert not book.done(0, 0)
    assert book.num_open == 0


def test_what_a_lost_worker_held_is_tried_alone_and_the_innocent_one_survives() -> None:
    book = LeaseBook([9.0, 8.0, 1.0, 1.0], max_deaths=3)
    poison, deaths = 1, 0
    worker, given_up, done = 0, [], []
    while book.num_open:
        while book.lease(worker, 1) is not None:
            pass
        held = book.held(worker)
        if poison in held:
            given_up += book.lost(worker)
            worker, deaths = worker + 1, deaths + 1
        else:
            done.append(held[0])
            assert book.done(worker, held[0])
    assert given_up == [poison]
    assert sorted(done) == [0, 2, 3]
    assert deaths == 3
    assert book.deaths(0) == 1


def test_a_suspect_is_held_alone_and_comes_before_what_is_fresh() -> None:
    book = LeaseBook([5.0, 4.0, 3.0, 2.0, 1.0], max_deaths=3)
    assert [book.lease(0, 1), book.lease(0, 1), book.lease(1, 1)] == [0, 1, 2]
    assert book.lost(0) == []
    assert book.lease(1, 1) is None, "its hand is to be free for a suspect"
    assert book.done(1, 2)
    assert [book.lease(1, 1), book.lease(1, 1)] == [0, None]
    assert [book.lease(2, 1), book.lease(2, 1)] == [1, None]


def test_every_micro_batch_ends_once_under_random_losses() -> None:
    for seed in range(30):
        random = np.random.default_rng(seed)
        book = LeaseBook(random.random(20).tolist(), max_deaths=3)
        done: list[int] = []
        given_up: list[int] = []
        while book.num_open:
            worker = int(random.integers(4))
            event = random.random()
            if event < 0.5:
                book.lease(worker, 4)
            elif event < 0.8 and book.held(worker):
                number = book.held(worker)[0]
                assert book.done(worker, number)
                done.append(number)
            elif event > 0.95:
                given_up += book.lost(worker)
        assert sorted(done + given_up) == list(range(20)), f"seed {seed}"


def test_abandoning_gives_up_what_is_open() -> None:
    book = LeaseBook([3.0, 2.0, 1.0], max_deaths=3)
    assert (book.lease(0, 1), book.lease(0, 1)) == (0, 1)
    assert book.done(0, 0)
    assert book.abandon() == [1, 2]
    assert book.num_open == 0

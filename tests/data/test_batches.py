"""Which examples make up a batch."""

import time
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from examples_of import vectors
from hypothesis import given
from hypothesis import strategies as st

from jtl.data.batches import AHEAD, batch_indices, fetch, local_slice, stream, stretch_indices
from jtl.data.examples import Examples
from jtl.errors import UserError
from jtl.types import Labelled, Unlabelled

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 50)


class Numbered:
    """Lazy images; image i is filled with i."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((2, 2, 1), index, np.uint8)

    def stamp(self, index: int) -> str:
        return str(index)


def lazy() -> Examples:
    examples = vectors([str(i) for i in range(30)], [i % 3 for i in range(30)])
    return replace(examples, inputs=Numbered())


def in_memory() -> Examples:
    return replace(lazy(), inputs=np.stack([Numbered()[i] for i in range(30)]))


@given(seeds, sizes, sizes, st.integers(1, 4))
def test_every_epoch_holds_every_example_once(
    seed: int, size: int, batch_size: int, epochs: int
) -> None:
    steps = -(-size * epochs // batch_size)
    drawn = stretch_indices(seed, 0, steps, size, batch_size, "source").ravel()
    for epoch in range(epochs):
        assert sorted(drawn[epoch * size : (epoch + 1) * size]) == list(range(size))


@given(seeds, sizes, sizes, st.integers(0, 1000), st.integers(0, 5))
def test_a_stretch_is_its_batches_one_by_one(
    seed: int, size: int, batch_size: int, first: int, steps: int
) -> None:
    stretch = stretch_indices(seed, first, steps, size, batch_size, "target")
    assert stretch.shape == (steps, batch_size)
    for row in range(steps):
        batch = batch_indices(seed, first + row, size, batch_size, "target")
        np.testing.assert_array_equal(stretch[row], batch)


def test_batches_are_the_same_in_every_version_of_jtl() -> None:
    drawn = stretch_indices(7, 3, 2, 10, 6, "source").tolist()
    assert drawn == [[6, 5, 3, 5, 9, 2], [8, 0, 6, 1, 4, 7]]


def test_seeds_streams_and_epochs_have_their_own_orders() -> None:
    orders = [
        batch_indices(0, 0, 100, 100, "source"),
        batch_indices(1, 0, 100, 100, "source"),
        batch_indices(0, 0, 100, 100, "target"),
        batch_indices(0, 1, 100, 100, "source"),
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert all(sorted(order) == list(range(100)) for order in orders)


def test_what_was_drawn_before_changes_nothing() -> None:
    fresh = batch_indices(3, 40, 7, 16, "source").tolist()
    stretch_indices(3, 0, 200, 7, 16, "source")
    assert batch_indices(3, 40, 7, 16, "source").tolist() == fresh


def test_changing_a_batch_does_not_change_the_next_call() -> None:
    first = batch_indices(0, 0, 8, 8, "source")
    kept = first.tolist()
    first[:] = 0
    assert batch_indices(0, 0, 8, 8, "source").tolist() == kept


def test_no_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="no examples to draw target batches from"):
        batch_indices(0, 0, 0, 8, "target")


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_slices_of_processes_make_up_the_global_batch(processes: int) -> None:
    whole = stretch_indices(0, 5, 3, 30, 8, "source")
    parts = [local_slice(whole, process, processes) for process in range(processes)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert {part.shape for part in parts} == {(3, 8 // processes)}


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size 9 cannot be shared by 2 processes"):
        local_slice(np.arange(9), 0, 2)


def test_a_batch_has_labels_only_where_the_examples_do() -> None:
    labelled = fetch(in_memory(), np.array([4, 2]))
    assert isinstance(labelled, Labelled)
    assert labelled.inputs[:, 0, 0, 0].tolist() == [4, 2] and labelled.labels.tolist() == [1, 2]
    assert isinstance(fetch(in_memory().without_labels(), np.array([4, 2])), Unlabelled)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("first", [0, 5, 11])
def test_streamed_batches_are_those_in_memory_wherever_the_stream_begins(
    threads: int, first: int
) -> None:
    batches = stream(
        lazy(), seed=2, first_step=first, steps=4, batch_size=8, name="source", threads=threads
    )
    streamed = list(batches)
    assert len(streamed) == 4
    for step, batch in enumerate(streamed, first):
        expected = fetch(in_memory(), batch_indices(2, step, 30, 8, "source"))
        assert isinstance(batch, Labelled) and isinstance(expected, Labelled)
        np.testing.assert_array_equal(batch.inputs, expected.inputs)
        np.testing.assert_array_equal(batch.labels, expected.labels)


def test_a_batch_that_processes_cannot_share_has_no_stream() -> None:
    settings = {"seed": 0, "first_step": 0, "steps": 2, "batch_size": 2, "name": "source"}
    with pytest.raises(UserError, match="batch_size 2 cannot be shared by 3 processes"):
        next(stream(lazy(), **settings, process=0, processes=3))


def test_streams_of_processes_make_up_the_global_stream() -> None:
    def streamed(**slices: int) -> list[np.ndarray]:
        settings = {"seed": 0, "first_step": 3, "steps": 2, "batch_size": 8} | slices
        target = lazy().without_labels()
        return [np.asarray(batch.inputs) for batch in stream(target, name="target", **settings)]

    halves = [streamed(process=process, processes=2) for process in (0, 1)]
    for whole, *parts in zip(streamed(), *halves, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_threads_share_a_batch() -> None:
    class Waiting(Numbered):
        together = Barrier(2, timeout=30)

        def __getitem__(self, index: int) -> np.ndarray:
            self.together.wait()  # breaks where one thread alone decodes
            return super().__getitem__(index)

    waiting = replace(lazy(), inputs=Waiting())
    batch = next(
        stream(waiting, seed=0, first_step=0, steps=1, batch_size=2, name="source", threads=2)
    )
    assert batch.inputs.shape == (2, 2, 2, 1)


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_two_batches_are_read_ahead_and_no_more(threads: int) -> None:
    class Counting(Numbered):
        def __init__(self) -> None:
            self.read: list[int] = []

        def __getitem__(self, index: int) -> np.ndarray:
            self.read.append(index)
            return super().__getitem__(index)

    counting = Counting()
    batches = stream(
        replace(lazy(), inputs=counting),
        **{"seed": 0, "first_step": 0, "steps": 9, "batch_size": 8, "name": "source"},
        threads=threads,
    )
    for seen in (1, 2):
        next(batches)
        deadline = time.monotonic() + 30
        while len(counting.read) < 8 * (seen + AHEAD) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)  # in which more would be read
        assert len(counting.read) == 8 * (seen + AHEAD)


def test_an_error_in_a_thread_reaches_the_reader() -> None:
    class Broken(Numbered):
        def __getitem__(self, index: int) -> np.ndarray:
            raise UserError(f"image {index}: cannot be decoded")

    broken = replace(lazy(), inputs=Broken())
    with pytest.raises(UserError, match=r"image \d+: cannot be decoded"):
        next(stream(broken, seed=0, first_step=0, steps=2, batch_size=4, name="source"))

"""Functions run over many examples."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtl.devices.inference import LENGTHS, in_batches

PADDING = 9


def texts(lengths: list[int]) -> np.ndarray:
    """Texts of these lengths; the tokens of text i are i."""
    rows = np.full((len(lengths), max(lengths)), PADDING, np.int32)
    for index, length in enumerate(lengths):
        rows[index, :length] = index % PADDING
    return rows


def test_texts_are_run_among_others_of_their_length_and_come_back_in_order() -> None:
    lengths = [3, 70, 16, 17, 1, 40, 64, 65, 3, 33]
    rows, shapes = texts(lengths), []

    def function(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shapes.append(batch.shape)
        there = batch != PADDING
        return there.sum(1), jnp.where(there, batch, 0).sum(1, keepdims=True)

    counts, sums = in_batches(function, rows, padding=PADDING)
    assert counts.tolist() == lengths
    assert sums[:, 0].tolist() == [n * (i % PADDING) for i, n in enumerate(lengths)]
    assert sorted({width for _, width in shapes}) == [16, 32, 64, 70]
    assert all(count * width <= 4096 for count, width in shapes)


def test_many_texts_of_one_length_are_batches_of_one_shape() -> None:
    shapes = set()

    def function(batch: np.ndarray) -> np.ndarray:
        shapes.add(batch.shape)
        return batch[:, 0]

    rows = texts([5] * 1000)
    assert (in_batches(function, rows, padding=PADDING) == np.arange(1000) % PADDING).all()
    assert len(shapes) == 1


def test_a_padding_token_inside_a_text_ends_nothing() -> None:
    rows = np.array([[1, PADDING, 2] + [PADDING] * 20])
    assert in_batches(lambda batch: batch[:, 2], rows, padding=PADDING).tolist() == [2]


@pytest.mark.parametrize("longest", [8, *LENGTHS, 700])
def test_no_token_is_lost_at_any_length(longest: int) -> None:
    lengths = [longest, max(1, longest - 1), 1]
    counts = in_batches(lambda batch: (batch != PADDING).sum(1), texts(lengths), padding=PADDING)
    assert counts.tolist() == lengths


@pytest.mark.parametrize("count", [1, 5, 6, 40])
def test_what_processes_read_of_a_batch_is_the_batch(count: int) -> None:
    """Each reads its part of what is filled up, so that all devices have as much."""
    inputs, read = np.arange(count) + 1, []

    def of(process: int) -> np.ndarray:
        def both(rows: np.ndarray) -> np.ndarray:
            """What this process reads, in its place of the batch that all have."""
            read.append(rows)
            batch = np.zeros((2, len(rows)), int)
            batch[process] = rows
            return batch.reshape(-1)

        return in_batches(both, inputs, batch_size=3, devices=4, part=(process, 2))

    assert (of(0) + of(1) == inputs).all()
    assert {len(rows) % 2 for rows in read} == {0}  # as many on each of a process's two devices
    assert max(map(len, read)) <= 6

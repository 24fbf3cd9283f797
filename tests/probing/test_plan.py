"""Features beyond memory: what a fit reads is what was planned, and the fit that of an array."""

import numpy as np
import pytest

from jtl.probing import LazyRows, plan_ridge, ridge_path, total_variance

pytestmark = pytest.mark.usefixtures("one_device")

EXAMPLES, WIDTH, CLASSES = 90, 6, 4


class Drawn(LazyRows):
    """Random features that are made as they are read, and counted."""

    def __init__(self) -> None:
        super().__init__([self.row(number) for number in range(EXAMPLES)])
        self.read = 0

    @staticmethod
    def row(number: int) -> np.ndarray:
        draw = np.random.Generator(np.random.Philox(number)).standard_normal(WIDTH)
        return (draw + (np.arange(WIDTH) == number % CLASSES)).astype(np.float32)

    def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
        rows = super().__getitem__(places)
        self.read += rows.nbytes
        return rows


def test_a_stream_is_read_as_planned_and_fitted_as_an_array_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strengths, labels = np.logspace(0, -3, 5), np.arange(EXAMPLES) % CLASSES
    whole = np.stack([Drawn.row(number) for number in range(EXAMPLES)])
    expected = ridge_path(whole, labels, strengths)
    monkeypatch.setattr("jtl.probing._rows.NUMBERS", 20 * WIDTH)
    monkeypatch.setattr("jtl.probing.ridge.RESIDUALS", 2 * 18 * CLASSES)  # two strengths at once
    drawn = Drawn()
    plan = plan_ridge(drawn, CLASSES, len(strengths))
    assert drawn.read == 18 * WIDTH * 4  # one block
    drawn.read = 0
    found = ridge_path(drawn, labels, strengths)
    assert (plan.blocks, drawn.read) == (5, plan.bytes_read)
    np.testing.assert_allclose(found.errors, expected.errors, rtol=1e-9)
    np.testing.assert_array_equal(found.right, expected.right)


def test_features_far_from_zero_keep_their_mean_and_variance_in_one_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jtl.probing._rows.NUMBERS", 20 * WIDTH)
    whole = np.stack([Drawn.row(number) for number in range(EXAMPLES)]).astype(np.float64)
    whole[:18] += 5  # the first block is not like the rest
    expected = whole.var(0).sum()
    np.testing.assert_allclose(total_variance(LazyRows(list(whole))), expected, rtol=1e-12)
    np.testing.assert_allclose(total_variance(LazyRows(list(whole + 1e6))), expected, rtol=1e-8)


def test_memory_does_not_grow_with_the_features_and_time_does() -> None:
    class Long(LazyRows):
        def __init__(self, examples: int) -> None:
            super().__init__([np.zeros(128)])
            self.shape = examples, 128

        def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
            assert isinstance(places, slice)
            return np.ones((len(range(*places.indices(self.shape[0]))), 128), np.float32)

    short, long = (plan_ridge(Long(examples), 10, 4) for examples in (10**5, 10**7))
    assert long.bytes_held < 1.5 * short.bytes_held
    assert long.bytes_read == 100 * short.bytes_read
    assert long.seconds > short.seconds

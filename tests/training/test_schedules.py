import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtl import schedules
from jtl.errors import UserError

progress = st.floats(0, 1, width=32)

ORACLES: dict[str, tuple[Callable, Callable]] = {
    "constant": (schedules.constant, lambda p: 1.0),
    "adversarial_strength": (
        schedules.adversarial_strength,
        lambda p: 2 / (1 + math.exp(-10 * p)) - 1,
    ),
    "inverse_decay": (schedules.inverse_decay, lambda p: (1 + 10 * p) ** -0.75),
    "cosine_decay": (schedules.cosine_decay, lambda p: (1 + math.cos(math.pi * p)) / 2),
    "warm_up": (lambda p: schedules.warm_up(p, 0.25), lambda p: min(p / 0.25, 1)),
    "ramp": (
        lambda p: schedules.ramp(p, start=0.25, end=0.5),
        lambda p: min(max((p - 0.25) / 0.25, 0), 1),
    ),
}
every_schedule = pytest.mark.parametrize(("schedule", "oracle"), ORACLES.values(), ids=ORACLES)


@every_schedule
@given(at=progress)
def test_value_is_the_papers(schedule: Callable, oracle: Callable, at: float) -> None:
    np.testing.assert_allclose(schedule(at), oracle(at), rtol=1e-5, atol=1e-6)


@every_schedule
def test_progress_may_be_traced_and_an_array(schedule: Callable, oracle: Callable) -> None:
    points = jnp.linspace(0, 1, 5)
    values = jax.jit(schedule)(points)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, [oracle(float(p)) for p in points], rtol=1e-5, atol=1e-6)


def test_adversarial_strength_reaches_one_at_the_end_whatever_the_length() -> None:
    """Peers that ramp over a fixed number of steps end at 0.46."""
    for steps in (10, 100_000):
        assert schedules.adversarial_strength((steps - 1) / steps) > 0.999
    assert schedules.adversarial_strength(0.0) == 0


def test_cosine_stays_at_its_end() -> None:
    np.testing.assert_allclose(schedules.cosine_decay(1.5, final=0.1), 0.1)


def test_a_ramp_of_no_length_is_a_step() -> None:
    values = schedules.ramp(jnp.array([0.0, 0.49, 0.5, 1.0]), start=0.5, end=0.5)
    assert values.tolist() == [0, 0, 1, 1]
    assert schedules.warm_up(0.0, 0.0) == 1


@pytest.mark.parametrize(("start", "end"), [(-0.1, 1.0), (0.6, 0.5), (0.0, 1.1)])
def test_a_ramp_outside_training_is_an_error(start: float, end: float) -> None:
    with pytest.raises(UserError, match="0 <= start <= end <= 1"):
        schedules.ramp(0.5, start=start, end=end)

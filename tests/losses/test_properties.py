"""Properties of the losses that are maps, differences or penalties, for whatever they are given."""

from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jtl import losses
from jtl.losses._samples import squared_distances

ROWS, COLUMNS = 4, 3


def matrices(rows: int = ROWS, columns: int = COLUMNS, largest: float = 5.0) -> Any:
    numbers = st.floats(-largest, largest, width=32)
    return arrays(np.float32, (rows, columns), elements=numbers)


def vectors(length: int) -> Any:
    return matrices(1, length).map(lambda matrix: matrix[0])


orders = st.permutations(range(ROWS))
classes = st.permutations(range(COLUMNS))
labels = st.lists(st.integers(0, COLUMNS - 1), min_size=ROWS, max_size=ROWS).map(np.array)


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.softmax(logits, axis=1))


@given(inputs=matrices(), strength=st.floats(0, 3, width=32))
def test_reversal_keeps_values_and_turns_every_slope(inputs: np.ndarray, strength: float) -> None:
    def total(x: jax.Array) -> jax.Array:
        return jnp.sin(x).sum()

    found = jax.grad(lambda x: total(losses.reverse_gradient(x, strength)))(jnp.asarray(inputs))
    close(losses.reverse_gradient(inputs, strength), inputs)
    close(found, -strength * np.cos(inputs))


@given(source=vectors(ROWS), target=vectors(5), order=orders)
def test_domain_loss_is_positive_blind_to_order_and_to_which_domain_is_which(
    source: np.ndarray, target: np.ndarray, order: list[int]
) -> None:
    value = losses.domain_adversarial(source, target)
    assert value > 0
    close(losses.domain_adversarial(source[order], target[::-1]), value)
    close(losses.domain_adversarial(-target, -source), value)


@given(f=matrices(), g=matrices(), p=matrices(), q=matrices())
def test_multilinear_maps_have_the_product_of_the_inner_products(
    f: np.ndarray, g: np.ndarray, p: np.ndarray, q: np.ndarray
) -> None:
    inner = (losses.multilinear_map(f, p) * losses.multilinear_map(g, q)).sum(1)
    close(inner, (f * g).sum(1) * (p * q).sum(1))


@given(f=matrices(), p=matrices(), order=orders, factor=st.floats(-3, 3, width=32))
def test_randomized_map_is_linear_in_each_and_row_by_row(
    f: np.ndarray, p: np.ndarray, order: list[int], factor: float
) -> None:
    draw = np.random.default_rng(0).normal(size=(2, COLUMNS, 6)).astype(np.float32)
    matrix = (jnp.asarray(draw[0]), jnp.asarray(draw[1]))
    value = losses.randomized_multilinear_map(f, p, matrix)
    close(losses.randomized_multilinear_map(f[order], p[order], matrix), value[np.array(order)])
    close(losses.randomized_multilinear_map(np.float32(factor) * f, p, matrix), factor * value)
    close(losses.randomized_multilinear_map(f, np.float32(factor) * p, matrix), factor * value)


@given(logits=matrices(), order=orders, shift=st.floats(-9, 9, width=32))
def test_entropy_weights_have_mean_1_and_go_with_their_rows(
    logits: np.ndarray, order: list[int], shift: float
) -> None:
    weights = losses.entropy_weights(logits)
    close(weights.mean(), 1)
    assert (weights > 0).all()
    close(losses.entropy_weights(logits[order] + np.float32(shift)), weights[np.array(order)])


@given(one=matrices(), other=matrices(), third=matrices(), order=orders, of=classes)
def test_classifier_discrepancy_is_a_distance(
    one: np.ndarray, other: np.ndarray, third: np.ndarray, order: list[int], of: list[int]
) -> None:
    value = losses.classifier_discrepancy(one, other)
    assert losses.classifier_discrepancy(one, one) == 0
    assert -1e-6 <= value <= 2 / COLUMNS + 1e-6
    close(losses.classifier_discrepancy(other, one), value)
    close(losses.classifier_discrepancy(one[order][:, of], other[order][:, of]), value)
    around = losses.classifier_discrepancy(one, third) + losses.classifier_discrepancy(third, other)
    assert value <= around + 1e-6


@given(logits=matrices(), adversary=matrices(), order=orders, of=classes)
def test_margin_disparity_is_never_positive_and_blind_to_order(
    logits: np.ndarray, adversary: np.ndarray, order: list[int], of: list[int]
) -> None:
    top = np.sort(logits, axis=1)
    hypothesis.assume((top[:, -1] > top[:, -2]).all())  # of equal logits the first is chosen
    value = losses.margin_disparity(logits, adversary, logits, adversary)
    assert value <= 0
    moved = [each[order][:, of] for each in (logits, adversary)]
    close(losses.margin_disparity(*moved, logits, adversary), value)
    close(losses.margin_disparity(logits, adversary, *moved), value)


@given(source=vectors(ROWS), target=vectors(5), shift=st.floats(-9, 9, width=32))
def test_critics_difference_changes_sign_with_the_domains_and_not_with_a_shift(
    source: np.ndarray, target: np.ndarray, shift: float
) -> None:
    value = losses.wasserstein_critic(source, target)
    close(losses.wasserstein_critic(target, source), -value)
    moved = (each + np.float32(shift) for each in (source, target))
    close(losses.wasserstein_critic(*moved), value)


@given(source=matrices(), target=matrices(5), slope=vectors(COLUMNS), seed=st.integers(0, 99))
def test_penalty_of_a_linear_critic_is_that_of_its_slope_wherever_the_points_are(
    source: np.ndarray, target: np.ndarray, slope: np.ndarray, seed: int
) -> None:
    found = losses.gradient_penalty(lambda x: x @ slope, source, target, jax.random.key(seed))
    close(found, (np.linalg.norm(slope) - 1) ** 2)


@given(logits=matrices(), of=labels, order=classes, gamma=st.floats(0, 5, width=32))
def test_focal_loss_lies_between_0_and_cross_entropy_and_is_it_at_gamma_0(
    logits: np.ndarray, of: np.ndarray, order: list[int], gamma: float
) -> None:
    plain, value = losses.cross_entropy(logits, of), losses.focal(logits, of, gamma=gamma)
    assert ((value >= 0) & (value <= plain + 1e-6)).all()
    close(losses.focal(logits, of, gamma=0.0), plain)
    close(losses.focal(logits[:, order], np.argsort(order)[of], gamma=gamma), value)


@given(one=matrices(), other=matrices(), order=orders)
def test_joint_mmd_is_symmetric_not_negative_and_0_at_equality(
    one: np.ndarray, other: np.ndarray, order: list[int]
) -> None:
    widths = [np.ones(1, np.float32), np.ones(1, np.float32)]
    source, target = [one, softmax(one)], [other, softmax(other)]
    value = losses.joint_mmd(source, target, bandwidths=widths)
    assert value >= -1e-5
    close(losses.joint_mmd(target, source, bandwidths=widths), value)
    close(losses.joint_mmd([each[order] for each in source], target, bandwidths=widths), value)
    close(losses.joint_mmd(source, source, bandwidths=widths), 0)


@given(start=matrices(), move=matrices(), new=matrices(), factor=st.floats(-2, 2, width=32))
def test_l2_sp_is_0_at_the_start_and_grows_with_the_square_of_the_way(
    start: np.ndarray, move: np.ndarray, new: np.ndarray, factor: float
) -> None:
    def penalty(params: dict[str, Any]) -> jax.Array:
        return losses.l2_sp(params, {"old": start}, alpha=0.5, beta=0.25)

    assert penalty({"old": start, "new": np.zeros_like(new)}) == 0
    once = penalty({"old": start + move, "new": new})
    far = {"old": start + np.float32(factor) * move, "new": np.float32(factor) * new}
    np.testing.assert_allclose(penalty(far), factor**2 * once, rtol=1e-3, atol=1e-3)


@given(source=matrices(), target=matrices(5), logits=matrices(5), of=labels, order=orders)
@hypothesis.settings(max_examples=5)
def test_joint_transport_is_not_negative_and_blind_to_order(
    source: np.ndarray, target: np.ndarray, logits: np.ndarray, of: np.ndarray, order: list[int]
) -> None:
    def cost(source: np.ndarray, of: np.ndarray, step: int) -> jax.Array:
        return losses.joint_transport(source, of, target[::step], logits[::step], epsilon=0.1)

    value = cost(source, of, 1)
    assert value >= 0
    np.testing.assert_allclose(cost(source[order], of[order], -1), value, rtol=1e-3, atol=1e-5)


def test_squared_distances_of_near_rows_are_not_negative() -> None:
    """As ``|x|^2 + |y|^2 - 2xy`` is in float32, by far more than the distances are."""
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32))
    moved, centre = rows + 1e-4, rows.mean(0)
    products = (rows - centre[None]) @ (moved - centre[None]).T
    norms = [((each - centre[None]) ** 2).sum(1) for each in (rows, moved)]
    unclamped = norms[0][:, None] + norms[1][None, :] - 2 * products
    assert unclamped.min() < -1e-5
    assert squared_distances(rows, moved, centre).min() >= 0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families.common import INF, LABELS
from families.regularization import (
    DENSE,
    KEYS,
    MAPS,
    OLD_DENSE,
    OLD_MAPS,
    QUERIES,
    QUEUE,
    QUEUE_LABELS,
    RELATIONSHIP,
    SOURCE_LOGITS,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jtl.errors import UserError
from jtl.losses import bi_tuning, co_tuning, cross_entropy, delta, entropy, l2_sp

PARAMS = {"backbone": {"a": jnp.array([1.0, 2.0])}, "head": {"w": jnp.array([3.0])}}


def test_gradient_points_to_the_reference_and_new_leaves_to_zero() -> None:
    reference = {"backbone": {"a": jnp.array([1.0, 4.0])}}
    gradient = jax.grad(lambda p: l2_sp(p, reference, alpha=0.5, beta=0.1))(PARAMS)
    np.testing.assert_allclose(gradient["backbone"]["a"], [0.0, -1.0], rtol=1e-6)
    np.testing.assert_allclose(gradient["head"]["w"], [0.3], rtol=1e-6)


def test_at_the_reference_the_penalty_is_zero() -> None:
    assert l2_sp(PARAMS, PARAMS, alpha=1.0, beta=1.0) == 0


def test_without_a_reference_every_leaf_is_new() -> None:
    np.testing.assert_allclose(l2_sp(PARAMS, {}, alpha=9.0, beta=2.0), 1 + 4 + 9)


def test_leaves_that_only_the_reference_has_are_not_read() -> None:
    reference = {"backbone": {"a": jnp.zeros(2), "frozen": jnp.full(3, jnp.nan)}}
    np.testing.assert_allclose(l2_sp(PARAMS, reference, alpha=2.0, beta=0.0), 5)


def test_strengths_may_be_mapped_over() -> None:
    penalty = jax.vmap(lambda a: l2_sp(PARAMS, {"backbone": PARAMS["backbone"]}, alpha=a, beta=a))
    np.testing.assert_allclose(penalty(jnp.array([0.0, 2.0])), [0, 9])


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"backbone": {"a": jnp.zeros(3)}}, r"backbone/a is \(2,\) but \(3,\)"),
        ({"a": jnp.zeros(2)}, r"no leaf of the reference \(a, \.\.\.\)"),
    ],
)
def test_a_reference_that_does_not_fit_is_an_error(reference: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        l2_sp(PARAMS, reference, alpha=1.0, beta=1.0)


TRAINED = {"maps": jnp.float32(MAPS), "dense": jnp.float32(DENSE)}
PRETRAINED = {"maps": jnp.float32(OLD_MAPS), "dense": jnp.float32(OLD_DENSE)}
fast_co_tuning, fast_delta, fast_contrast = jax.jit(co_tuning), jax.jit(delta), jax.jit(bi_tuning)


def test_more_examples_of_the_same_kind_leave_delta_unchanged() -> None:
    twice = [
        {name: jnp.concatenate([maps, maps]) for name, maps in layers.items()}
        for layers in (TRAINED, PRETRAINED)
    ]
    np.testing.assert_allclose(delta(*twice), delta(TRAINED, PRETRAINED), rtol=1e-6)


@given(arrays(np.float32, (8, 4), elements=st.floats(-5, 5, width=32)), st.floats(0, 4, width=32))
def test_delta_grows_with_the_square_of_how_far_maps_have_moved(
    move: np.ndarray, times: float
) -> None:
    start = {"dense": jnp.float32(OLD_DENSE)}
    near, far = (fast_delta({"dense": start["dense"] + f * move}, start) for f in (1, times))
    np.testing.assert_allclose(far, np.float32(times) ** 2 * near, rtol=1e-3, atol=1e-4)


def test_where_nothing_has_moved_delta_and_its_gradient_are_zero() -> None:
    value, gradient = jax.value_and_grad(delta)(TRAINED, TRAINED)
    assert value == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


def test_no_gradient_of_delta_reaches_the_reference() -> None:
    gradient = jax.grad(delta, 1)(TRAINED, PRETRAINED)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


def test_a_channel_of_weight_zero_is_free() -> None:
    weights = {"maps": jnp.array([1.0, 0.0, 1.0]), "dense": jnp.ones(4)}
    gradient = jax.grad(lambda t: delta(t, PRETRAINED, weights=weights))(TRAINED)
    assert not gradient["maps"][..., 1].any()
    assert gradient["maps"][..., 0].any()


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: delta(TRAINED, {}), "names no layer"),
        (lambda: delta({"dense": DENSE}, PRETRAINED), "maps is in the reference but not in the l"),
        (lambda: delta(TRAINED, PRETRAINED, weights={"maps": jnp.ones(3)}), "not in the weights"),
        (lambda: delta(TRAINED, {"maps": MAPS[:4]}), "maps and its reference"),
        (lambda: delta({"x": DENSE[:, 0]}, {"x": DENSE[:, 0]}), r"x is \(8,\), expected"),
        (lambda: delta({"x": DENSE[:0]}, {"x": DENSE[:0]}), r"x is \(0, 4\), expected"),
        (
            lambda: delta(TRAINED, PRETRAINED, weights={"maps": jnp.ones(4), "dense": jnp.ones(4)}),
            "maps's channels and weights",
        ),
        (lambda: delta(TRAINED, PRETRAINED, where=jnp.ones(3, bool)), "one boolean for each of 8"),
    ],
)
def test_layers_that_do_not_belong_together_are_errors(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=words):
        call()


def test_co_tuning_with_one_source_class_a_label_is_cross_entropy() -> None:
    logits, meaning = jnp.float32(SOURCE_LOGITS), np.array([3, 0, 2])
    relationship = jnp.eye(4, dtype=jnp.float32)[meaning]
    np.testing.assert_allclose(
        co_tuning(logits, LABELS, relationship), cross_entropy(logits, meaning[LABELS]), rtol=1e-6
    )


@given(arrays(np.float32, (8, 4), elements=st.floats(-10, 10, width=32)))
def test_co_tuning_is_least_where_the_head_predicts_the_relationship(logits: np.ndarray) -> None:
    rows = jnp.log(jnp.float32(RELATIONSHIP))
    least = entropy(rows)[LABELS]
    np.testing.assert_allclose(fast_co_tuning(rows[LABELS], LABELS, RELATIONSHIP), least, rtol=1e-5)
    assert (fast_co_tuning(logits, LABELS, RELATIONSHIP) >= least - 1e-5).all()


def test_a_source_class_that_is_not_wanted_may_be_excluded() -> None:
    logits = jnp.array([[0.0, -INF, 0.0]])
    relationship = jnp.array([[0.5, 0.0, 0.5]])
    labels = jnp.array([0])
    np.testing.assert_allclose(co_tuning(logits, labels, relationship), np.log(2), rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_the_relationship_does_not_have_gives_nan(label: int) -> None:
    logits = jnp.float32(SOURCE_LOGITS)[:2]
    losses = co_tuning(logits, jnp.array([label, 0]), jnp.float32(RELATIONSHIP))
    assert np.isnan(losses).tolist() == [True, False]


def contrast(**changes: object) -> jax.Array:
    arguments = {
        "queries": jnp.float32(QUERIES),
        "keys": jnp.float32(KEYS),
        "labels": LABELS,
        "queue": jnp.float32(QUEUE),
        "queue_labels": QUEUE_LABELS,
    }
    return bi_tuning(**arguments | changes)


@given(
    arrays(np.float32, (8, 4), elements=st.floats(-3, 3, width=32)),
    arrays(np.float32, (8, 4), elements=st.floats(-3, 3, width=32)),
    arrays(np.int32, 6, elements=st.integers(-1, 2)),
)
def test_the_contrast_is_least_where_the_keys_of_a_class_share_all_mass(
    queries: np.ndarray, keys: np.ndarray, queue_labels: np.ndarray
) -> None:
    losses = fast_contrast(queries, keys, LABELS, jnp.float32(QUEUE), queue_labels)
    own_class = 1 + (LABELS[:, None] == queue_labels).sum(axis=1)
    pool = 1 + (queue_labels >= 0).sum()
    assert (losses >= np.log(own_class) - 1e-4).all()
    assert (losses <= np.log(pool) + 2 / 0.07 + 1e-3).all()


def test_only_the_direction_of_keys_and_queries_counts() -> None:
    scales = jnp.array([0.1, 2, 30, 1, 1, 1, 1, 1])[:, None]
    stretched = contrast(
        queries=QUERIES * scales, keys=KEYS * scales[::-1], queue=QUEUE * scales[:6]
    )
    np.testing.assert_allclose(stretched, contrast(), rtol=1e-5)


def test_the_order_of_the_queue_does_not_matter() -> None:
    order = np.array([3, 1, 5, 0, 4, 2])
    moved = contrast(queue=jnp.float32(QUEUE[order]), queue_labels=QUEUE_LABELS[order])
    np.testing.assert_allclose(moved, contrast(), rtol=1e-5)


def test_an_empty_slot_takes_no_part_whatever_it_holds() -> None:
    held = jnp.float32(QUEUE).at[np.flatnonzero(QUEUE_LABELS < 0)].set(9.0)
    np.testing.assert_allclose(contrast(queue=held), contrast(), rtol=1e-6)
    filled = QUEUE_LABELS >= 0
    without = contrast(queue=jnp.float32(QUEUE[filled]), queue_labels=QUEUE_LABELS[filled])
    np.testing.assert_allclose(without, contrast(), rtol=1e-6)


def test_with_an_empty_queue_there_is_nothing_to_tell_apart() -> None:
    assert not contrast(queue_labels=np.full(6, -1)).any()


def test_no_gradient_of_the_contrast_reaches_the_queue() -> None:
    assert not jax.grad(lambda q: contrast(queue=q).sum())(jnp.float32(QUEUE)).any()
    assert jax.grad(lambda k: contrast(keys=k).sum())(jnp.float32(KEYS)).any()


def test_a_query_without_a_label_gives_nan() -> None:
    losses = contrast(labels=np.array([-1, *LABELS[1:]]))
    assert np.isnan(losses).tolist() == [True] + 7 * [False]


def test_a_query_without_a_label_that_the_caller_leaves_out_has_no_gradient() -> None:
    labels = np.array([-1, *LABELS[1:]])

    def total(queries: jax.Array) -> jax.Array:
        losses = contrast(queries=queries, labels=labels)
        return jnp.where(labels >= 0, losses, 0.0).sum()

    gradient = jax.grad(total)(jnp.float32(QUERIES))
    assert not gradient[0].any()
    assert np.isfinite(gradient).all()


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: co_tuning(SOURCE_LOGITS, LABELS, RELATIONSHIP[:, :3]), "widths 4 and 3"),
        (lambda: co_tuning(SOURCE_LOGITS, LABELS[:3], RELATIONSHIP), "labels of shape"),
        (lambda: co_tuning(SOURCE_LOGITS, LABELS * 1.0, RELATIONSHIP), "must be integers"),
        (lambda: contrast(keys=jnp.float32(KEYS[:, :3])), "queries and keys"),
        (lambda: contrast(queue=jnp.zeros((6, 3))), "widths 4 and 3"),
        (lambda: contrast(queue_labels=QUEUE_LABELS[:2]), "labels of shape"),
        (lambda: contrast(temperature=0.0), "temperature is 0.0"),
    ],
)
def test_heads_and_queues_that_do_not_fit_are_errors(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=words):
        call()

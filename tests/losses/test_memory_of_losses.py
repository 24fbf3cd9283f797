"""No loss of whole batches holds an array of [batch, batch, features], forward or backward."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jtl import losses

# The program is the same of any size; benchmarks/costs.py compiles those of 4096 examples.
BATCH, FEATURES, CLASSES = 1024, 2048, 65

FEATURE, LOGIT = (
    jax.ShapeDtypeStruct((BATCH, width), jnp.float32) for width in (FEATURES, CLASSES)
)
LABEL = jax.ShapeDtypeStruct((BATCH,), jnp.int32)

LOSSES = {
    "mmd": (losses.mmd, FEATURE, FEATURE),
    "joint_mmd": (
        lambda s, t, p, q: losses.joint_mmd((s, jax.nn.softmax(p)), (t, jax.nn.softmax(q))),
        *(FEATURE, FEATURE, LOGIT, LOGIT),
    ),
    "minimum_class_confusion": (losses.minimum_class_confusion, LOGIT),
    "joint_transport": (
        lambda s, t, q, y: losses.joint_transport(s, y, t, q),
        *(FEATURE, FEATURE, LOGIT, LABEL),
    ),
    "coral": (losses.coral, FEATURE, FEATURE),
    "central_moment_discrepancy": (losses.central_moment_discrepancy, FEATURE, FEATURE),
    "batch_spectral_penalty": (losses.batch_spectral_penalty, FEATURE),
    "batch_spectral_shrinkage": (losses.batch_spectral_shrinkage, FEATURE),
    "batch_nuclear_norm": (losses.batch_nuclear_norm, LOGIT),
    "adaptive_feature_norm": (lambda s: losses.adaptive_feature_norm(s).mean(), FEATURE),
    "sliced_wasserstein": (
        lambda s, t: losses.sliced_wasserstein(s, t, jax.random.key(0)),
        *(FEATURE, FEATURE),
    ),
}


def sizes(jaxpr: Any) -> Iterator[int]:
    """Of every array that a program makes, those of the programs inside it too."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for inner in jax.tree.leaves(dict(equation.params), is_leaf=_is_program):
            if _is_program(inner):
                yield from sizes(getattr(inner, "jaxpr", inner))


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def program(loss: Any, *shapes: jax.ShapeDtypeStruct) -> Any:
    floats = [i for i, shape in enumerate(shapes) if shape.dtype == jnp.float32]
    return jax.jit(jax.value_and_grad(loss, floats)).trace(*shapes)


def largest(loss: Any, *shapes: jax.ShapeDtypeStruct) -> int:
    return max(sizes(program(loss, *shapes).jaxpr.jaxpr))


# Five kernels of both batches' pairs are the most.
BOUND = 5 * (2 * BATCH) ** 2


@pytest.mark.parametrize("name", list(LOSSES))
def test_pairs_of_examples_are_never_held_with_their_features(name: str) -> None:
    loss, *shapes = LOSSES[name]
    assert largest(loss, *shapes) <= BOUND < BATCH * BATCH * FEATURES / 20


@pytest.mark.parametrize("name", ["mmd", "joint_mmd"])
def test_pairs_are_no_constants_of_the_program(name: str) -> None:
    """Of 4096 examples, compiling took minutes when they were."""
    loss, *shapes = LOSSES[name]
    assert len(program(loss, *shapes).lower().as_text()) < 500_000 < BATCH * BATCH


def test_what_is_looked_for_would_be_found() -> None:
    def plain(source: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.square(source[:, None, :] - target[None, :, :]).mean()

    assert largest(jax.jit(plain), FEATURE, FEATURE) == BATCH * BATCH * FEATURES

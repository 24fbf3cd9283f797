"""Losses run under the strictest promotion rules, which a user's setting may be too."""

from collections.abc import Iterator

import jax
import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def strict_promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def without_type_checks() -> Iterator[None]:
    """As users run: what jaxtyping would have caught must be caught by the losses."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

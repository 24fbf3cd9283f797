"""Backbones computed in bfloat16, and with their forward pass run twice."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
import test_families

from jtl.models import families
from jtl.models.backbone import Backbone
from jtl.models.chain import chain
from jtl.models.compute import computed
from jtl.models.zoo import random
from jtl.runs.prepare import Shared, prepare

Gradients = Callable[[Any, Any, Any], Any]


def value_and_gradients(found: Backbone) -> Gradients:
    """The features in training mode with their statistics, and the gradients of a sum of them."""
    model = chain(found.blocks())

    def loss(params: Any, stats: Any, inputs: Any) -> Any:
        features, moved = model.apply(params, stats, inputs, train=True, rng=jax.random.key(1))
        weights = jnp.cos(jnp.arange(features.size)).reshape(features.shape)
        return (features * weights).sum(), (features, moved)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("family", test_families.SHAPES)
def test_bfloat16_rounds_features_and_nothing_else(family: str) -> None:
    plain = test_families.made(family)
    inputs = test_families.inputs_of(plain.wanted)
    params, stats = test_families.weights(family)
    rounded = computed(plain, bfloat16=True, remat=False)
    (_, (features, moved)), gradients = value_and_gradients(rounded)(params, stats, inputs)
    exact, _ = jax.jit(
        lambda *given: chain(plain.blocks()).apply(*given, train=True, rng=jax.random.key(1))
    )(params, stats, inputs)
    gap = float(np.abs(features - exact).max() / np.abs(exact).max())
    assert 1e-4 < gap < 0.1
    leaves = jax.tree.leaves((features, moved, gradients))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in leaves)


@functools.cache
def deep_vit(remat: bool) -> tuple[Any, Any]:
    """The gradients of six layers that are wide inside, and the bytes that they take to compute."""
    shape, wanted = test_families.SHAPES["vit"]
    shape = families.vit.Shape(**{**shape, "layers": 6, "hidden": 256})
    plain = families.backbone("it", "vit", shape, wanted)
    weights = chain(plain.blocks()).init(jax.random.key(0))
    inputs = test_families.inputs_of(wanted)
    found = computed(plain, bfloat16=False, remat=remat)
    # As a CPU schedules by default, it computes again long before it needs what comes of it.
    schedule = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    compiled = value_and_gradients(found).lower(*weights, inputs).compile(schedule)
    return compiled(*weights, inputs), compiled.memory_analysis().temp_size_in_bytes


def test_rematerialisation_changes_no_number_and_saves_memory() -> None:
    (plain, before), (again, after) = deep_vit(False), deep_vit(True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, again)
    assert after < 0.6 * before


def test_only_what_is_asked_for_is_wrapped() -> None:
    found = random("digits-convnet", image_size=8)
    assert computed(found, bfloat16=False, remat=False) is found
    assert computed(found, bfloat16=False, remat=True).name == found.name


def test_runs_that_share_a_process_share_no_frozen_features(tmp_path: Path) -> None:
    shared, stored = Shared(), []
    for compute in ("float32", "bfloat16"):
        config = small_runs.picture_config(tmp_path)
        config.model.compute = compute
        config.partition = (("backbone/.*", "freeze"), (".*", "train"))
        stored.append(prepare(config, tmp_path, shared).stored.source_train.array())
    exact, rounded = stored
    assert exact.dtype == rounded.dtype == np.float32
    gap = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-4 < gap < 0.1

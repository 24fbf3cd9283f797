import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jtl import losses
from jtl.training.step import make_training
from jtl.types import (
    Method,
    Model,
    Params,
    Phase,
    Scope,
    Source,
    Target,
    Terms,
    TrainState,
    Unlabelled,
)

run = functools.partial(toys.run, plain=True)


def probing(objective: Any, **settings: Any) -> toys.Run:
    """A run whose objective shows what it is given."""
    return toys.Run(toys.recipe(Method((Phase(objective),)), plain=True, **settings))


# --- steps, progress, metrics ---------------------------------------------------------------------


def watch(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
    task = losses.cross_entropy(source.logits, source.labels).mean()
    return task, {"progress": scope.progress}


def test_steps_are_counted_and_progress_is_their_share() -> None:
    watching = probing(watch)
    state = watching.start()
    seen = []
    for _ in range(3):
        state, metrics = watching.train(1, state)
        seen.append(float(metrics["progress"]))
    assert int(state.step) == 3
    assert seen == pytest.approx([0.0, 0.1, 0.2])


def test_strengths_and_learning_rates_change_the_result_without_compiling_again() -> None:
    traces = []

    def objective(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        traces.append(1)
        gap = losses.coral(source.features, target.features)
        return watch(source, target, scope)[0] + scope.hyper["strength"] * gap, {"coral": gap}

    method = Method((Phase(objective),), hyper={"strength": 1.0})
    made = toys.Run(toys.recipe(method, plain=True))
    ends = [
        made.step(made.start(), toys.batch(0), toys.hyper(method, **changes))[0].params
        for changes in ({}, {"strength": 100.0}, {"learning_rate": 0.2}, {"weight_decay": 0.5})
    ]
    assert len(traces) == 1
    assert all(toys.difference(ends[0], end) > 1e-3 for end in ends[1:])


def test_terms_are_named_and_finite_from_the_first_step() -> None:
    _, metrics = run("mmd").train(1)
    assert set(metrics) == {"loss", "task", "mmd", "gradient_norm"}
    assert all(np.shape(value) == () and np.isfinite(value) for value in metrics.values())
    total = metrics["task"] + metrics["mmd"]
    assert float(metrics["loss"]) == pytest.approx(float(total), rel=1e-5)


def test_the_terms_of_phases_that_share_an_objective_stand_side_by_side() -> None:
    def halved(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        value, terms = watch(source, target, scope)
        return value / 2, terms

    halved.__name__ = "watch"
    unnamed = functools.partial(watch)
    phases = tuple(Phase(objective) for objective in (watch, unnamed, halved))
    _, metrics = toys.Run(toys.recipe(Method(phases), plain=True)).train(1)
    names = {"watch.1", "objective", "watch.2"}
    assert {name.partition("/")[0] for name in metrics} == names
    assert {f"{name}/loss" for name in names} <= set(metrics)
    assert float(metrics["watch.1/loss"]) > 1.5 * float(metrics["watch.2/loss"])


def test_a_loss_that_is_not_finite_is_seen_in_the_metrics() -> None:
    supervised = run()
    batch = toys.batch(0)
    inputs = np.array(batch.source.inputs)
    inputs[0, 0] = np.nan
    broken = batch._replace(source=batch.source._replace(inputs=inputs))
    _, metrics = supervised.step(supervised.start(), broken, supervised.hyper)
    assert np.isnan(metrics["loss"]) and np.isnan(metrics["gradient_norm"])


def test_the_gradient_norm_is_of_what_moves_before_clipping() -> None:
    _, plain = run().train(1)
    _, clipped = run(clip=1e-3).train(1)
    assert toys.difference(plain, clipped) < 1e-6
    _, frozen = run(rules=toys.FROZEN_BACKBONE).train(1)
    assert float(frozen["gradient_norm"]) < float(plain["gradient_norm"])


def test_a_phase_takes_gradients_of_what_it_moves_alone() -> None:
    of_head = Method((Phase(watch, trains=("head/.*",)),))
    phase = toys.Run(toys.recipe(of_head, plain=True))
    _, metrics = phase.train(1)
    rules = (("head/.*", "train"), (".*", "freeze"))
    _, frozen = run(rules=rules).train(1)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(frozen["gradient_norm"]), 1e-5)


# --- randomness -----------------------------------------------------------------------------------


def noise(key: jax.Array, inputs: Any) -> jax.Array:
    return inputs + jax.random.normal(key, inputs.shape)


def losses_with_noise(state: TrainState, step: int) -> np.ndarray:
    noisy = run("mmd", augment=noise)
    state = state._replace(step=jnp.int32(step))
    _, metrics = noisy.step(state, toys.batch(0), noisy.hyper)
    return np.array([metrics["task"], metrics["mmd"]])


def test_augmentation_is_a_function_of_seed_and_step() -> None:
    state = run("mmd", augment=noise).start()
    other = state._replace(seed=jnp.int32(1))
    first = losses_with_noise(state, 1)
    assert np.array_equal(first, losses_with_noise(state, 1))
    assert not np.array_equal(first, losses_with_noise(state, 2))
    assert not np.array_equal(first, losses_with_noise(other, 1))


def test_source_and_target_are_augmented_apart() -> None:
    def gap(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        gap = jnp.abs(source.inputs - target.inputs).mean()
        return source.logits.mean(), {"gap": gap}

    made = probing(gap, augment=noise)
    same_inputs = toys.batch(0)._replace(target=Unlabelled(toys.batch(0).source.inputs))
    _, metrics = made.step(made.start(), same_inputs, made.hyper)
    assert float(metrics["gap"]) > 0.5


def test_dropout_masks_differ_from_step_to_step_and_are_equal_for_a_seed() -> None:
    dropped = toys.run("supervised", stages=0, dropout=0.5)
    state = dropped.start()

    def loss(step: int, seed: int) -> float:
        at = state._replace(step=jnp.int32(step), seed=jnp.int32(seed))
        return float(dropped.step(at, toys.batch(0), dropped.hyper)[1]["loss"])

    assert loss(1, 0) == loss(1, 0)
    assert len({loss(1, 0), loss(2, 0), loss(1, 5)}) == 3


def test_no_two_draws_share_a_key() -> None:
    """Initialisation, what a method remembers, its networks, augmentation and its objective."""
    keys: list[tuple[int, ...]] = []

    def record(*drawn: jax.Array) -> None:
        keys.extend(tuple(jax.random.key_data(key).tolist()) for key in drawn)

    def spied(model: Model, children: int) -> Model:
        def init(key: jax.Array) -> Any:
            if not isinstance(key, jax.core.Tracer):
                first = jax.random.split(key, children)
                record(key, *first, *(k for child in first for k in jax.random.split(child)))
            return model.init(key)

        return Model(init, model.apply)

    def augment(key: jax.Array, inputs: Any) -> Any:
        record(key, *jax.random.split(key))
        return inputs

    def remember(params: Params, key: jax.Array) -> Params:
        record(key, *jax.random.split(key))
        return {}

    method = Method(
        (Phase(watch),), networks={"extra": spied(toys.dense(toys.WIDTH, 1), 2)}, remember=remember
    )
    model = spied(toys.dense_model(), len(toys.dense_blocks()))
    training = make_training(toys.recipe(method, model=model, augment=augment))
    hyper = toys.hyper(method)
    state = training.init(0, hyper)
    drawn = len(keys)
    for step in range(2):
        training.step(state._replace(step=jnp.int32(step)), toys.batch(0), hyper)
    assert drawn and len(keys) > drawn
    assert len(set(keys)) == len(keys)

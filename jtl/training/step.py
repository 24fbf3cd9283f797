"""One step builder for every method: ``step(state, batch, hyper) -> (state, metrics)``, pure.

The same function runs under ``jit`` on one device or many, under ``pmap`` with an axis name, under
``scan`` over steps and under ``vmap`` over seeds and hyper-parameters. Only the edge decides.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jtl import partition
from jtl.training import forward, optimizers
from jtl.types import (
    Array,
    Batch,
    Hyperparameters,
    Method,
    Model,
    Outputs,
    Params,
    Phase,
    Scope,
    Stats,
    Terms,
    Train,
    TrainState,
)


class Training(NamedTuple):
    """A run as two pure functions."""

    init: Callable[..., TrainState]
    """``init(seed, hyper, pretrained=({}, {})) -> state``; ``pretrained`` holds parameters and
    statistics, by path, that take the place of random ones."""
    step: Callable[[TrainState, Batch, Hyperparameters], tuple[TrainState, Terms]]
    """``step(state, batch, hyper) -> (state, metrics)``."""
    begin: Callable[[Array, Hyperparameters, Params, Stats], TrainState]
    """``begin(seed, hyper, params, stats) -> state``, before the first step of given values."""


@dataclass(frozen=True)
class Recipe:
    """What a step is made of.

    Attributes:
      model: its ``apply`` returns :class:`jtl.types.Outputs`.
      method: what is minimised.
      optimizer: built inside the step from the hyper-parameters.
      rules: which parameters train (:mod:`jtl.partition`).
      steps: the length of the run; progress is ``step / steps``.
      factors: learning-rate factors of the labels in ``rules`` other than "train" and "freeze".
      block_factors: learning-rate factors of blocks by path, for layer-wise decay.
      batch_norm: "separate" forwards source and target one after the other, each normalised by its
        own batch; "joint" forwards them together; "frozen" uses the stored statistics; "stochastic"
        is "separate" for a random part of the channels at a time, and "frozen" for the others.
      share: that part, with "stochastic".
      augment: random changes of the inputs.
      clip: bound on the gradient norm of what moves; 0 is none.
      axis_name: the mapped axis under ``pmap``. Objectives then see the gathered global batch, so
        a method never mentions devices.
    """

    model: Model
    method: Method
    optimizer: optimizers.Optimizer
    rules: partition.Rules
    steps: int
    factors: Mapping[str, float] = field(default_factory=dict)
    block_factors: Mapping[str, float] = field(default_factory=dict)
    batch_norm: str = "separate"
    share: float = 0.5
    augment: forward.Augment | None = None
    clip: float = 0.0
    axis_name: str | None = None


def make_training(recipe: Recipe) -> Training:
    """Builds ``init`` and ``step``. Labels and groups are decided here, once, from shapes alone.

    Raises:
      UserError: a parameter matches no rule, a rule decides no parameter, a label or a factor is
        unknown, or a phase has nothing to train.
    """
    trainable, groups, factors = _partition(recipe)

    def transformation(
        hyper: Hyperparameters, progress: jax.Array, phase: int | None = None
    ) -> Any:
        return optimizers.grouped(
            recipe.optimizer,
            hyper,
            progress,
            groups,
            factors,
            moving=lambda name: phase is None or optimizers.moves(name, phase),
            clip=recipe.clip,
        )

    def init(
        seed: Array, hyper: Hyperparameters, pretrained: tuple[Params, Stats] = ({}, {})
    ) -> TrainState:
        random = _init_params(recipe, seed)
        return begin(seed, hyper, *map(partition.overwrite, random, pretrained))

    def begin(seed: Array, hyper: Hyperparameters, everything: Params, stats: Stats) -> TrainState:
        params, frozen = partition.split(everything, trainable)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            seed=jnp.asarray(seed, jnp.int32),
            params=params,
            frozen=frozen,
            stats=stats,
            optimizer=transformation(hyper, jnp.zeros(())).init(params),
            # A copy: the step may consume its state, and no buffer can be consumed twice.
            memory=jax.tree.map(jnp.array, recipe.method.remember(params, _keys(seed).memory)),
        )

    def step(state: TrainState, batch: Batch, hyper: Hyperparameters) -> tuple[TrainState, Terms]:
        key = jax.random.fold_in(_keys(state.seed).steps, state.step)
        augment_key, key = jax.random.split(key)
        batch = forward.augmented(batch, augment_key, recipe.augment, recipe.axis_name)
        progress = jnp.asarray(state.step) / recipe.steps
        metrics: Terms = {}
        seen: forward.Domains = (None, None)
        updates = itertools.count()
        names = optimizers.phase_names(recipe.method.phases)
        for index, phase in enumerate(recipe.method.phases):
            prefix = f"{names[index]}/" if len(names) > 1 else ""
            move = transformation(hyper, progress, index)
            mask = partition.keep(groups, lambda name, index=index: optimizers.moves(name, index))
            for _ in range(phase.repeats):
                update_key = jax.random.fold_in(key, next(updates))
                state, terms, new = _update(
                    recipe, phase, move, mask, state, batch, hyper, progress, update_key
                )
                seen = (new[0] or seen[0], new[1] or seen[1])
                metrics |= {prefix + term: value for term, value in terms.items()}
        memory_key = jax.random.fold_in(key, next(updates))
        scope = _scope(recipe, state, hyper, progress, memory_key, train=False)
        memory = recipe.method.update_memory(*jax.lax.stop_gradient(seen), scope)
        return state._replace(step=state.step + 1, memory=memory), metrics

    return Training(init, step, begin)


def repartition(state: TrainState, training: Training, hyper: Hyperparameters) -> TrainState:
    """The same run under other rules: a schedule of rules is a call between its stages.

    For gradual unfreezing and for linear-probe-then-fine-tune. No parameter, statistic or step
    changes. A group of leaves that all trained in one group before keeps its optimizer state; a
    group with a newcomer starts afresh, since Adam counts steps once a group (give newcomers a
    label of their own to leave the others' state alone). The method keeps what it remembers and
    remembers newcomers as they are now: the teacher of a frozen leaf was that leaf.

    Args:
      state: of a run of the same model and method.
      training: with the rules that hold from now on.
      hyper: as for the step.
    """
    everything = partition.merge(state.params, state.frozen)
    fresh = training.begin(state.seed, hyper, everything, state.stats)
    return fresh._replace(
        step=state.step,
        optimizer=optimizers.carried(fresh.optimizer, state.optimizer),
        memory=_kept(fresh.memory, state.memory),
    )


def _kept(fresh: Params, memory: Params) -> Params:
    """``fresh`` with the leaves of ``memory`` wherever it has them."""
    return {
        key: _kept(value, memory.get(key, {}))
        if isinstance(value, dict)
        else memory.get(key, value)
        for key, value in fresh.items()
    }


def _partition(recipe: Recipe) -> tuple[Params, Params, dict[str, float]]:
    """Which leaves train; the group of each that does; the groups' learning-rate factors."""
    shapes, stats = jax.eval_shape(lambda: _init_params(recipe, jnp.zeros((), jnp.int32)))
    forward.check_batch_norm(recipe.batch_norm, stats)
    labels = partition.label(shapes, recipe.rules)
    trainable = partition.keep(labels, lambda name: name != partition.FREEZE)
    groups, factors = optimizers.groups(
        labels, recipe.method.phases, recipe.factors, recipe.block_factors
    )
    return trainable, groups, factors


class _Keys(NamedTuple):
    model: jax.Array
    memory: jax.Array
    steps: jax.Array


def _keys(seed: Array) -> _Keys:
    """Split before any step is folded in: ``split(key)[i]`` equals ``fold_in(key, i)``."""
    return _Keys(*jax.random.split(jax.random.key(seed), 3))


def model_key(seed: Array) -> jax.Array:
    """What a run's model is initialised with."""
    return jax.random.split(_keys(seed).model)[0]


def _init_params(recipe: Recipe, seed: Array) -> tuple[Params, Stats]:
    """The model's parameters and, under their own names, those of the method's networks."""
    params, stats = recipe.model.init(model_key(seed))
    networks_key = jax.random.split(_keys(seed).model)[1]
    for index, (name, network) in enumerate(sorted(recipe.method.networks.items())):
        params[name], network_stats = network.init(jax.random.fold_in(networks_key, index))
        if network_stats:
            raise ValueError(f"the network {name} of a method must hold no running statistics")
    return params, stats


def _update(
    recipe: Recipe,
    phase: Phase,
    transformation: optax.GradientTransformation,
    mask: Params,
    state: TrainState,
    batch: Batch,
    hyper: Hyperparameters,
    progress: Array,
    key: jax.Array,
) -> tuple[TrainState, Terms, forward.Domains]:
    """One update of one phase, and what it forwarded.

    Gradients are taken for the leaves that the phase moves and no others.
    """
    moving, resting = partition.split(state.params, mask)
    rest = partition.merge(resting, state.frozen)
    forward_key, scope_key = jax.random.split(key)

    def objective(moving: Params) -> tuple[Array, tuple[Stats, Terms, forward.Domains]]:
        params = partition.merge(moving, rest)
        train = forward.training_mode(
            params, state.stats, state.params, recipe.batch_norm, recipe.share
        )
        seen, stats = forward.domains(
            recipe.model,
            params,
            state.stats,
            batch,
            forward_key,
            reads=phase.reads,
            train=train,
            joint=recipe.batch_norm == "joint",
            axis_name=recipe.axis_name,
        )
        current = state._replace(params=partition.merge(moving, resting))
        scope = _scope(recipe, current, hyper, progress, scope_key, train)
        value, terms = phase.objective(*seen, scope)
        return value, (stats, {"loss": value} | terms, seen)

    gradients, (stats, terms, seen) = jax.grad(objective, has_aux=True)(moving)
    if recipe.axis_name is not None:
        gradients = jax.lax.pmean(gradients, recipe.axis_name)
    terms["gradient_norm"] = optax.tree.norm(gradients)
    gradients = partition.merge(gradients, jax.tree.map(jnp.zeros_like, resting))
    changes, optimizer = transformation.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, changes)
    return state._replace(params=params, stats=stats, optimizer=optimizer), terms, seen


def _scope(
    recipe: Recipe,
    state: TrainState,
    hyper: Hyperparameters,
    progress: Array,
    key: jax.Array,
    train: Train,
) -> Scope:
    call_key, forward_key, scope_key = jax.random.split(key, 3)
    calls = itertools.count()

    def call(name: str, inputs: Any) -> Any:
        rng = jax.random.fold_in(call_key, next(calls))
        network = recipe.method.networks[name]
        params = partition.merge(state.params.get(name, {}), state.frozen.get(name, {}))
        return network.apply(params, {}, inputs, train=True, rng=rng)[0]

    def again(inputs: Array, params: Params | None = None) -> Outputs:
        rng = jax.random.fold_in(forward.local_key(forward_key, recipe.axis_name), next(calls))
        local = forward.local_slice(inputs, recipe.axis_name)
        merged = partition.merge(state.params if params is None else params, state.frozen)
        outputs, _ = recipe.model.apply(merged, state.stats, local, train=train, rng=rng)
        return forward.gather_over(recipe.axis_name)(outputs)

    return Scope(state.params, state.memory, hyper, progress, scope_key, call, again)

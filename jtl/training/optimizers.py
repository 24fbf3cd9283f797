"""Optimizers whose learning rate and weight decay are arrays, and groups of parameters.

An :data:`Optimizer` is built inside the step from the hyper-parameters, so that one compiled
program serves every learning rate and a study can be vmapped over them.
"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import optax
from jax.tree_util import tree_leaves_with_path
from jaxtyping import Float

from jtl import partition, registry, schedules
from jtl.errors import UserError, nearest
from jtl.types import Hyperparameters, Params, Phase

Optimizer = Callable[[Hyperparameters, Float[jax.Array, ""], float], optax.GradientTransformation]
"""``optimizer(hyper, progress, factor)``: reads ``learning_rate`` and ``weight_decay`` from
``hyper``; ``factor`` scales the learning rate of one group."""

Schedule = Callable[[Float[jax.Array, ""]], Float[jax.Array, ""]]


def sgd(schedule: Schedule, *, momentum: float = 0.9) -> Optimizer:
    """Stochastic gradient descent with Nesterov momentum and weight decay on matrices."""

    def build(
        hyper: Hyperparameters, progress: jax.Array, factor: float
    ) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(hyper["weight_decay"], mask=_matrices),
            optax.sgd(
                hyper["learning_rate"] * schedule(progress) * factor,
                momentum=momentum,
                nesterov=True,
            ),
        )

    return build


def adamw(schedule: Schedule, *, momentum: float = 0.9) -> Optimizer:
    """Adam with decoupled weight decay on matrices (Loshchilov and Hutter, arXiv 1711.05101)."""

    def build(
        hyper: Hyperparameters, progress: jax.Array, factor: float
    ) -> optax.GradientTransformation:
        return optax.adamw(
            hyper["learning_rate"] * schedule(progress) * factor,
            b1=momentum,
            weight_decay=hyper["weight_decay"],
            mask=_matrices,
        )

    return build


def schedule(name: str, *, warmup: float = 0.0) -> Schedule:
    """The factor of the learning rate over progress, by its name in :data:`registry.SCHEDULES`.

    Raises:
      UserError: there is no such schedule.
    """
    decay = registry.resolve("schedule", name)
    if not warmup:
        return decay
    return lambda progress: decay(progress) * schedules.warm_up(progress, warmup)


def groups(
    labels: Params,
    phases: Sequence[Phase],
    factors: Mapping[str, float],
    block_factors: Mapping[str, float],
) -> tuple[Params, dict[str, float]]:
    """Splits labels by block factor and by the phases that move them: ``label|block|phases``.

    Args:
      labels: a label for every parameter.
      phases: what each moves.
      factors: learning-rate factors of the labels other than "train" and "freeze".
      block_factors: learning-rate factors of blocks by path.

    Returns:
      The group of every trainable leaf, and the learning-rate factor of every group.

    Raises:
      UserError: a label without a factor, or a phase that moves nothing.
    """
    for path, label in partition.walk(labels):
        if label not in (partition.TRAIN, partition.FREEZE, *factors):
            raise UserError(
                f"partition: the label {label!r} of {path} has no learning-rate factor; "
                + nearest(label, (partition.TRAIN, partition.FREEZE, *factors))
            )
    group_factors: dict[str, float] = {}

    def name(path: str, label: str) -> str:
        block = next((b for b in block_factors if path.startswith(b + "/")), "")
        moved_by = (
            str(index)
            for index, phase in enumerate(phases)
            if any(re.fullmatch(pattern, path) for pattern in phase.trains)
        )
        group = f"{label}|{block}|{','.join(moved_by)}"
        label_factor = 1.0 if label == partition.TRAIN else factors[label]
        group_factors[group] = label_factor * block_factors.get(block, 1.0)
        return group

    trains = partition.keep(labels, lambda label: label != partition.FREEZE)
    result = partition.map_paths(name, partition.split(labels, trains)[0])
    for index, (phase, phase_name) in enumerate(zip(phases, phase_names(phases), strict=True)):
        if not any(moves(group, index) for group in group_factors):
            raise UserError(
                f"partition: nothing to train in the phase {phase_name!r}, which "
                f"moves {', '.join(phase.trains)}; label more parameters 'train'"
            )
    return result, group_factors


def phase_names(phases: Sequence[Phase]) -> tuple[str, ...]:
    """A name for each phase, no two alike: its objective's, numbered where several share it."""
    names = [getattr(phase.objective, "__name__", "objective") for phase in phases]
    return tuple(
        f"{name}.{names[:index].count(name) + 1}" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    )


def moves(group: str, phase: int) -> bool:
    """Whether a phase moves a group, both as :func:`groups` names them."""
    return str(phase) in group.rpartition("|")[2].split(",")


def carried(fresh: Any, old: Any) -> Any:
    """``fresh`` with the state of every group that one group of ``old`` holds completely.

    Both are states of :func:`grouped`, of the same optimizer.
    """
    before = [dict(tree_leaves_with_path(group)) for group in _states(old).values()]

    def carry(group: Any) -> Any:
        paths = [path for path, _ in tree_leaves_with_path(group)]
        complete = (leaves for leaves in before if all(path in leaves for path in paths))
        found = next(complete, None)
        return (
            group
            if found is None
            else jax.tree.unflatten(jax.tree.structure(group), [found[path] for path in paths])
        )

    states = {name: carry(group) for name, group in _states(fresh).items()}
    return optax.tree.set(fresh, inner_states=states)


def _states(state: Any) -> dict[str, Any]:
    return optax.tree.get(state, "inner_states")


def grouped(
    optimizer: Optimizer,
    hyper: Hyperparameters,
    progress: Float[jax.Array, ""],
    labels: Params,
    factors: Mapping[str, float],
    *,
    moving: Callable[[str], bool] = lambda name: True,
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """One transformation over labelled groups, through ``optax.partition``.

    Args:
      optimizer: of every group.
      hyper: what the optimizer reads.
      progress: 0 at the first step, 1 at the end.
      labels: a label for every trainable leaf.
      factors: the learning-rate factor of every label.
      moving: the labels that this update moves. The others keep their optimizer state untouched,
        so that alternating phases can share one.
      clip: bound on the norm of the gradient of everything that moves; 0 is none.
    """
    groups: dict[Hashable, optax.GradientTransformation] = {}
    for name in sorted({name for _, name in partition.walk(labels)}):
        transformation = optimizer(hyper, progress, factors[name])
        groups[name] = transformation if moving(name) else _hold(transformation)
    parts = optax.partition(groups, labels)
    return optax.chain(optax.clip_by_global_norm(clip), parts) if clip else parts


def _hold(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same state, never changed; no update."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(jax.numpy.zeros_like, updates), state

    return optax.GradientTransformation(transformation.init, update)


def _matrices(params: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

"""Probes trained by minibatches: every learning rate, weight decay and fold in one program."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jtl import schedules
from jtl.errors import UserError
from jtl.probing import _checks, _rows
from jtl.probing._lazy import Features

STRETCH = 32
"""Steps whose batches are on the device together."""
LOGITS = 2**24
"""Held-out logits that are held at once, at most."""
OPTIMIZERS = {
    "sgd": optax.trace(decay=0.9, nesterov=True),
    "adamw": optax.scale_by_adam(),
}
"""What each makes of a gradient, before the learning rate."""


class MinibatchGrid(NamedTuple):
    """Probes for every learning rate and weight decay, after the last step.

    Problem ``d * folds + f`` leaves out fold ``f`` of dealing ``d``; the last one leaves out none.

    Attributes:
      learning_rates, weight_decays: as they were given.
      coefficients: ``W``.
      intercepts: ``b``.
      right: whether each example gets its label from the fit without it, for each dealing.
      losses: its log loss there, in nats; infinite where training diverged.
    """

    learning_rates: Float[np.ndarray, " rates"]
    weight_decays: Float[np.ndarray, " decays"]
    coefficients: Float[np.ndarray, "rates decays problems features classes"]
    intercepts: Float[np.ndarray, "rates decays problems classes"]
    right: Bool[np.ndarray, "rates decays dealings examples"]
    losses: Float[np.ndarray, "rates decays dealings examples"]


def minibatch_grid(
    features: Features,
    labels: Int[np.ndarray, " examples"],
    learning_rates: Sequence[float] | np.ndarray,
    weight_decays: Sequence[float] | np.ndarray,
    folds: Int[np.ndarray, "*dealings examples"] | None = None,
    *,
    steps: int,
    batch_size: int = 256,
    optimizer: Literal["sgd", "adamw"] = "adamw",
    seed: int = 0,
) -> MinibatchGrid:
    """Trains a linear layer from zero at every learning rate and weight decay, without each fold.

    All of them read the same batches, so that each multiplication by the features is one for all;
    a problem that leaves out a fold takes the mean over the other examples of a batch. The learning
    rate falls to zero along half a cosine. Features are centred and brought to a mean variance of
    one, so that a learning rate means much the same for every backbone.

    Args:
      features: in memory, or not, and then read a batch at a time.
      labels: integers from 0.
      learning_rates: at the first step; positive.
      weight_decays: of the coefficients, from 0: part of the gradient of ``sgd`` (Nesterov momentum
        of 0.9), beside that of ``adamw`` (Loshchilov and Hutter, 2019).
      folds: as :func:`jtl.probing.logistic_path` takes them.
      steps: how many updates.
      batch_size: examples an update, or all, where there are fewer.
      optimizer: ``sgd`` or ``adamw``.
      seed: of the order of the examples; every epoch has its own.

    Raises:
      UserError: shapes that do not belong together, values that are not finite, a class or fold
        without an example, or a value out of range.

    >>> grid = minibatch_grid(np.array([[-1.0], [1.0]]), np.array([0, 1]), [0.1], [0.0], steps=20)
    >>> grid.coefficients.shape, bool(grid.coefficients[0, 0, 0, 0, 1] > 0)
    ((1, 1, 1, 1, 2), True)
    """
    features, labels, ones, classes = _checks.check_examples(features, labels, None)
    rates = _checks.check_strengths(learning_rates, "learning_rates")
    decays = np.asarray(weight_decays, np.float64)
    if decays.ndim != 1 or not len(decays) or not (np.isfinite(decays) & (decays >= 0)).all():
        raise UserError("weight_decays: give one or more numbers from 0")
    if steps < 1 or batch_size < 1 or optimizer not in OPTIMIZERS:
        raise UserError("minibatches: give steps and batch_size from 1, and sgd or adamw")
    dealt = _checks.check_folds(folds, labels)
    masks = np.array([each != f for each in dealt for f in range(each.max() + 1)] + [ones > 0])
    width, batch = features.shape[1], min(batch_size, len(labels))
    mean, length = _rows.moments(features, ones)
    scale = length / np.sqrt(width)

    def read(places: np.ndarray) -> np.ndarray:
        return ((features[places] - mean) / scale).astype(np.float32)

    grid = len(rates) * len(decays)
    weights: Any = (
        jnp.zeros((width, grid, len(masks), classes)),
        jnp.zeros((1, grid, len(masks), classes)),
    )
    state = weights, OPTIMIZERS[optimizer].init(weights)
    each = jnp.asarray(np.stack(np.meshgrid(rates, decays, indexing="ij")).reshape(2, -1), float)
    order = _order(len(labels), batch, steps, seed)
    for start in range(0, steps, STRETCH):
        places = np.resize(order[start : start + STRETCH], (STRETCH, batch))
        given = (
            jnp.asarray(np.stack([read(each) for each in places])),
            jnp.asarray(labels[places]),
            jnp.asarray(masks.T[places], np.float32),
            schedules.cosine_decay((start + np.arange(STRETCH, dtype=np.float32)) / steps),
        )
        state = _train(state, given, each, min(STRETCH, steps - start), optimizer=optimizer)
    shape = len(rates), len(decays), len(masks)
    right, losses = _held_out(state[0], read, labels, dealt)
    coefficients = np.moveaxis(np.asarray(state[0][0], np.float64), 0, 2) / scale
    intercepts = np.asarray(state[0][1][0], np.float64) - np.einsum(
        "f,gpfc->gpc", mean, coefficients
    )
    return MinibatchGrid(
        rates,
        decays,
        coefficients.reshape(*shape, width, classes),
        intercepts.reshape(*shape, classes),
        *(values.reshape(*shape[:2], *values.shape[1:]) for values in (right, losses)),
    )


def _order(examples: int, batch: int, steps: int, seed: int) -> Int[np.ndarray, "steps batch"]:
    """Which examples each step reads: one permutation of them after another."""
    draw = np.random.Generator(np.random.Philox(seed))
    epochs = -(-steps * batch // examples)
    order = np.concatenate([draw.permutation(examples) for _ in range(epochs)])
    return order[: steps * batch].reshape(steps, batch)


@partial(jax.jit, static_argnames="optimizer", donate_argnums=0)
def _train(state: Any, given: Any, grid: Array, steps: int, *, optimizer: str) -> Any:
    """Some steps; ``grid`` is ``[2, lanes]``: learning rates and weight decays."""
    rate, decay = grid[:, None, :, None, None]

    def step(number: Array, state: Any) -> Any:
        (coefficients, intercepts), memory = state
        block, labels, kept, factor = (values[number] for values in given)
        logits = jnp.tensordot(block, coefficients, 1, precision="highest") + intercepts
        share = kept / jnp.maximum(kept.sum(0, keepdims=True), 1)
        error = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[3])[:, None, None]
        error = error * share[:, None, :, None]
        slope = jnp.tensordot(block.T, error, 1, precision="highest")
        coupled = optimizer == "sgd"
        slope = slope + decay * coefficients if coupled else slope
        slopes: Any = (slope, error.sum(0, keepdims=True))
        moved, memory = OPTIMIZERS[optimizer].update(slopes, memory)
        along, surplus = cast(tuple[Array, Array], moved)
        along = along if coupled else along + decay * coefficients
        length = rate * factor
        return (coefficients - length * along, intercepts - length * surplus), memory

    return lax.fori_loop(0, steps, step, state)


def _held_out(
    weights: tuple[Array, Array], read: Any, labels: np.ndarray, dealt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each example is right, and its loss, without it: ``[lanes, dealings, examples]``."""
    lanes = weights[0].shape[1]
    right = np.empty((lanes, *dealt.shape), bool)
    losses = np.empty((lanes, *dealt.shape))
    firsts = np.concatenate([[0], np.cumsum(dealt.max(1) + 1)[:-1]]) if len(dealt) else []
    for rows in _parts(len(labels), LOGITS // weights[1].size):
        block = jnp.asarray(read(rows))
        for number, first in enumerate(firsts):
            problems = jnp.asarray(first + dealt[number, rows])
            found = _judged(weights, block, jnp.asarray(labels[rows]), problems)
            right[:, number, rows], losses[:, number, rows] = map(np.asarray, found)
    return right, losses


def _parts(examples: int, most: int) -> Iterator[np.ndarray]:
    for start in range(0, examples, max(1, most)):
        yield np.arange(start, min(start + max(1, most), examples))


@jax.jit
def _judged(
    weights: tuple[Array, Array], block: Array, labels: Array, problems: Array
) -> tuple[Array, Array]:
    logits = jnp.tensordot(block, weights[0], 1, precision="highest") + weights[1]
    logits = logits[jnp.arange(len(block)), :, problems]  # [rows, lanes, classes]
    losses = jax.nn.logsumexp(logits, 2) - logits[jnp.arange(len(block)), :, labels]
    losses = jnp.where(jnp.isnan(losses), jnp.inf, losses)
    return (logits.argmax(2) == labels[:, None]).T, losses.T

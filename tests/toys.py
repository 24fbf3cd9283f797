"""Tiny models, methods and batches shared by the tests of the core."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jtl import losses
from jtl.methods.dann import dann
from jtl.methods.mcd import mcd
from jtl.methods.supervised import supervised
from jtl.methods.target_supervised import target_supervised
from jtl.models import heads
from jtl.models.adapter import from_nnx
from jtl.models.chain import Blocks, classifier
from jtl.training import optimizers
from jtl.training.step import Recipe, Training, make_training
from jtl.types import (
    Batch,
    Labelled,
    Method,
    Model,
    Params,
    Phase,
    Scope,
    Source,
    Stats,
    Target,
    Terms,
    Train,
    TrainState,
    Unlabelled,
)

WIDTH, CLASSES, INPUTS, OLD_CLASSES = 8, 3, 5, 4
HYPER = {"learning_rate": 0.1, "weight_decay": 1e-3}
ALL = ((".*", "train"),)
FROZEN_BACKBONE = (("backbone/.*", "freeze"), (".*", "train"))


class NormBlock(nnx.Module):
    def __init__(self, width_in: int, width: int, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(width_in, width, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)

    def __call__(self, x: jax.Array, *, rng: jax.Array | None = None) -> jax.Array:
        return nnx.relu(self.norm(self.dense(x)))


def blocks(*, stages: int = 1, dropout: float = 0.0, axis_name: str | None = None) -> Blocks:
    def norm_block(width_in: int) -> Model:
        return from_nnx(lambda rngs: NormBlock(width_in, WIDTH, rngs), axis_name=axis_name)

    return (
        ("backbone/stem", norm_block(INPUTS)),
        *((f"backbone/stage{i}", norm_block(WIDTH)) for i in range(1, stages + 1)),
        ("bottleneck", heads.bottleneck(WIDTH, WIDTH, dropout=dropout)),
        ("head", heads.head(WIDTH, CLASSES)),
    )


def dense(width_in: int, width: int) -> Model:
    """A layer in plain jax: no flax, no statistics, quick to compile."""

    def init(key: jax.Array) -> tuple[Params, Stats]:
        return {"kernel": jax.random.normal(key, (width_in, width)) / width_in**0.5}, {}

    def apply(
        params: Params, stats: Stats, inputs: jax.Array, *, train: Train, rng: jax.Array | None
    ) -> tuple[jax.Array, Stats]:
        return jnp.tanh(inputs @ params["kernel"]), {}

    return Model(init, apply)


def dense_blocks(width: int = WIDTH) -> Blocks:
    return (
        ("backbone/stem", dense(INPUTS, width)),
        ("backbone/stage1", dense(width, width)),
        ("bottleneck", dense(width, width)),
        ("head", dense(width, CLASSES)),
    )


def dense_model() -> Model:
    return classifier(dense_blocks())


def model(**settings: Any) -> Model:
    return classifier(blocks(**settings))


@functools.cache
def pretrained_head() -> Params:
    """Of a backbone's earlier task."""
    params, _ = heads.head(WIDTH, OLD_CLASSES).init(jax.random.key(1))
    return jax.device_get(params)


def small_dann() -> Method:
    return dann(features=WIDTH, width=WIDTH)


def small_mmd() -> Method:
    """A discrepancy between batches as wholes."""

    def objective(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        task = losses.cross_entropy(source.logits, source.labels).mean()
        gap = losses.mmd(source.features, target.features)
        return task + scope.hyper["strength"] * gap, {"task": task, "mmd": gap}

    return Method((Phase(objective),), hyper={"strength": 1.0})


def small_mcd() -> Method:
    """Three alternating phases."""
    return mcd(features=WIDTH, classes=CLASSES, repeats=2)


def mean_teacher() -> Method:
    """Consistency with a moving average of the parameters (arXiv 1703.01780)."""

    def objective(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        teacher = scope.forward(target.inputs, scope.memory["teacher"])
        task = losses.cross_entropy(source.logits, source.labels).mean()
        wanted = jax.lax.stop_gradient(jax.nn.softmax(teacher.logits))
        gap = jnp.square(jax.nn.softmax(target.logits) - wanted).mean()
        return task + gap, {"task": task, "consistency": gap}

    def remember(params: Params, key: jax.Array) -> Params:
        return {"teacher": params}

    def update_memory(source: Source, target: Target, scope: Scope) -> Params:
        decay = scope.hyper["decay"]

        def average(old: jax.Array, new: jax.Array) -> jax.Array:
            return decay * old + (1 - decay) * new

        return {"teacher": jax.tree.map(average, scope.memory["teacher"], scope.params)}

    return Method(
        (Phase(objective),), remember=remember, update_memory=update_memory, hyper={"decay": 0.9}
    )


def l2_start() -> Method:
    """A penalty relative to the pretrained parameters (arXiv 1802.01483)."""

    def objective(source: Source, target: Target, scope: Scope) -> tuple[jax.Array, Terms]:
        penalty = losses.l2_sp(scope.params, scope.memory["start"], alpha=0.2, beta=0.0)
        task = losses.cross_entropy(source.logits, source.labels).mean()
        return task + penalty, {"task": task, "penalty": penalty}

    return Method(
        (Phase(objective, reads=("source",)),), remember=lambda params, key: {"start": params}
    )


METHODS: dict[str, Callable[[], Method]] = {
    "supervised": supervised,
    "target_supervised": target_supervised,
    "dann": small_dann,
    "mmd": small_mmd,
    "mcd": small_mcd,
    "mean_teacher": mean_teacher,
    "l2_start": l2_start,
}


def hyper(method: Method, **changes: float) -> dict[str, jax.Array]:
    return {name: jnp.float32(v) for name, v in (HYPER | dict(method.hyper) | changes).items()}


def recipe(
    method: Method,
    *,
    stages: int = 1,
    dropout: float = 0.0,
    axis_name: str | None = None,
    plain: bool = False,
    **changes: Any,
) -> Recipe:
    settings = {
        "model": dense_model()
        if plain
        else model(stages=stages, dropout=dropout, axis_name=axis_name),
        "method": method,
        "optimizer": optimizers.sgd(optimizers.schedule("inverse")),
        "rules": ALL,
        "steps": 10,
        "axis_name": axis_name,
    }
    return Recipe(**(settings | changes))


@functools.cache
def batch(step: int, *, size: int = 16) -> Batch:
    draw = np.random.default_rng(step)
    source = draw.normal(size=(size, INPUTS)).astype(np.float32)
    target = (draw.normal(size=(size, INPUTS)) + 0.5).astype(np.float32)
    labels = (source[:, 0] > 0).astype(np.int32) + (source[:, 1] > 0.5)
    return Batch(Labelled(source, labels.astype(np.int32)), Unlabelled(target))


class Run:
    """A recipe compiled, whose first state and single steps tests look at."""

    def __init__(self, recipe: Recipe, **hyper_changes: float) -> None:
        self.recipe = recipe
        self.training: Training = make_training(recipe)
        self.hyper = hyper(recipe.method, **hyper_changes)
        # Not compiled: the few operations are shared by all runs of a session.
        self.init = self.training.init
        self.step = jax.jit(self.training.step)

    def start(self, seed: int = 0) -> TrainState:
        return self.init(seed, self.hyper)

    def train(self, steps: int, state: TrainState | None = None) -> tuple[TrainState, Terms]:
        """Some steps from a state (by default the first); returns the last metrics too."""
        state = self.start() if state is None else state
        metrics: Terms = {}
        for index in range(int(state.step), int(state.step) + steps):
            state, metrics = self.step(state, batch(index), self.hyper)
        return state, metrics


@functools.cache
def run(method: str = "supervised", **settings: Any) -> Run:
    """The compiled run of a method, shared by all tests that ask for the same settings."""
    return Run(recipe(METHODS[method](), **settings))


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal bit for bit."""
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def difference(one: Any, other: Any) -> float:
    """The largest difference between two trees, relative to the largest value of the first.

    Not to that of each leaf: a bias that has just left zero is as small as the rounding of the
    weights beside it.
    """
    assert jax.tree.structure(one) == jax.tree.structure(other)
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    ]
    assert all(a.shape == b.shape for a, b in pairs)
    largest = max((np.abs(a).max() for a, _ in pairs), default=0.0)
    gap = max((np.abs(a - b).max() for a, b in pairs), default=0.0)
    return float(gap / max(largest, 1e-30))

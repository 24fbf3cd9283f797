"""Tiny models, methods and batches shared by the tests of the core."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jtl import losses, optimizers
from jtl.methods.dann import dann
from jtl.methods.supervised import supervised
from jtl.methods.target_supervised import target_supervised
from jtl.models import heads
from jtl.models.adapter import from_nnx
from jtl.models.chain import classifier
from jtl.step import Recipe
from jtl.types import Batch, Labelled, Method, Model, Phase, Unlabelled

WIDTH, CLASSES, INPUTS = 8, 3, 5
HYPER = {"learning_rate": jnp.float32(0.1), "weight_decay": jnp.float32(1e-3)}


class NormBlock(nnx.Module):
    def __init__(self, width_in, width, rngs):
        self.dense = nnx.Linear(width_in, width, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)

    def __call__(self, x, *, rng=None):
        return nnx.relu(self.norm(self.dense(x)))


def blocks(*, dropout=0.0, axis_name=None):
    def norm_block(width_in):
        return from_nnx(lambda rngs: NormBlock(width_in, WIDTH, rngs), axis_name=axis_name)

    return (
        ("backbone/stem", norm_block(INPUTS)),
        ("backbone/stage1", norm_block(WIDTH)),
        ("bottleneck", heads.bottleneck(WIDTH, WIDTH, dropout=dropout)),
        ("head", heads.head(WIDTH, CLASSES)),
    )


def model(*, dropout=0.0, axis_name=None) -> Model:
    return classifier(blocks(dropout=dropout, axis_name=axis_name))


def small_dann() -> Method:
    return dann(features=WIDTH, width=WIDTH)


def mcd() -> Method:
    """Maximum classifier discrepancy (arXiv 1712.02560), as three alternating phases."""

    def both(domain, scope):
        return domain.logits, scope.call("second_head", domain.features)

    def supervise(source, scope):
        first, second = both(source, scope)
        return (
            losses.cross_entropy(first, source.labels) + losses.cross_entropy(second, source.labels)
        ).mean()

    def fit(source, target, scope):
        return supervise(source, scope), {}

    def split_heads(source, target, scope):
        gap = losses.classifier_discrepancy(*both(target, scope))
        return supervise(source, scope) - gap, {"discrepancy": gap}

    def merge_features(source, target, scope):
        gap = losses.classifier_discrepancy(*both(target, scope))
        return gap, {"discrepancy": gap}

    return Method(
        (
            Phase(fit, reads=("source",)),
            Phase(split_heads, trains=("head/.*", "second_head/.*")),
            Phase(merge_features, trains=("backbone/.*", "bottleneck/.*"), repeats=2),
        ),
        networks={"second_head": heads.head(WIDTH, CLASSES)},
    )


def mean_teacher() -> Method:
    """Consistency with a moving average of the parameters (arXiv 1703.01780)."""

    def objective(source, target, scope):
        teacher = scope.forward(target.inputs, scope.memory["teacher"])
        task = losses.cross_entropy(source.logits, source.labels).mean()
        wanted = jax.lax.stop_gradient(jax.nn.softmax(teacher.logits))
        gap = jnp.square(jax.nn.softmax(target.logits) - wanted).mean()
        return task + gap, {"task": task, "consistency": gap}

    def remember(params, key):
        return {"teacher": params}

    def update_memory(memory, params, hyper):
        decay = hyper["decay"]
        average = lambda old, new: decay * old + (1 - decay) * new  # noqa: E731 - a formula
        return {"teacher": jax.tree.map(average, memory["teacher"], params)}

    return Method(
        (Phase(objective),), remember=remember, update_memory=update_memory, hyper={"decay": 0.9}
    )


def l2_start() -> Method:
    """A penalty relative to the pretrained parameters (arXiv 1802.01483)."""

    def objective(source, target, scope):
        start = scope.memory["start"]
        moved = jax.tree.map(lambda w, w0: jnp.square(w - w0).sum(), scope.params, start)
        penalty = sum(jax.tree.leaves(moved))
        task = losses.cross_entropy(source.logits, source.labels).mean()
        return task + 0.1 * penalty, {"task": task, "penalty": penalty}

    return Method(
        (Phase(objective, reads=("source",)),), remember=lambda params, key: {"start": params}
    )


METHODS = {
    "supervised": supervised,
    "target_supervised": target_supervised,
    "dann": small_dann,
    "mcd": mcd,
    "mean_teacher": mean_teacher,
    "l2_start": l2_start,
}


def hyper(method: Method, **changes) -> dict[str, jax.Array]:
    values = HYPER | {name: jnp.float32(value) for name, value in method.hyper.items()}
    return values | {name: jnp.float32(value) for name, value in changes.items()}


def recipe(method: Method, *, dropout=0.0, axis_name=None, **changes) -> Recipe:
    settings = {
        "model": model(dropout=dropout, axis_name=axis_name),
        "method": method,
        "optimizer": optimizers.sgd(optimizers.schedule("inverse")),
        "rules": ((".*", "train"),),
        "steps": 10,
        "axis_name": axis_name,
    }
    return Recipe(**(settings | changes))


def batch(step: int, *, size: int = 16) -> Batch:
    draw = np.random.default_rng(step)
    source = draw.normal(size=(size, INPUTS)).astype(np.float32)
    target = (draw.normal(size=(size, INPUTS)) + 0.5).astype(np.float32)
    labels = (source[:, 0] > 0).astype(np.int32) + (source[:, 1] > 0.5)
    return Batch(Labelled(source, labels.astype(np.int32)), Unlabelled(target))


def train(training, hyper_values, steps=4, seed=0):
    """A few steps under plain jit; returns the state and the last metrics."""
    state = jax.jit(training.init)(seed, hyper_values)
    step = jax.jit(training.step)
    for index in range(steps):
        state, metrics = step(state, batch(index), hyper_values)
    return state, metrics

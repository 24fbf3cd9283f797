"""Moving semantic transfer network (MSTN): Xie et al., ICML 2018, "Learning Semantic
Representations for Unsupervised Domain Adaptation".
"""

import dataclasses

import jax
import jax.numpy as jnp

from jtl import schedules
from jtl.methods.dann import dann
from jtl.types import Array, Method, Params, Phase, Scope, Source, Target, Terms


def renewed(source: Source, target: Target, scope: Scope) -> Params:
    """Both domains' centroids with this batch in them: its gradient reaches the batch alone."""
    decay = scope.hyper["decay"]

    def moved(old: Array, features: Array, labels: Array) -> Array:
        members = jax.nn.one_hot(labels, len(old))
        counts = members.sum(axis=0)[:, None]
        means = members.T @ features / jnp.maximum(counts, 1.0)
        return jnp.where(counts > 0, decay * old + (1 - decay) * means, old)

    return {
        "source": moved(scope.memory["source"], source.features, source.labels),
        "target": moved(scope.memory["target"], target.features, jnp.argmax(target.logits, axis=1)),
    }


def mstn(*, features: int, classes: int, width: int = 1024) -> Method:
    """Domain-adversarial training that also draws the two domains' centroids of a class together.

    The objective of DANN plus the mean squared difference between moving averages of each class's
    features, by labels on the source and by predictions on the target. Hyper-parameters, as in the
    authors' code: ``semantic``, the weight of the difference at the end of training, 1, which ramps
    up as the reversed gradient does; ``strength``, of that gradient, 0.2, as 0.1 of the sum of both
    domains' losses is 0.2 of their mean here; ``decay``, what is left of a centroid at each step,
    0.7. Centroids start at 0, as there, so a class that was never predicted draws the source to 0.

    Deviations: the paper sums the squared differences, its code takes their mean over classes and
    features, and so does this. A class that is not in a batch keeps its centroid, which shrinks by
    ``decay`` in that code. There the discriminator's own loss is scaled by 0.1 as well.

    Args:
      features: width of the head's input.
      classes: width of its output.
      width: width of the discriminator's two hidden layers.
    """
    adversarial = dann(features=features, width=width)
    (phase,) = adversarial.phases

    def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
        value, terms = phase.objective(source, target, scope)
        centroids = renewed(source, target, scope)
        semantic = jnp.square(centroids["source"] - centroids["target"]).mean()
        weight = scope.hyper["semantic"] * schedules.adversarial_strength(scope.progress)
        return value + weight * semantic, terms | {"semantic": semantic}

    def remember(params: Params, key: jax.Array) -> Params:
        del params, key
        return {domain: jnp.zeros((classes, features)) for domain in ("source", "target")}

    return dataclasses.replace(
        adversarial,
        phases=(Phase(objective),),
        remember=remember,
        update_memory=renewed,
        hyper={"strength": 0.2, "semantic": 1.0, "decay": 0.7},
    )

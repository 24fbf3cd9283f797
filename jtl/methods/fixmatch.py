"""FixMatch: Sohn et al., NeurIPS 2020, arXiv 2001.07685."""

import jax
import jax.numpy as jnp

from jtl import losses
from jtl.data import augment
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus that of strong views, labelled by what is sure of the weak ones."""
    hyper = scope.hyper
    view = augment.strong(scope.key, jnp.asarray(target.inputs), masked=hyper["masked"])
    task = losses.cross_entropy(source.logits, source.labels).mean()
    consistency = losses.consistency(
        target.logits, scope.forward(view).logits, threshold=hyper["threshold"]
    )
    sure = jax.nn.softmax(target.logits).max(axis=1) >= hyper["threshold"]
    return task + hyper["strength"] * consistency, {
        "task": task,
        "consistency": consistency,
        "sure": sure.mean(),
    }


def fixmatch() -> Method:
    """Learns from its own sure predictions on the target, on views that are harder to predict.

    All parameters minimise both terms. The weak view is the target's batch as ``data.augment``
    changes it; the strong view is a further random change of that, which
    :func:`jtl.data.augment.strong` makes. Hyper-parameters ``strength``, the weight of the strong
    views, and ``threshold``, the probability from which a prediction counts as a label: 1 and 0.95,
    as published. ``masked`` is the fraction of numbers that a strong view of vectors lacks; the
    paper has images only.

    Deviations: labelled and unlabelled examples are of two domains, and as many of one as of the
    other (the paper has 7 times as many unlabelled ones); the strong view is three changes, where
    the paper draws two of RandAugment's 14 and adds cutout; where there is batch norm, each of the
    three forward passes is normalised by itself, and the strong views leave no trace in the running
    statistics; the tested model is the last one, not its moving average.
    """
    return Method((Phase(objective),), hyper={"strength": 1.0, "threshold": 0.95, "masked": 0.5})

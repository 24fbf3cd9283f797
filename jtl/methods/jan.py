"""Joint adaptation network (JAN): Long et al., ICML 2017, arXiv 1605.06636."""

import jax

from jtl import losses, schedules
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus the discrepancy of features and predictions, taken together."""
    strength = scope.hyper["strength"] * schedules.adversarial_strength(scope.progress)
    task = losses.cross_entropy(source.logits, source.labels).mean()
    joint = losses.joint_mmd(
        (source.features, jax.nn.softmax(source.logits)),
        (target.features, jax.nn.softmax(target.logits)),
    )
    return task + strength * joint, {"task": task, "joint": joint}


def jan() -> Method:
    """Gives features and predictions the same joint distribution in both domains.

    All parameters minimise both terms. Hyper-parameter ``strength``, the weight of the joint
    discrepancy at the end of training: 1, to which it rises from 0 as in the paper (the authors'
    code has 0.3 throughout).

    Deviation: the discrepancy is the biased estimate over all pairs, where the paper's is the
    linear-time one, noisier on small batches.
    """
    return Method((Phase(objective),), hyper={"strength": 1.0})

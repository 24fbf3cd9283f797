"""Entropy minimisation: Grandvalet and Bengio, "Semi-supervised Learning by Entropy Minimization",
NIPS 2004.
"""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus the mean entropy of the predictions on the target."""
    task = losses.cross_entropy(source.logits, source.labels).mean()
    entropy = losses.entropy(target.logits).mean()
    return task + scope.hyper["strength"] * entropy, {"task": task, "entropy": entropy}


def entropy_minimization() -> Method:
    """Moves the boundaries between classes away from target examples.

    All parameters minimise both terms. Hyper-parameter ``strength``, the weight of the entropy: the
    paper chooses it by cross-validation; 0.1 is what the authors of AFN (arXiv 1811.07456) use it
    with.
    """
    return Method((Phase(objective),), hyper={"strength": 0.1})

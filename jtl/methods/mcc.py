"""Minimum class confusion (MCC): Jin et al., ECCV 2020, arXiv 1912.03699."""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus how much the predictions on the target confuse each class with others."""
    task = losses.cross_entropy(source.logits, source.labels).mean()
    confusion = losses.minimum_class_confusion(
        target.logits, temperature=scope.hyper["temperature"]
    )
    return task + scope.hyper["strength"] * confusion, {"task": task, "confusion": confusion}


def mcc() -> Method:
    """Learns to confuse no two classes on the target.

    All parameters minimise both terms. Hyper-parameters ``strength``, the weight of the confusion,
    and ``temperature``, by which the target's logits are divided: 1 and 2.5, as in the authors'
    code.
    """
    return Method((Phase(objective),), hyper={"strength": 1.0, "temperature": 2.5})

"""Deep CORAL: Sun and Saenko, ECCV workshops 2016, arXiv 1607.01719."""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus the distance between the covariances of the domains' logits."""
    task = losses.cross_entropy(source.logits, source.labels).mean()
    coral = losses.coral(source.logits, target.logits)
    return task + scope.hyper["strength"] * coral, {"task": task, "coral": coral}


def deep_coral() -> Method:
    """Gives the outputs of the last layer the same covariance in both domains.

    All parameters minimise both terms, the distance being that of the last layer's outputs, as in
    the paper's experiments. Hyper-parameter ``strength``, the weight of the distance: the paper
    sets it "in such way that at the end of training the classification loss and CORAL loss are
    roughly the same" and gives no number; 1 is ours.
    """
    return Method((Phase(objective),), hyper={"strength": 1.0})

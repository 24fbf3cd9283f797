"""Batch nuclear-norm maximisation (BNM): Cui et al., CVPR 2020, arXiv 2003.12237."""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss minus the nuclear norm of the predictions on the target, per example."""
    task = losses.cross_entropy(source.logits, source.labels).mean()
    nuclear = losses.batch_nuclear_norm(target.logits)
    return task + scope.hyper["strength"] * nuclear, {"task": task, "nuclear": nuclear}


def bnm() -> Method:
    """Makes the predictions on a target batch certain and diverse at once.

    All parameters minimise both terms. Hyper-parameter ``strength``, the weight of the norm: 1, as
    in the authors' code. There the norm is divided by the smaller of examples and classes, here by
    the examples, as in the paper: with more examples than classes, theirs weighs examples / classes
    times as much.
    """
    return Method((Phase(objective),), hyper={"strength": 1.0})

"""Margin disparity discrepancy (MDD): Zhang et al., ICML 2019, arXiv 1904.05801."""

from jtl import losses, schedules
from jtl.models import heads
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms

RAMP = 100.0
"""Sharpness of the rise of the strength: the authors' takes the first 5 % of 100,000 steps."""


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss minus a disparity that the adversary increases and the features decrease."""
    ramp = schedules.adversarial_strength(scope.progress, sharpness=RAMP)
    strength = scope.hyper["strength"] * ramp

    def adversary(features: Array) -> Array:
        return scope.call("adversary", losses.reverse_gradient(features, strength))

    task = losses.cross_entropy(source.logits, source.labels).mean()
    disparity = losses.margin_disparity(
        source.logits,
        adversary(source.features),
        target.logits,
        adversary(target.features),
        margin=scope.hyper["margin"],
    )
    return task - disparity, {"task": task, "disparity": disparity}


def mdd(*, features: int, classes: int) -> Method:
    """Learns features on which no second head agrees on the source and disagrees on the target.

    The adversary, a second head, maximises the margin disparity, the features minimise it; the
    first head minimises the task loss alone. Hyper-parameters ``margin``, the factor gamma of the
    source's part, 4, and ``strength``, that of the reversed gradient, 0.1, to which it rises as in
    the authors' code.

    Args:
      features: width of the heads' input.
      classes: width of their output.
    """
    return Method(
        (Phase(objective),),
        networks={"adversary": heads.head(features, classes)},
        hyper={"strength": 0.1, "margin": 4.0},
    )

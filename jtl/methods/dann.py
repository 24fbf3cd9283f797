"""Domain-adversarial training (DANN): Ganin et al., JMLR 2016, arXiv 1505.07818."""

from jtl import losses, schedules
from jtl.models.heads import discriminator
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus a domain loss that the features increase and the discriminator decreases."""
    strength = scope.hyper["strength"] * schedules.adversarial_strength(scope.progress)

    def domain_logits(features: Array) -> Array:
        return scope.call("discriminator", losses.reverse_gradient(features, strength))

    task = losses.cross_entropy(source.logits, source.labels).mean()
    domain = losses.domain_adversarial(
        domain_logits(source.features), domain_logits(target.features)
    )
    return task + domain, {"task": task, "domain": domain}


def dann(*, features: int, width: int = 1024) -> Method:
    """Learns features from which a discriminator cannot tell the domain.

    Hyper-parameter ``strength``: the factor of the reversed gradient at the end of training; it
    ramps up from 0 as in the paper. The discriminator's own gradient is not scaled by it.

    Args:
      features: width of the head's input.
      width: width of the discriminator's two hidden layers.
    """
    return Method(
        (Phase(objective),),
        networks={"discriminator": discriminator(features, width)},
        hyper={"strength": 1.0},
    )

"""Wasserstein distance guided representation learning (WDGRL): Shen et al., AAAI 2018,
arXiv 1707.01217.
"""

from jtl import losses
from jtl.models.heads import discriminator
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def distance(source: Source, target: Target, scope: Scope) -> Array:
    """How much higher the critic scores the source: at its best, the Wasserstein distance."""
    return losses.wasserstein_critic(
        scope.call("critic", source.features), scope.call("critic", target.features)
    )


def fit_critic(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """The distance, which the critic maximises, and what keeps its slope at 1."""
    gap = distance(source, target, scope)
    penalty = losses.gradient_penalty(
        lambda features: scope.call("critic", features), source.features, target.features, scope.key
    )
    return scope.hyper["penalty"] * penalty - gap, {"distance": gap, "penalty": penalty}


def adapt(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus the distance, which the features minimise."""
    task = losses.cross_entropy(source.logits, source.labels).mean()
    gap = distance(source, target, scope)
    return task + scope.hyper["strength"] * gap, {"task": task, "distance": gap}


def wdgrl(*, features: int, width: int = 100, repeats: int = 5) -> Method:
    """Learns features between whose domains little has to be moved.

    Two phases a step: the critic alone is fitted, ``repeats`` times, then all other parameters
    learn. Hyper-parameters ``strength``, the weight of the distance, and ``penalty``, that of the
    critic's slope: 0.1 and 10, as in the authors' code for Office (there with 10 repeats, with 5
    and a strength of 0.01 for digits). Their critic has one hidden layer and an optimizer of its
    own; a group of ``critic/.*`` in ``partition`` gives it a learning rate here.

    Args:
      features: width of the head's input.
      width: width of the critic's two hidden layers.
      repeats: updates of the critic for one of the rest.
    """
    return Method(
        (
            Phase(fit_critic, trains=("critic/.*",), repeats=repeats),
            Phase(adapt, trains=("(?!critic/).*",)),
        ),
        networks={"critic": discriminator(features, width)},
        hyper={"strength": 0.1, "penalty": 10.0},
    )

"""Maximum classifier discrepancy (MCD): Saito et al., CVPR 2018, arXiv 1712.02560."""

from collections.abc import Callable

import jax

from jtl import losses
from jtl.models import heads
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms

Discrepancy = Callable[[Array, Array, jax.Array], Array]
"""``discrepancy(first logits, second logits, key)``: how far two heads disagree."""


def two_heads(discrepancy: Discrepancy, *, features: int, classes: int, repeats: int) -> Method:
    """Two heads that seek to disagree on the target, and features that make them agree.

    Three phases a step: all parameters minimise the task losses of both heads; the heads minimise
    them minus the discrepancy on the target; the features minimise the discrepancy, ``repeats``
    times.
    """

    def both(domain: Source | Target, scope: Scope) -> tuple[Array, Array]:
        return domain.logits, scope.call("second_head", domain.features)

    def task(source: Source, scope: Scope) -> Array:
        first, second = both(source, scope)
        one = losses.cross_entropy(first, source.labels).mean()
        return one + losses.cross_entropy(second, source.labels).mean()

    def fit(source: Source, target: Target | None, scope: Scope) -> tuple[Array, Terms]:
        del target
        return task(source, scope), {}

    def split_heads(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
        supervised, gap = task(source, scope), discrepancy(*both(target, scope), scope.key)
        return supervised - gap, {"task": supervised, "discrepancy": gap}

    def merge_features(source: Source | None, target: Target, scope: Scope) -> tuple[Array, Terms]:
        del source
        return discrepancy(*both(target, scope), scope.key), {}

    return Method(
        (
            Phase(fit, reads=("source",)),
            Phase(split_heads, trains=("(second_)?head/.*",)),
            Phase(
                merge_features,
                trains=("(?!(second_)?head/).*",),
                reads=("target",),
                repeats=repeats,
            ),
        ),
        networks={"second_head": heads.head(features, classes)},
    )


def mcd(*, features: int, classes: int, repeats: int = 4) -> Method:
    """Moves target features to where two heads, trained to differ there, agree.

    The discrepancy is the mean absolute difference of the heads' probabilities (equation 9); the
    three phases are the paper's steps A, B and C. Predictions are those of the model's own head.

    Args:
      features: width of the heads' input.
      classes: width of their output.
      repeats: updates of the features for one of the heads; 4 in the authors' code.
    """

    def discrepancy(first: Array, second: Array, key: jax.Array) -> Array:
        del key
        return losses.classifier_discrepancy(first, second)

    return two_heads(discrepancy, features=features, classes=classes, repeats=repeats)

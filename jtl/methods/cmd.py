"""Central moment discrepancy (CMD): Zellinger et al., ICLR 2017, arXiv 1702.08811."""

import jax.numpy as jnp

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def cmd(*, moments: int = 5) -> Method:
    """Gives each feature the same mean and central moments in both domains.

    All parameters minimise the task loss plus the discrepancy. Hyper-parameter ``strength``, the
    weight of the discrepancy: 1, as in the paper.

    Deviation: the moments are those of ``tanh`` of the features. The definition needs features in
    an interval, which the paper's sigmoid or tanh hidden layer gives and a ReLU does not. The head
    reads the features themselves.

    Args:
      moments: the highest order; 5 in the paper.
    """

    def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
        task = losses.cross_entropy(source.logits, source.labels).mean()
        discrepancy = losses.central_moment_discrepancy(
            jnp.tanh(source.features), jnp.tanh(target.features), moments=moments, span=2.0
        )
        value = task + scope.hyper["strength"] * discrepancy
        return value, {"task": task, "discrepancy": discrepancy}

    return Method((Phase(objective),), hyper={"strength": 1.0})

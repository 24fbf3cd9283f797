"""Adaptive feature norm (AFN): Xu et al., ICCV 2019, arXiv 1811.07456."""

import jax.numpy as jnp

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus a push that lengthens the features of both domains step by step."""
    task = losses.cross_entropy(source.logits, source.labels).mean()
    push = sum(
        losses.adaptive_feature_norm(domain.features, step=scope.hyper["step"])
        for domain in (source, target)
    )
    return task + scope.hyper["strength"] * push, {
        "task": task,
        # The push itself is always the squared step, once a domain.
        "source_norm": jnp.linalg.norm(source.features, axis=1).mean(),
        "target_norm": jnp.linalg.norm(target.features, axis=1).mean(),
    }


def afn() -> Method:
    """Lengthens the features of both domains, since short ones transfer worse.

    All parameters minimise both terms (the paper's stepwise AFN). Hyper-parameters ``strength``,
    the weight of the push in each domain, and ``step``, by how much each norm should grow: 0.05 and
    1, as in the authors' code. Their dropout, which keeps norms as they are, is the model's to
    have.
    """
    return Method((Phase(objective),), hyper={"strength": 0.05, "step": 1.0})

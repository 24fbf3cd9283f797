"""Adaptive batch normalisation (AdaBN): Li et al., 2016, arXiv 1603.04779."""

import jax.numpy as jnp

from jtl import losses
from jtl.methods.tent import NORMS
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source | None, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Nothing: forwarding the target is what adapts. The entropy is only watched."""
    del source, scope
    return jnp.zeros(()), {"entropy": losses.entropy(target.logits).mean()}


def adabn() -> Method:
    """Replaces the statistics of every batch norm by those of the target.

    Starts from a model trained on the source, and never reads the source. No one minimises anything
    and no parameter moves: the phase forwards the target in training mode, where a batch norm
    follows its batches. One is in training mode if ``partition`` lets its scale or bias train; the
    others keep the statistics of the source. The paper has no hyper-parameters.

    Deviation: the running statistics are a moving average over the last batches (with the tenth
    that jtl's own norms take from each, some 30 steps leave 4 % of the source's), where the paper's
    are those of the whole target.
    """
    return Method((Phase(objective, trains=NORMS, reads=("target",)),))

"""Batch spectral shrinkage (BSS): Chen et al., NeurIPS 2019, "Catastrophic Forgetting Meets
Negative Transfer".
"""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def bss(*, k: int = 1) -> Method:
    """Suppresses the directions of the features that carry least, for they hardly transfer.

    All parameters minimise the task loss plus the ``k`` smallest squared singular values of the
    features of each batch. Hyper-parameter ``strength``, the weight of the singular values: 1e-3,
    as in the paper.

    Args:
      k: how many singular values; 1 in the paper.
    """

    def objective(source: Source, target: Target | None, scope: Scope) -> tuple[Array, Terms]:
        del target
        task = losses.cross_entropy(source.logits, source.labels).mean()
        shrinkage = losses.batch_spectral_shrinkage(source.features, k=k)
        value = task + scope.hyper["strength"] * shrinkage
        return value, {"task": task, "shrinkage": shrinkage}

    return Method((Phase(objective, reads=("source",)),), hyper={"strength": 1e-3})

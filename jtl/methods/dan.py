"""Deep adaptation network (DAN): Long et al., ICML 2015, arXiv 1502.02791."""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus the discrepancies of the layers above the backbone: features and logits."""
    task = losses.cross_entropy(source.logits, source.labels).mean()
    features = losses.mmd(source.features, target.features)
    logits = losses.mmd(source.logits, target.logits)
    value = task + scope.hyper["strength"] * (features + logits)
    return value, {"task": task, "features": features, "logits": logits}


def dan() -> Method:
    """Gives each layer above the backbone the same distribution in both domains.

    All parameters minimise all terms. The paper's sum over layers is here over the features and the
    logits, as in the network that the authors released. Hyper-parameter ``strength``, the weight of
    each layer's squared maximum mean discrepancy: 1, as there.

    Deviations: the discrepancy is the biased estimate over all pairs, where the paper's is the
    linear-time one, noisier on small batches; the five kernels have equal weights, as in the
    authors' code, where the paper optimises them.
    """
    return Method((Phase(objective),), hyper={"strength": 1.0})

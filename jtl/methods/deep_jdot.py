"""Deep joint distribution optimal transport (DeepJDOT): Damodaran et al., ECCV 2018,
arXiv 1803.10081.
"""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def deep_jdot(*, iterations: int = 100) -> Method:
    """Carries source features with their labels to the target, and learns to make it cheap.

    All parameters minimise the task loss plus the cost of transport; the plan is the cheapest one
    of each batch and carries no gradient. Hyper-parameters ``alpha`` and ``lambda_t``, the factors
    of the distance between features and of the labels in the cost: 0.001 and 0.0001, as in the
    paper; ``epsilon``, how much the plan is smoothed, as a fraction of the mean cost.

    Deviations: the paper's plan is exact; its batches have the same number of examples of each
    class, its training starts from a network trained on the source.

    Args:
      iterations: of Sinkhorn's algorithm, for the plan.
    """

    def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
        task = losses.cross_entropy(source.logits, source.labels).mean()
        transport = losses.joint_transport(
            source.features,
            source.labels,
            target.features,
            target.logits,
            alpha=scope.hyper["alpha"],
            lambda_t=scope.hyper["lambda_t"],
            epsilon=scope.hyper["epsilon"],
            iterations=iterations,
        )
        return task + transport, {"task": task, "transport": transport}

    return Method((Phase(objective),), hyper={"alpha": 0.001, "lambda_t": 0.0001, "epsilon": 0.01})

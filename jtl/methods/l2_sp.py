"""L2-SP: fine-tuning with the start as a reference. Li et al., ICML 2018, arXiv 1802.01483."""

import jax

from jtl import losses
from jtl.types import Array, Method, Params, Phase, Scope, Source, Target, Terms


def objective(source: Source, target: Target | None, scope: Scope) -> tuple[Array, Terms]:
    """Task loss plus the squared distance of the backbone from where it started."""
    del target
    task = losses.cross_entropy(source.logits, source.labels).mean()
    penalty = losses.l2_sp(
        scope.params, scope.memory["start"], alpha=scope.hyper["alpha"], beta=scope.hyper["beta"]
    )
    return task + penalty, {"task": task, "penalty": penalty}


def remember(params: Params, key: jax.Array) -> Params:
    """The values of the backbone, which are the pretrained ones."""
    del key
    return {"start": {name: block for name, block in params.items() if name == "backbone"}}


def l2_sp() -> Method:
    """Decays the backbone's parameters towards their pretrained values, not towards 0.

    All parameters minimise both terms. Hyper-parameters, as in the authors' code: ``alpha``, the
    strength on the backbone, 0.1; ``beta``, that on everything new (bottleneck and head), which is
    drawn to 0, 0.01. The penalty takes the place of weight decay: set ``optimizer.weight_decay`` to
    0, which would draw the backbone to 0 as well.
    """
    return Method(
        (Phase(objective, reads=("source",)),),
        remember=remember,
        hyper={"alpha": 0.1, "beta": 0.01},
    )

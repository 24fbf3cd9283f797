"""Source hypothesis transfer (SHOT): Liang et al., ICML 2020, arXiv 2002.08546."""

import jax
import jax.numpy as jnp

from jtl import losses
from jtl.types import Array, Method, Params, Phase, Scope, Source, Target, Terms


def nearest(features: Array, centroids: Array) -> Array:
    """The class whose centroid is at the smallest angle, for each example; never one at 0."""
    lengths = jnp.linalg.norm(centroids, axis=1)
    cosines = features @ (centroids / jnp.where(lengths > 0, lengths, 1.0)[:, None]).T
    return jnp.argmax(jnp.where((lengths > 0)[None], cosines, -jnp.inf), axis=1)


def renewed(target: Target, scope: Scope) -> Params:
    """The centroids with this batch in them: two rounds, as in the paper.

    Each is a sum of features, as only its angle counts: first weighted by the predictions, then of
    the examples that are nearest to the first.
    """
    logits, features = jax.lax.stop_gradient((target.logits, target.features))
    decay, memory = scope.hyper["decay"], scope.memory
    predicted = decay * memory["predicted"] + jax.nn.softmax(logits).T @ features
    members = jax.nn.one_hot(nearest(features, predicted), logits.shape[1])
    return {"predicted": predicted, "assigned": decay * memory["assigned"] + members.T @ features}


def objective(source: Source | None, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Certain and diverse predictions on the target that agree with the nearest centroids."""
    del source
    information = losses.information_maximization(target.logits)
    labels = nearest(jax.lax.stop_gradient(target.features), renewed(target, scope)["assigned"])
    pseudo = losses.cross_entropy(target.logits, labels).mean()
    value = information + scope.hyper["beta"] * pseudo
    return value, {"information": information, "pseudo": pseudo}


def shot(*, features: int, classes: int) -> Method:
    """Fits the features of the target to the head of the source, without the source.

    Starts from a model trained on the source (in the paper with label smoothing of 0.1 and a batch
    norm in the bottleneck), and never reads the source. All parameters below the head minimise both
    terms; the head stays as it is. Hyper-parameter ``beta``, the weight of the pseudo-labels: 0.3,
    as published (0.1 for digits). ``decay`` is what is left of a batch in the centroids one step
    later.

    Deviations: the paper makes centroids and pseudo-labels anew once an epoch, of the whole target;
    here the centroids follow the batches and each batch gets its labels from them, itself included.
    The head is a plain dense layer, not a weight-normalised one.

    Args:
      features: width of the head's input.
      classes: width of its output.
    """

    def remember(params: Params, key: jax.Array) -> Params:
        del params, key
        return {name: jnp.zeros((classes, features)) for name in ("predicted", "assigned")}

    def update_memory(source: Source | None, target: Target, scope: Scope) -> Params:
        del source
        return renewed(target, scope)

    return Method(
        (Phase(objective, trains=("(?!head/).*",), reads=("target",)),),
        remember=remember,
        update_memory=update_memory,
        hyper={"beta": 0.3, "decay": 0.9},
    )

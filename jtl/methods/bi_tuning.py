"""Bi-Tuning: fine-tuning with two contrastive losses. Zhong et al., 2020, arXiv 2011.06182."""

import jax
import jax.numpy as jnp

from jtl import losses, partition
from jtl.errors import UserError
from jtl.models import heads
from jtl.types import Array, Method, Params, Phase, Scope, Source, Target, Terms


def bi_tuning(*, features: int, classes: int, width: int = 128, slots: int = 40) -> Method:
    """Gathers the examples of a class around the head's weights of it, and around each other.

    All parameters minimise the task loss, the contrastive cross-entropy (the head's weights of each
    label against features) and the categorical contrastive loss (projections of features against
    each other). Keys are those of a moving average of the model; earlier ones wait in a queue.
    Hyper-parameters, as in the authors' library: ``strength``, the weight of both losses, 1;
    ``temperature``, 0.07; ``decay`` of the average, 0.999.

    Deviations from that library: the queue is one for all classes, where theirs has as many slots
    for each; both models see the same augmentation of an image; the head's bias takes no part. As
    there, the contrastive cross-entropy moves the features and not the head.

    Args:
      features: width of the head's input.
      classes: width of its output.
      width: of the projections; 128 in the authors' library.
      slots: of the queue, for each class; 40 there.

    Raises:
      UserError: when training begins, if the head or the projector does not train, or the head has
        no one matrix of weights.
    """
    projector, count = heads.head(features, width), classes * slots

    def remember(params: Params, key: jax.Array) -> Params:
        del key
        for name in ("head", "projector"):
            if name not in params:
                raise UserError(f"partition: bi_tuning trains all of {name}/.*; label it 'train'")
        if len(_matrices(params["head"])) != 1:
            raise UserError("model.lora.on: bi_tuning reads the head's weights; leave out head/.*")
        queue = {"features": jnp.zeros((count, features)), "keys": jnp.zeros((count, width))}
        return {"teacher": params, "labels": jnp.full(count, -1, jnp.int32), **queue}

    def keys(inputs: Array, scope: Scope) -> dict[str, Array]:
        teacher = scope.memory["teacher"]
        found = scope.forward(inputs, teacher).features
        projected = projector.apply(teacher["projector"], {}, found, train=False, rng=None)[0]
        return {"features": found, "keys": jax.lax.stop_gradient(projected)}

    def objective(source: Source, target: Target | None, scope: Scope) -> tuple[Array, Terms]:
        del target
        (weights,) = _matrices(scope.params["head"])
        prototypes = jax.lax.stop_gradient(weights).T[source.labels]
        projected = scope.call("projector", source.features)

        def gathered(queries: Array, own: Array, queue: str) -> Array:
            others, labels = scope.memory[queue], scope.memory["labels"]
            return losses.bi_tuning(
                queries, own, source.labels, others, labels, temperature=scope.hyper["temperature"]
            ).mean()

        terms = {
            "task": losses.cross_entropy(source.logits, source.labels).mean(),
            "around_weights": gathered(prototypes, source.features, "features"),
            "around_each_other": gathered(projected, keys(source.inputs, scope)["keys"], "keys"),
        }
        contrastive = terms["around_weights"] + terms["around_each_other"]
        return terms["task"] + scope.hyper["strength"] * contrastive, terms

    def update_memory(source: Source, target: Target | None, scope: Scope) -> Params:
        del target
        memory, newest = scope.memory, {"labels": source.labels, **keys(source.inputs, scope)}
        queue = {name: jnp.concatenate([new, memory[name]])[:count] for name, new in newest.items()}
        teacher = jax.tree.map(
            lambda old, new: scope.hyper["decay"] * old + (1 - scope.hyper["decay"]) * new,
            memory["teacher"],
            scope.params,
        )
        return {"teacher": teacher, **queue}

    return Method(
        (Phase(objective, reads=("source",)),),
        networks={"projector": projector},
        remember=remember,
        update_memory=update_memory,
        hyper={"strength": 1.0, "temperature": 0.07, "decay": 0.999},
    )


def _matrices(head: Params) -> list[Array]:
    return [leaf for _, leaf in partition.walk(head) if leaf.ndim == 2]

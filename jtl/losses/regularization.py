"""Penalties of fine-tuning: what the pretrained model knew is kept, or used once more."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from jtl.errors import UserError
from jtl.losses._numerics import (
    AxisName,
    as_labels,
    as_matrix,
    as_vector,
    global_batch,
    masked_mean,
    require_positive,
    require_same_columns,
    require_same_shape,
    row_mask,
    unit_rows,
)
from jtl.types import Array, Params


def l2_sp(
    params: Params,
    reference: Params,
    *,
    alpha: float | Float[Array, ""],
    beta: float | Float[Array, ""],
) -> Float[jax.Array, ""]:
    """Pulls pretrained parameters to where they started and new ones to 0.

    ``alpha / 2 ||w - w0||^2`` over the leaves that ``reference`` has too, ``beta / 2 ||w||^2`` over
    all others, a new head's say (Li et al., 2018, arXiv 1802.01483, equation 4). The reference
    carries no gradient; leaves that only it has (frozen ones, say) are not read.

    Args:
      params: a nested dictionary of arrays.
      reference: the pretrained values, in the nesting of ``params``.
      alpha: the strength on pretrained leaves.
      beta: the strength on new leaves.

    Returns:
      A scalar in float32.

    Raises:
      UserError: a leaf whose shape differs from the reference's, or a reference that shares no
        leaf with ``params`` (one nested otherwise, as a rule).

    >>> params = {"backbone": jnp.array([3.0]), "head": jnp.array([2.0])}
    >>> l2_sp(params, {"backbone": jnp.array([1.0])}, alpha=1.0, beta=0.5)  # 2^2 / 2 + 2^2 / 4
    Array(3., dtype=float32)
    """
    pretrained = dict(jax.tree_util.tree_leaves_with_path(reference))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if pretrained and not any(path in pretrained for path, _ in leaves):
        example = jax.tree_util.keystr(next(iter(pretrained)), simple=True, separator="/")
        raise UserError(f"l2_sp: no leaf of the reference ({example}, ...) is one of the params'")
    kept, new = jnp.zeros(()), jnp.zeros(())
    for path, leaf in leaves:
        value = jnp.asarray(leaf, jnp.float32)
        if path not in pretrained:
            new += jnp.sum(value**2)
            continue
        start = pretrained[path]
        if start.shape != leaf.shape:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(f"l2_sp: {name} is {leaf.shape} but {start.shape} in the reference")
        start = jax.lax.stop_gradient(jnp.asarray(start, jnp.float32))
        kept += jnp.sum((value - start) ** 2)
    alpha, beta = jnp.asarray(alpha, jnp.float32), jnp.asarray(beta, jnp.float32)
    return alpha / 2 * kept + beta / 2 * new


def delta(
    layers: Mapping[str, Float[Array, "examples ..."]],
    reference: Mapping[str, Float[Array, "examples ..."]],
    *,
    weights: Mapping[str, Float[Array, " _"]] | None = None,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, ""]:
    """How far feature maps have moved from the pretrained model's on the same inputs.

    ``mean_i sum_layers sum_c w_c ||F_c(x_i) - F0_c(x_i)||^2`` over the channels ``c`` of a layer,
    the norm over its positions (DELTA, Li et al., 2019, arXiv 1901.09229). In the paper a layer's
    weights are the softmax of how much the loss rises when the channel is removed.

    Args:
      layers: the trained model's maps [examples, ..., channels], by name.
      reference: the pretrained model's, without gradient. The layers named here are compared;
        others in ``layers`` are not read.
      weights: [channels] of each layer in ``reference``; 1 everywhere by default, which is the
        paper's form without attention.
      where: [examples], which rows count; the others are as if they were not there.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      A scalar in float32, not negative, 0 where nothing has moved.

    Raises:
      UserError: an empty reference, a layer or its weights missing, shapes that do not belong
        together, no example, or a mask of another length.

    >>> trained, pretrained = {"conv": jnp.array([[1.0, 2.0]])}, {"conv": jnp.zeros((1, 2))}
    >>> delta(trained, pretrained)  # 1 + 4
    Array(5., dtype=float32)
    >>> delta(trained, pretrained, weights={"conv": jnp.array([0.75, 0.25])})  # 0.75 + 0.25 * 4
    Array(1.75, dtype=float32)
    """
    if not reference:
        raise UserError("delta: the reference names no layer, nothing would be kept")
    mask = row_mask("delta", next(iter(reference.values())), where)
    moved = jnp.zeros(len(mask))
    for name, start in reference.items():
        if name not in layers or (weights is not None and name not in weights):
            missing = "layers" if name not in layers else "weights"
            raise UserError(f"delta: {name} is in the reference but not in the {missing}")
        require_same_shape(f"delta: {name} and its reference", layers[name], start)
        if start.ndim < 2 or start.shape[0] != len(mask) or len(mask) == 0:
            raise UserError(f"delta: {name} is {start.shape}, expected [examples, ..., channels]")
        gap = jnp.asarray(layers[name], jnp.float32)
        gap -= jax.lax.stop_gradient(jnp.asarray(start, jnp.float32))
        gap = gap.reshape(len(mask), -1, gap.shape[-1])
        squares = jnp.sum(jnp.where(mask[:, None, None], gap, 0.0) ** 2, axis=1)
        if weights is not None:
            factors = jax.lax.stop_gradient(as_vector(f"delta: {name} weights", weights[name]))
            require_same_shape(f"delta: {name}'s channels and weights", squares[0], factors)
            squares *= factors[None, :]
        moved += squares.sum(axis=1)
    return masked_mean(global_batch(moved, axis_name), global_batch(mask, axis_name))


def co_tuning(
    source_logits: Float[Array, "examples source_classes"],
    labels: Integer[Array, " examples"],
    relationship: Float[Array, "target_classes source_classes"],
) -> Float[jax.Array, " examples"]:
    """Cross-entropy of the pretrained head with what a target label means in source classes.

    ``-sum_s p(s | y_i) log softmax(source_logits_i)_s``: the pretrained head stays in the model and
    is taught, beside the new one, the source classes that go with each label (Co-Tuning, You et
    al., NeurIPS 2020; weight 2.3 in the authors' code). :mod:`jtl.relationship` estimates
    ``p(s | y)``.

    Args:
      source_logits: [examples, source classes], of the pretrained head on the fine-tuned features.
      labels: [examples], target classes; any other label gives NaN.
      relationship: [target classes, source classes], rows sum to 1; no gradient reaches it.

    Returns:
      [examples], in float32.

    Raises:
      UserError: wrong ranks, lengths or widths that differ, or labels that are not integers.

    >>> relationship = jnp.array([[1.0, 0.0], [0.5, 0.5]])
    >>> co_tuning(jnp.array([[0.0, -jnp.inf], [0.0, 0.0]]), jnp.array([0, 1]), relationship)
    Array([0.       , 0.6931472], dtype=float32)
    """
    log_p = jax.nn.log_softmax(as_matrix("co_tuning: source_logits", source_logits))
    relationship = jax.lax.stop_gradient(as_matrix("co_tuning: relationship", relationship))
    require_same_columns("co_tuning: source_logits and relationship", log_p, relationship)
    labels = as_labels("co_tuning", labels, log_p)
    known = (labels >= 0) & (labels < len(relationship))
    wanted = relationship[jnp.where(known, labels, 0)]
    losses = jnp.sum(wanted * jnp.where(wanted > 0, -log_p, 0.0), axis=1)
    return jnp.where(known, losses, jnp.nan)


def bi_tuning(
    queries: Float[Array, "examples width"],
    keys: Float[Array, "examples width"],
    labels: Integer[Array, " examples"],
    queue: Float[Array, "slots width"],
    queue_labels: Integer[Array, " slots"],
    *,
    temperature: float | Float[Array, ""] = 0.07,
) -> Float[jax.Array, " examples"]:
    """Pulls each query to its own key and to all keys of its class, away from the other keys.

    ``-mean_(k in K_i) log softmax(cos(q_i, .) / T)_k``, where the softmax is over query ``i``'s own
    key and the queue, and ``K_i`` is that key with the queue's keys of label ``y_i``. Bi-Tuning
    (Zhong et al., 2020, arXiv 2011.06182) adds two of them to the cross-entropy:

    - categorical contrastive learning, of projections: ``queries`` from the trained model, ``keys``
      and ``queue`` from its moving average;
    - contrastive cross-entropy, of the head: ``queries = prototypes[labels]``, the head's weights
      of each label, ``keys`` the trained model's features, ``queue`` its moving average's.

    Args:
      queries: [examples, width]. Rows are normalised here.
      keys: [examples, width], the key of each query; it carries a gradient unless the caller
        stops it.
      labels: [examples], from 0; a negative one gives NaN.
      queue: [slots, width], earlier keys; no gradient reaches them.
      queue_labels: [slots]; a negative label marks a slot that is still empty, which takes no part.
      temperature: T, positive.

    Returns:
      [examples], in float32, not negative.

    Raises:
      UserError: wrong ranks, lengths or widths that differ, labels that are not integers, or a
        temperature that is not positive.

    The query's own key, a key of another class just as near, and an empty slot:

    >>> queue, queue_labels = jnp.array([[3.0, 0.0], [5.0, 5.0]]), jnp.array([1, -1])
    >>> query, label = jnp.array([[1.0, 0.0]]), jnp.array([0])
    >>> bi_tuning(query, 2 * query, label, queue, queue_labels)  # log 2
    Array([0.6931472], dtype=float32)
    """
    require_positive("bi_tuning: temperature", temperature)
    require_same_shape("bi_tuning: queries and keys", queries, keys)
    require_same_columns("bi_tuning: queries and queue", queries, queue)
    queries = unit_rows(as_matrix("bi_tuning: queries", queries))
    keys = unit_rows(as_matrix("bi_tuning: keys", keys))
    queue = jax.lax.stop_gradient(unit_rows(as_matrix("bi_tuning: queue", queue)))
    labels = as_labels("bi_tuning", labels, queries)
    queue_labels = as_labels("bi_tuning: queue", queue_labels, queue)

    own = jnp.sum(queries * keys, axis=1, keepdims=True)
    others = jnp.matmul(queries, queue.T, precision="highest")
    filled = queue_labels >= 0
    others = jnp.where(filled[None, :], others, -jnp.inf)
    log_p = jax.nn.log_softmax(jnp.concatenate([own, others], axis=1) / temperature)
    same = labels[:, None] == queue_labels[None, :]
    total = log_p[:, 0] + jnp.sum(jnp.where(same, log_p[:, 1:], 0.0), axis=1)
    losses = -total / (1 + same.sum(axis=1, dtype=jnp.float32))
    return jnp.where(labels >= 0, losses, jnp.nan)

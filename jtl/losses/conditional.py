"""What conditions a discriminator on the predictions (CDAN): its inputs and its weights."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jtl.errors import UserError
from jtl.losses._numerics import AxisName, as_matrix, global_batch, masked_batch, masked_mean
from jtl.losses.classification import entropy
from jtl.types import Array


def multilinear_map(
    features: Float[Array, "examples features"],
    probabilities: Float[Array, "examples classes"],
) -> Float[jax.Array, "examples products"]:
    """Each example's features times each of its probabilities: what CDAN's discriminator reads.

    The outer product ``f p^T`` of each example, row by row: entry ``k * classes + c`` is
    ``f_k p_c`` (CDAN, Long et al., 2018, arXiv 1705.10667). Its width is the product
    of both; the paper takes :func:`randomized_multilinear_map` where that is over 4096.

    Gradients reach both arguments, as in the paper's objective. The authors' code stops that of
    the probabilities; for that, pass ``jax.lax.stop_gradient(probabilities)``.

    Args:
      features: [examples, features].
      probabilities: [examples, classes], after the softmax: of logits the discriminator would see
        features scaled by numbers of any size and sign.

    Returns:
      [examples, features * classes] in float32.

    Raises:
      UserError: not two matrices with a row for each example.

    >>> multilinear_map(jnp.array([[2.0, 3.0]]), jnp.array([[0.25, 0.75]]))
    Array([[0.5 , 1.5 , 0.75, 2.25]], dtype=float32)
    """
    features, probabilities = _pairs("multilinear_map", features, probabilities)
    products = features[:, :, None] * probabilities[:, None, :]
    return products.reshape(len(features), -1)


def randomized_multilinear_map(
    features: Float[Array, "examples features"],
    probabilities: Float[Array, "examples classes"],
    matrices: tuple[Float[Array, "features width"], Float[Array, "classes width"]],
) -> Float[jax.Array, "examples width"]:
    """A random projection of :func:`multilinear_map`, of any width.

    ``(f R_f) * (p R_p) / sqrt(width)``, entry by entry, where the entries of both matrices are
    drawn once from the standard normal distribution and stay fixed in training (CDAN, Long et al.,
    2018, arXiv 1705.10667). On average over the draws, products of its rows are those
    of the multilinear map's rows.

    The matrices belong to what is trained: keep them in the method's memory, so that a checkpoint
    has them. Drawn again, they make noise of what the discriminator has learned.

    Args:
      features: [examples, features].
      probabilities: [examples, classes], after the softmax.
      matrices: [features, width] and [classes, width]; no gradient reaches them.

    Returns:
      [examples, width] in float32.

    Raises:
      UserError: not matrices, or shapes that do not fit.

    >>> one = (jnp.ones((2, 4)), jnp.ones((2, 4)))
    >>> randomized_multilinear_map(jnp.array([[2.0, 3.0]]), jnp.array([[0.25, 0.75]]), one)
    Array([[2.5, 2.5, 2.5, 2.5]], dtype=float32)
    """
    name = "randomized_multilinear_map"
    features, probabilities = _pairs(name, features, probabilities)
    for_features, for_probabilities = (
        jax.lax.stop_gradient(as_matrix(f"{name}: a matrix", matrix)) for matrix in matrices
    )
    width = for_features.shape[1]
    needed = (features.shape[1], width), (probabilities.shape[1], width)
    if (for_features.shape, for_probabilities.shape) != needed or not width:
        raise UserError(
            f"{name}: matrices of shapes {for_features.shape} and {for_probabilities.shape} for "
            f"{features.shape[1]} features and {probabilities.shape[1]} classes"
        )
    # Accelerators multiply float32 matrices in lower precision unless told otherwise.
    of_features = jnp.matmul(features, for_features, precision="highest")
    of_probabilities = jnp.matmul(probabilities, for_probabilities, precision="highest")
    return of_features * of_probabilities / math.sqrt(width)


def entropy_weights(
    logits: Float[Array, "examples classes"],
    *,
    where: Bool[Array, " examples"] | None = None,
    axis_name: AxisName = None,
) -> Float[jax.Array, " examples"]:
    """Weights that make certain predictions count up to twice as much as uncertain ones.

    ``1 + exp(-H(p))``, divided by the batch's mean: the "+E" of CDAN+E (Long et al., 2018,
    arXiv 1705.10667), to be computed in each domain apart. They weigh examples and train nothing:
    no gradient passes.

    Args:
      logits: [examples, classes].
      where: [examples], which rows count; the others get weight 0.
      axis_name: the mapped axis that the batch is spread over, if any.

    Returns:
      [examples] in float32, with mean 1 over the rows of the (global) batch that count.

    Raises:
      UserError: ``logits`` is not a matrix or is empty, or a mask of another length.

    >>> entropy_weights(jnp.zeros((2, 3)))  # equally uncertain
    Array([1., 1.], dtype=float32)
    """
    rows, mask = masked_batch("entropy_weights: logits", logits, where, None)
    weights = jnp.where(mask, jax.lax.stop_gradient(1 + jnp.exp(-entropy(rows))), 0.0)
    mean = masked_mean(global_batch(weights, axis_name), global_batch(mask, axis_name))
    return weights / jnp.where(mean > 0, mean, 1.0)


def _pairs(
    name: str, features: Array, probabilities: Array
) -> tuple[Float[jax.Array, "examples features"], Float[jax.Array, "examples classes"]]:
    features = as_matrix(f"{name}: features", features)
    probabilities = as_matrix(f"{name}: probabilities", probabilities)
    if len(features) != len(probabilities):
        raise UserError(
            f"{name}: {len(features)} rows of features, {len(probabilities)} of probabilities"
        )
    return features, probabilities

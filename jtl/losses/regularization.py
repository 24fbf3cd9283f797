"""Penalties that tie fine-tuned parameters to the pretrained ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jtl.errors import UserError
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

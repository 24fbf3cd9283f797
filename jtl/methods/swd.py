"""Sliced Wasserstein discrepancy (SWD): Lee et al., CVPR 2019, arXiv 1903.04064."""

import jax

from jtl import losses
from jtl.methods.mcd import two_heads
from jtl.types import Array, Method


def swd(*, features: int, classes: int, projections: int = 128, repeats: int = 1) -> Method:
    """Maximum classifier discrepancy with another measure of how far the heads disagree.

    The predictions of each head on a target batch are a sample of distributions over classes; the
    discrepancy is the sliced Wasserstein distance between the two samples, along directions drawn
    anew in every update. Phases as in :mod:`jtl.methods.mcd`.

    Args:
      features: width of the heads' input.
      classes: width of their output.
      projections: how many directions; 128 in the paper.
      repeats: updates of the features for one of the heads; the paper has one.
    """

    def discrepancy(first: Array, second: Array, key: jax.Array) -> Array:
        return losses.sliced_wasserstein(
            jax.nn.softmax(first), jax.nn.softmax(second), key, projections=projections
        )

    return two_heads(discrepancy, features=features, classes=classes, repeats=repeats)

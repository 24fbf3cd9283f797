"""What a ridge probe of features that are not in memory will take, before it is fitted."""

import time
from typing import NamedTuple

import numpy as np

from jtl.probing import _rows
from jtl.probing._lazy import Features
from jtl.probing.ridge import RESIDUALS

READINGS = 4
"""For mean and variance, for the covariance, for the classes' means, and to judge."""


class Plan(NamedTuple):
    """What a fit takes.

    Attributes:
      blocks: that features are read in.
      bytes_read: in all readings, at the features' own precision.
      bytes_held: at once, about: blocks, matrices of features by features, and what is returned.
      seconds: by a block that was read and multiplied.
    """

    blocks: int
    bytes_read: int
    bytes_held: int
    seconds: float


def plan_ridge(features: Features, classes: int, strengths: int) -> Plan:
    """Plans :func:`jtl.probing.ridge_path`, whose memory does not grow with the features.

    Args:
      features: of which one block is read.
      classes: how many there are.
      strengths: how many will be fitted.
    """
    examples, width = features.shape
    parts = _rows.slices(examples, _rows.NUMBERS // width)
    begun = time.perf_counter()
    first = np.asarray(features[parts[0]])
    block = first.astype(np.float64)
    block -= block.mean(0)
    read = time.perf_counter() - begun
    begun = time.perf_counter()
    _ = block.T @ block
    # As much of a symmetric product as NumPy computes, and as many multiplications a second.
    rate = len(block) * width**2 / (time.perf_counter() - begun)
    each = width**2 + width**2 + width * classes * strengths
    outputs = 8 * strengths * width * classes + strengths * examples
    residuals = 4 * max(RESIDUALS, len(block) * classes)
    return Plan(
        blocks=len(parts),
        bytes_read=READINGS * examples * width * first.dtype.itemsize,
        bytes_held=5 * block.nbytes + 6 * 8 * width**2 + 2 * outputs + 3 * residuals,
        seconds=READINGS * len(parts) * read + (examples * each + 10 * width**3) / rate,
    )

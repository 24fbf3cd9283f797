"""Losses of transfer learning: pure functions of arrays, which know no model and no config.

Losses of single examples return one value per example; losses of a batch return a scalar and take
``axis_name``. All compute in float32 and have finite gradients.
"""

from jtl.losses.adversarial import (
    classifier_discrepancy,
    domain_adversarial,
    entropy_weights,
    reverse_gradient,
)
from jtl.losses.classification import cross_entropy, distillation, entropy, focal

__all__ = [
    "classifier_discrepancy",
    "cross_entropy",
    "distillation",
    "domain_adversarial",
    "entropy",
    "entropy_weights",
    "focal",
    "reverse_gradient",
]

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
from jtl.losses.discrepancy import coral, mmd
from jtl.losses.regularization import l2_sp
from jtl.losses.structure import (
    batch_nuclear_norm,
    information_maximization,
    minimum_class_confusion,
)

__all__ = [
    "batch_nuclear_norm",
    "classifier_discrepancy",
    "coral",
    "cross_entropy",
    "distillation",
    "domain_adversarial",
    "entropy",
    "entropy_weights",
    "focal",
    "information_maximization",
    "l2_sp",
    "minimum_class_confusion",
    "mmd",
    "reverse_gradient",
]

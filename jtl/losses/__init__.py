"""Losses of transfer learning: pure functions of arrays, which know no model and no config.

Losses of single examples return one value per example; losses of a batch return a scalar, take
``axis_name``, and masks of the rows that count. All compute in float32 and have finite gradients.
"""

from jtl.losses.adversarial import (
    classifier_discrepancy,
    domain_adversarial,
    margin_disparity,
    reverse_gradient,
)
from jtl.losses.classification import cross_entropy, distillation, entropy, focal
from jtl.losses.conditional import (
    entropy_weights,
    multilinear_map,
    randomized_multilinear_map,
)
from jtl.losses.consistency import consistency, virtual_adversarial
from jtl.losses.discrepancy import joint_mmd, mmd
from jtl.losses.moments import central_moment_discrepancy, coral
from jtl.losses.norms import (
    adaptive_feature_norm,
    batch_spectral_penalty,
    batch_spectral_shrinkage,
    hard_feature_norm,
)
from jtl.losses.regularization import bi_tuning, co_tuning, delta, l2_sp
from jtl.losses.structure import (
    batch_nuclear_norm,
    information_maximization,
    minimum_class_confusion,
)
from jtl.losses.transport import joint_transport, sinkhorn_plan
from jtl.losses.wasserstein import gradient_penalty, sliced_wasserstein, wasserstein_critic

__all__ = [
    "adaptive_feature_norm",
    "batch_nuclear_norm",
    "batch_spectral_penalty",
    "batch_spectral_shrinkage",
    "bi_tuning",
    "central_moment_discrepancy",
    "classifier_discrepancy",
    "co_tuning",
    "consistency",
    "coral",
    "cross_entropy",
    "delta",
    "distillation",
    "domain_adversarial",
    "entropy",
    "entropy_weights",
    "focal",
    "gradient_penalty",
    "hard_feature_norm",
    "information_maximization",
    "joint_mmd",
    "joint_transport",
    "l2_sp",
    "margin_disparity",
    "minimum_class_confusion",
    "mmd",
    "multilinear_map",
    "randomized_multilinear_map",
    "reverse_gradient",
    "sinkhorn_plan",
    "sliced_wasserstein",
    "virtual_adversarial",
    "wasserstein_critic",
]

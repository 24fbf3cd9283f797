"""Scores that choose a model or a checkpoint without target labels. Higher is better, always.

A validator names the arrays it reads and is handed those only, so what chose a model is known
from its record: ``validator.labels`` is what to report. NumPy only. docs/validators.md says what
each is fooled by, and where other libraries have another sign.
"""

from collections.abc import Mapping

from jtl.validators.choice import Choice, choices, choose
from jtl.validators.record import AVAILABLE, PoolValidator, Validator, score_all
from jtl.validators.source import (
    average_thresholded_confidence,
    deep_embedded_validation,
    importance_weighted_risk,
    importance_weights,
    reverse_validation,
    source_risk,
)
from jtl.validators.target import (
    batch_nuclear_norm,
    ensemble_agreement,
    entropy,
    information_maximization,
    minimum_class_confusion,
    soft_neighborhood_density,
)

__all__ = [
    "AVAILABLE",
    "ENTROPY",
    "INFORMATION_MAXIMIZATION",
    "POOL_VALIDATORS",
    "SOURCE_RISK",
    "VALIDATORS",
    "Choice",
    "PoolValidator",
    "Validator",
    "average_thresholded_confidence",
    "batch_nuclear_norm",
    "choices",
    "choose",
    "deep_embedded_validation",
    "ensemble_agreement",
    "entropy",
    "importance_weighted_risk",
    "importance_weights",
    "information_maximization",
    "minimum_class_confusion",
    "reverse_validation",
    "score_all",
    "soft_neighborhood_density",
    "source_risk",
]

_PREDICTIONS = ("target_probabilities",)
_SOURCE = ("source_probabilities", "source_labels")

INFORMATION_MAXIMIZATION = Validator(information_maximization, reads=_PREDICTIONS)
ENTROPY = Validator(entropy, reads=_PREDICTIONS)
SOURCE_RISK = Validator(source_risk, reads=_SOURCE)

VALIDATORS: Mapping[str, Validator] = {
    "source_risk": SOURCE_RISK,
    "importance_weighted_risk": Validator(
        importance_weighted_risk, reads=(*_SOURCE, "importance_weights")
    ),
    "dev": Validator(deep_embedded_validation, reads=(*_SOURCE, "importance_weights")),
    "entropy": ENTROPY,
    "information_maximization": INFORMATION_MAXIMIZATION,
    "snd": Validator(soft_neighborhood_density, reads=_PREDICTIONS),
    "bnm": Validator(batch_nuclear_norm, reads=_PREDICTIONS),
    "mcc": Validator(minimum_class_confusion, reads=_PREDICTIONS),
    "atc": Validator(average_thresholded_confidence, reads=(*_SOURCE, *_PREDICTIONS)),
    "reverse_validation": Validator(
        reverse_validation,
        reads=("source_features", "source_labels", "target_features", "target_probabilities"),
    ),
}
"""The scores of one model, by the name that a config uses."""

POOL_VALIDATORS: Mapping[str, PoolValidator] = {
    "ensv": PoolValidator(ensemble_agreement, reads=_PREDICTIONS),
}
"""The scores that rank several candidates together, by the name that a config uses."""

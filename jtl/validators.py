"""Scores that choose a checkpoint without target labels. Higher is better, always.

A validator names the arrays it reads and is handed those only, so what chose a model is known
from its record: ``validator.labels`` is what to report. NumPy only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jtl.errors import UserError
from jtl.metrics import log_loss

AVAILABLE = ("source_probabilities", "source_labels", "target_probabilities")
"""What a validator may read. Target labels are not in the list, and a test keeps it so."""


@dataclass(frozen=True)
class Validator:
    """A model-selection score and what it reads.

    Attributes:
      score: takes the arrays named in ``reads`` as keywords; higher is better.
      reads: names out of :data:`AVAILABLE`.
    """

    score: Callable[..., float]
    reads: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = set(self.reads) - set(AVAILABLE)
        if unknown:
            raise UserError(f"a validator cannot read {min(unknown)}: valid: {AVAILABLE}")

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels among what it reads: () or ("source_labels",)."""
        return tuple(name for name in self.reads if name.endswith("_labels"))

    def __call__(self, available: Mapping[str, np.ndarray]) -> float:
        """Scores a model; whatever else ``available`` holds is not handed on.

        Raises:
          UserError: an array it reads is missing.
        """
        missing = [name for name in self.reads if name not in available]
        if missing:
            raise UserError(
                f"this validator reads {missing[0]}, which this run does not have: "
                "choose another validator"
            )
        return float(self.score(**{name: available[name] for name in self.reads}))


def information_maximization(
    target_probabilities: Float[np.ndarray, "examples classes"],
) -> float:
    """Entropy of the mean prediction minus the mean entropy: confident and diverse, in nats.

    ``H(mean p) - mean H(p)``, from 0 to log classes (Musgrave et al., 2022,
    https://arxiv.org/abs/2208.07360; the score is from Bridle et al., 1991).

    >>> round(information_maximization(np.eye(4)), 4)  # log 4
    1.3863
    """
    p = np.asarray(target_probabilities, np.float64)
    return float(_entropy(p.mean(0)) - _entropy(p).mean())


def entropy(target_probabilities: Float[np.ndarray, "examples classes"]) -> float:
    """Negative mean entropy of the predictions, in nats: confident. Fooled by a collapse.

    >>> round(entropy(np.array([[0.5, 0.5]])), 4)
    -0.6931
    """
    return float(-_entropy(np.asarray(target_probabilities, np.float64)).mean())


def source_risk(
    source_probabilities: Float[np.ndarray, "examples classes"],
    source_labels: Int[np.ndarray, " examples"],
) -> float:
    """Negative log loss on held-out source examples, in nats. Blind to the target.

    >>> round(source_risk(np.array([[0.5, 0.5]]), np.array([1])), 4)
    -0.6931
    """
    return -log_loss(source_probabilities, source_labels)


INFORMATION_MAXIMIZATION = Validator(information_maximization, reads=("target_probabilities",))
ENTROPY = Validator(entropy, reads=("target_probabilities",))
SOURCE_RISK = Validator(source_risk, reads=("source_probabilities", "source_labels"))


def _entropy(p: Float[np.ndarray, "*examples classes"]) -> Float[np.ndarray, "*examples"]:
    """``-sum p log p`` with ``0 log 0 = 0``."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)

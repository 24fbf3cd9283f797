"""What a validator is: a score, and the names of the arrays that it is handed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jtl.errors import UserError
from jtl.validators.source import importance_weights

AVAILABLE = (
    "source_probabilities",
    "source_labels",
    "source_features",
    "target_probabilities",
    "target_features",
    "importance_weights",
)
"""What a validator may read. Target labels are not in the list, and a test keeps it so.

Those of the source belong to examples that were not trained on. Features are the inputs of the
head. Importance weights are of the source examples; where they are missing, they are made from the
features of both domains by :func:`importance_weights`.
"""

Arrays = Mapping[str, np.ndarray]


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
        _check_names(self.reads)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels among what it reads: () or ("source_labels",)."""
        return _labels(self.reads)

    def __call__(self, available: Arrays) -> float:
        """Scores a model; whatever else ``available`` holds is not handed on.

        Raises:
          UserError: an array it reads is missing.
        """
        return float(self.score(**_select(self.reads, complete(self.reads, available))))


@dataclass(frozen=True)
class PoolValidator:
    """A score that compares candidates with each other, so that none can be scored alone.

    Attributes:
      score: takes a list for each name in ``reads``, with an array of each candidate; returns a
        score of each, higher is better. Scores of different pools do not compare.
      reads: names out of :data:`AVAILABLE`.
    """

    score: Callable[..., list[float]]
    reads: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_names(self.reads)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels among what it reads: () or ("source_labels",)."""
        return _labels(self.reads)

    def __call__(self, candidates: Sequence[Arrays]) -> list[float]:
        """Scores each candidate by what is available of it; nothing else is handed on.

        Raises:
          UserError: an array it reads is missing.
        """
        given = [_select(self.reads, complete(self.reads, available)) for available in candidates]
        return self.score(**{name: [arrays[name] for arrays in given] for name in self.reads})


def score_all(validators: Mapping[str, Validator], available: Arrays) -> dict[str, float]:
    """The scores of all validators that find what they read; the weights are made only once."""
    reads = {name for validator in validators.values() for name in validator.reads}
    available = complete(reads, available)
    return {
        name: validator(available)
        for name, validator in validators.items()
        if set(validator.reads) <= available.keys()
    }


def complete(reads: Iterable[str], available: Arrays) -> Arrays:
    """Adds importance weights to what is available, if they are read, missing, and can be made."""
    features = ("source_features", "target_features")
    if (
        "importance_weights" in reads
        and "importance_weights" not in available
        and all(name in available for name in features)
    ):
        weights = importance_weights(*(available[name] for name in features))
        return {**available, "importance_weights": weights}
    return available


def _select(reads: tuple[str, ...], available: Arrays) -> dict[str, np.ndarray]:
    missing = [name for name in reads if name not in available]
    if missing:
        raise UserError(
            f"this validator reads {missing[0]}, which this run does not have: "
            "choose another validator"
        )
    return {name: available[name] for name in reads}


def _check_names(reads: tuple[str, ...]) -> None:
    unknown = set(reads) - set(AVAILABLE)
    if unknown:
        raise UserError(f"a validator cannot read {min(unknown)}: valid: {AVAILABLE}")


def _labels(reads: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in reads if name.endswith("_labels"))

"""What metrics and validators accept: each check returns arrays in double precision, or raises."""

import numpy as np
from jaxtyping import Float, Int

from jtl.errors import UserError

Probabilities = Float[np.ndarray, "examples classes"]
Labels = Int[np.ndarray, " examples"]
Features = Float[np.ndarray, "examples features"]


def check(probabilities: Probabilities, labels: Labels) -> tuple[Probabilities, Labels]:
    """Returns probabilities as float64 and labels as int64, or raises.

    Raises:
      UserError: as :func:`check_probabilities`; shapes that do not belong together; a label that
        is not a class.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise UserError(
            f"probabilities of shape {probabilities.shape} and labels of shape {labels.shape} "
            "do not belong together: give [examples, classes] and [examples]"
        )
    probabilities = check_probabilities(probabilities)
    return probabilities, check_labels(labels, probabilities.shape[1])


def check_probabilities(probabilities: Probabilities, name: str = "probabilities") -> Probabilities:
    """Returns probabilities as float64, or raises.

    Raises:
      UserError: not [examples, classes]; no example; NaN; rows that are no distribution (logits,
        say).
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2:
        raise UserError(f"{name} of shape {probabilities.shape}: give [examples, classes]")
    if not len(probabilities):
        raise UserError("no example to evaluate: the split is empty; choose another split")
    _check_finite(probabilities, name)
    if probabilities.min() < 0 or np.abs(probabilities.sum(1) - 1).max() > 1e-2:
        raise UserError(f"{name} do not sum to one in each row: apply softmax to logits")
    return probabilities


def check_labels(labels: Labels, classes: int) -> Labels:
    """Returns labels as int64, or raises.

    Raises:
      UserError: labels that are no integers from 0 to ``classes - 1``.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"labels are {labels.dtype}: give integers from 0 to classes - 1")
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        raise UserError(
            f"label {labels[outside[0]]} of example {outside[0]} is not one of the {classes} "
            f"classes: labels go from 0 to {classes - 1}"
        )
    return labels.astype(np.int64)


def check_features(source: Features, target: Features) -> tuple[Features, Features]:
    """Returns the features of both domains as float64, or raises.

    Raises:
      UserError: not [examples, features]; of different widths; no feature; fewer than two
        examples in a domain; NaN.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.ndim != 2 or target.ndim != 2 or source.shape[1:] != target.shape[1:]:
        raise UserError(
            f"source features of shape {source.shape} and target features of shape "
            f"{target.shape} do not belong together: give [examples, features], equally wide"
        )
    if not source.shape[1] or min(len(source), len(target)) < 2:
        raise UserError(
            f"{len(source)} source and {len(target)} target examples with {source.shape[1]} "
            "features are too few to compare domains: give two examples or more of each"
        )
    _check_finite(source, "source features")
    _check_finite(target, "target features")
    return source, target


def _check_finite(values: Float[np.ndarray, "examples columns"], name: str) -> None:
    broken = np.flatnonzero(~np.isfinite(values).all(1))
    if len(broken):
        raise UserError(
            f"{name} of {len(broken)} of {len(values)} examples are not finite "
            f"(first: example {broken[0]}): training diverged; lower the learning rate"
        )

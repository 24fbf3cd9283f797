"""The kinds of probe that ``jtl probe`` fits on features, and how each is chosen.

Nothing is chosen by a test example: logistic regression gets its strength from folds of the
training examples; ridge its own, and nearest neighbours their number, from leaving each of them
out.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jtl import plots, probing
from jtl.data.examples import Examples
from jtl.errors import UserError

STRENGTHS = np.logspace(0, -7, 29)
"""That are tried, in parts of the variance of the features."""
COUNTS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)
"""Numbers of neighbours that are tried."""
FOLDS = 5
ROWS = 4096
"""Examples that are scored at once."""

Scores = Callable[[np.ndarray], Float[np.ndarray, "examples classes"]]


class Probe(NamedTuple):
    """A kind of probe on a set of features.

    Attributes:
      curve: what held-out examples say of what was tried.
      chosen: which of it is taken.
      scores: what the fit on all training examples makes of features; the class with the greatest
        is what it takes an example for.
    """

    curve: plots.Curve
    chosen: int
    scores: Scores


def check(labelled: Examples) -> None:
    """Whether a class has an example left where one is held out.

    Raises:
      UserError: one has not.
    """
    counts = np.bincount(labelled.known_labels(), minlength=len(labelled.classes))
    for name, count in zip(labelled.classes, counts, strict=True):
        if count < 2:
            raise UserError(
                f"{labelled.name}: class {name} has {count} training examples, and a probe needs 2 "
                "of each; raise data.per_class, or lower data.test_fraction"
            )


def fit(train: probing.Features, labels: Int[np.ndarray, " examples"]) -> dict[str, Probe]:
    """Every kind of probe on training examples, by its name.

    Nearest neighbours are left out where the features are not in memory, and this is said.
    """
    strengths = STRENGTHS * probing.total_variance(train)
    made = {
        "logistic": _logistic(train, labels, strengths),
        "ridge": _ridge(train, labels, strengths),
    }
    if isinstance(train, np.ndarray):
        return made | {"nearest": _nearest(train, labels)}
    print("no vote of nearest neighbours: the features do not fit in memory")
    return made


def scores(probe: Probe, features: probing.Features) -> Float[np.ndarray, "examples classes"]:
    """What a probe makes of features, in memory or not."""
    parts = [slice(start, start + ROWS) for start in range(0, features.shape[0], ROWS)]
    return np.concatenate([probe.scores(features[part]) for part in parts])


def _logistic(train: probing.Features, labels: np.ndarray, strengths: np.ndarray) -> Probe:
    fewest = int(np.bincount(labels, minlength=2).min())
    folds = probing.deal(labels, max(2, min(FOLDS, fewest)))
    path = probing.logistic_path(train, labels, strengths, folds)
    losses = path.losses.mean((1, 2))
    best = int(losses.argmin())
    curve = plots.Curve("strength", STRENGTHS, losses, "held-out log loss", path.right.mean((1, 2)))
    return Probe(
        curve, best, partial(_line, path.coefficients[best, -1], path.intercepts[best, -1])
    )


def _ridge(train: probing.Features, labels: np.ndarray, strengths: np.ndarray) -> Probe:
    path = probing.ridge_path(train, labels, strengths)
    best = int(path.errors.argmin())
    curve = plots.Curve(
        "strength", STRENGTHS, path.errors, "squared error, left out", path.right.mean(1)
    )
    return Probe(curve, best, partial(_line, path.coefficients[best], path.intercepts[best]))


def _nearest(train: np.ndarray, labels: np.ndarray) -> Probe:
    counts = [count for count in COUNTS if count < len(labels)]
    found = probing.neighbours(train, labels, counts, metric="euclidean")
    errors = ((found.shares - np.eye(found.shares.shape[2])[labels]) ** 2).sum(2).mean(1)
    best = int(errors.argmin())
    curve = plots.Curve(
        "neighbours", found.counts, errors, "squared error, left out", found.right.mean(1)
    )
    vote = partial(probing.votes, train, labels, counts[best], metric="euclidean")
    return Probe(curve, best, vote)


def _line(coefficients: np.ndarray, intercepts: np.ndarray, features: np.ndarray) -> np.ndarray:
    return features @ coefficients + intercepts

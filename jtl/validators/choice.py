"""Which of several candidates a validator chooses, and what that costs."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Choice(NamedTuple):
    """What one validator chooses among candidates."""

    candidate: int
    """Its position; the last of equally good ones, as among checkpoints."""
    accuracy: float
    """The candidate's accuracy on the target."""
    regret: float
    """How much accuracy the best candidate has more."""


def choose(scores: Sequence[float]) -> int:
    """The position of the highest score, the last of equals. A score that is no number never is.

    Raises:
      ValueError: there is no candidate.

    >>> choose([0.1, 0.9, float("nan"), 0.9, 0.3])
    3
    """
    if not len(scores):
        raise ValueError("scores are empty: there is no candidate to choose")
    numbers = [place for place, score in enumerate(scores) if not math.isnan(score)]
    return max(numbers or range(len(scores)), key=lambda place: (scores[place], place))


def choices(
    scores: Mapping[str, Sequence[float]], accuracies: Sequence[float]
) -> dict[str, Choice]:
    """The choice of each validator, and its regret.

    Args:
      scores: of every candidate, by validator; higher is better.
      accuracies: of every candidate on the target, which no validator has seen.

    Raises:
      ValueError: there is no candidate.

    >>> choices({"entropy": [0.1, 0.9, 0.3]}, [0.6, 0.5, 0.7])["entropy"]
    Choice(candidate=1, accuracy=0.5, regret=0.19999999999999996)
    """
    found = {name: choose(values) for name, values in scores.items()}
    best = max(accuracies)
    return {name: Choice(i, accuracies[i], best - accuracies[i]) for name, i in found.items()}

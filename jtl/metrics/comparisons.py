"""Whether one method is better than another: over runs, paired by seed, and over examples."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jtl.errors import UserError
from jtl.metrics.checks import Labels, Probabilities, check

MOST_PAIRS = 24
"""The exact test goes through 2^(pairs - 1) sign patterns: eight million at most."""

Scores = Float[np.ndarray, " runs"]


class PairedTest(NamedTuple):
    """The scores of two methods under the same seeds."""

    difference: float
    """Mean of first minus second."""
    deviation: float
    """Standard deviation of the differences."""
    t: float
    """``difference / (deviation / sqrt(pairs))``; infinite where all differences are equal, 0 where
    all are 0."""
    p_value: float
    """Exact and two-sided. Never below ``2 / 2^pairs``."""
    pairs: int


def paired_test(first: Scores, second: Scores) -> PairedTest:
    """Compares two methods run with the same seeds, data and splits: a pair for each seed.

    The p-value is that of the sign-flip permutation test: were the methods alike, each difference
    could as well have had the other sign; it is the share of the 2^pairs sign patterns whose mean
    is at least as far from 0 as the one seen. No distribution is assumed.

    Five pairs cannot give less than 1/16 = 0.0625, six no less than 0.03125: whoever wants to
    reject at 5 % needs six seeds.

    Args:
      first: a score of each run, 2 to 24 of them.
      second: those of the other method, in the same order of seeds.

    Raises:
      UserError: other shapes, or a score that is not finite.

    >>> paired_test(np.array([0.5, 0.75, 1.0]), np.array([0.25, 0.5, 0.25]))
    PairedTest(difference=0.4166..., deviation=0.2886..., t=2.5, p_value=0.25, pairs=3)
    """
    first, second = _scores("paired_test: first", first), _scores("paired_test: second", second)
    if first.shape != second.shape or not 2 <= len(first) <= MOST_PAIRS:
        raise UserError(
            f"paired_test: {len(first)} and {len(second)} scores: give as many of both, 2 to "
            f"{MOST_PAIRS}, in the same order of seeds"
        )
    differences = first - second
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if np.ptp(differences) <= _rounding(differences):  # what is left of equal numbers is rounding
        deviation, t = 0.0, math.copysign(math.inf, mean) if mean else 0.0
    else:
        t = mean / (deviation / math.sqrt(len(differences)))
    return PairedTest(mean, deviation, t, _sign_flip(differences), len(differences))


class McNemar(NamedTuple):
    """Where two classifiers differ in being right."""

    only_first: int
    """Examples that the first alone gets right."""
    only_second: int
    p_value: float
    """Exact and two-sided; 1 where they are right on the same examples."""


def mcnemar(first: Probabilities, second: Probabilities, labels: Labels) -> McNemar:
    """Compares two trained classifiers on the same examples (McNemar, 1947, in its exact form).

    Of the examples that one gets right and the other wrong, each would have half, were they
    equally good: the p-value is that of the binomial test. It speaks of these two models and other
    examples, not of other training runs.

    Args:
      first: [examples, classes], of one classifier.
      second: of the other.
      labels: [examples].

    Raises:
      UserError: as :func:`jtl.metrics.check`, or different numbers of classes.

    >>> labels = np.zeros(4, int)
    >>> good, bad = np.tile([0.9, 0.1], (4, 1)), np.tile([0.2, 0.8], (4, 1))
    >>> mcnemar(good, bad, labels)
    McNemar(only_first=4, only_second=0, p_value=0.125)
    """
    (first, labels), (second, _) = check(first, labels), check(second, labels)
    if first.shape != second.shape:
        raise UserError(
            f"mcnemar: {first.shape[1]} and {second.shape[1]} classes: compare classifiers of the "
            "same classes"
        )
    right, other = first.argmax(1) == labels, second.argmax(1) == labels
    only_first, only_second = int((right & ~other).sum()), int((other & ~right).sum())
    return McNemar(only_first, only_second, _binomial(only_first, only_second))


class Gain(NamedTuple):
    """What transfer adds to training from scratch."""

    absolute: float
    """Mean score with transfer minus mean score from scratch."""
    relative: float
    """The share of the error from scratch that transfer removes; NaN if there was none."""


def transfer_gain(transferred: Scores, from_scratch: Scores) -> Gain:
    """Gain of transfer over training the same model from scratch, on the same data.

    With mean scores ``a`` and ``b``: ``a - b`` and ``(a - b) / (1 - b)``. Negative is negative
    transfer. How sure it is, :func:`paired_test` says where the seeds are the same.

    Args:
      transferred: a score of each run, such as accuracy, from 0 to 1.
      from_scratch: those of runs without transfer; any number of them.

    Raises:
      UserError: no run, or a score outside 0 to 1.

    >>> transfer_gain(np.array([0.75]), np.array([0.5]))
    Gain(absolute=0.25, relative=0.5)
    """
    means = []
    for name, given in (("transferred", transferred), ("from_scratch", from_scratch)):
        scores = _scores(f"transfer_gain: {name}", given)
        if not len(scores) or scores.min() < 0 or scores.max() > 1:
            raise UserError(f"transfer_gain: {name}: give one score or more, from 0 to 1")
        means.append(float(scores.mean()))
    gain = means[0] - means[1]
    return Gain(gain, gain / (1 - means[1]) if means[1] < 1 else math.nan)


def _scores(name: str, values: Scores) -> Scores:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UserError(f"{name}: give one finite number for each run")
    return values


def _rounding(differences: Scores) -> float:
    """Sums of these closer than this are equal."""
    return 1e-12 * float(np.abs(differences).sum())


def _sign_flip(differences: Scores) -> float:
    """Share of the sign patterns whose sum is at least as far from 0; half of them, by symmetry."""
    sums = differences[:1]
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    seen = abs(float(differences.sum()))
    return float(np.mean(np.abs(sums) >= seen - _rounding(differences)))


def _binomial(first: int, second: int) -> float:
    """Two-sided p-value of so many heads and tails of a fair coin, in logarithms."""
    tosses, fewer = first + second, min(first, second)
    if first == second:
        return 1.0
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, tosses + 1)))])
    heads = np.arange(fewer + 1)
    log_ways = log_factorial[tosses] - log_factorial[heads] - log_factorial[tosses - heads]
    return min(1.0, 2 * float(np.exp(log_ways - tosses * math.log(2)).sum()))

"""Bootstrap intervals: what another sample of test examples would change.

Not what another training run would: for that, compare runs over seeds (jtl.metrics.comparisons).
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

from jtl.errors import UserError
from jtl.metrics.checks import Labels, Probabilities, check
from jtl.metrics.classification import METRICS, facts, scores

Interval = dict[str, float]
"""``{"value", "low", "high"}``: a metric and its interval, of 95 % unless said."""


def summarize(
    probabilities: Probabilities, labels: Labels, *, seed: int = 0, resamples: int = 1000
) -> dict[str, Interval]:
    """All of :data:`METRICS`, each as ``{"value", "low", "high"}``.

    The interval is the 95 % percentile bootstrap over examples: it says what another sample of
    test examples would change, not what another training run would. The same seed gives the
    same interval.

    Args:
      probabilities: [examples, classes], rows sum to one.
      labels: [examples], from 0 to classes - 1.
      seed: of the resampling.
      resamples: how many times the examples are drawn again.

    Raises:
      UserError: as :func:`check`.
    """
    probabilities, labels = check(probabilities, labels)
    of_examples = facts(probabilities, labels)
    values = scores(of_examples, np.ones((1, len(labels))))
    drawn = [scores(of_examples, weights) for weights in resample(len(labels), seed, resamples)]
    return {
        name: _interval(
            float(values[name][0]), np.concatenate([part[name] for part in drawn]), 0.95
        )
        for name in METRICS
    }


def bootstrap(
    score: Callable[..., float],
    *arrays: np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The percentile bootstrap of any score, as ``{"value", "low", "high"}``.

    Examples, the rows of all arrays together, are drawn again with replacement. A draw that the
    score is not defined for (AUROC of examples of one class) is made again.

    Args:
      score: ``score(*arrays)``, a number.
      arrays: one or more, equally long.
      seed: of the resampling; the same seed gives the same interval.
      resamples: how many times the examples are drawn again.
      level: share of the draws that lie in the interval.

    Raises:
      UserError: no array, arrays that are empty or of different lengths, a level outside (0, 1);
        what the score raises for the arrays themselves; a score that most draws leave undefined.

    >>> bootstrap(np.mean, np.array([0.5, 0.5]))
    {'value': 0.5, 'low': 0.5, 'high': 0.5}
    """
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or lengths == {0}:
        raise UserError(
            f"bootstrap: arrays of lengths {sorted(lengths)}: give one example or more, and "
            "equally many in each array"
        )
    if not 0 < level < 1:
        raise UserError(f"bootstrap: level is {level}: give a share between 0 and 1, such as 0.95")
    value, (examples,) = float(score(*arrays)), lengths
    generator, drawn = np.random.default_rng(seed), []
    for _ in range(2 * resamples):
        chosen = generator.integers(examples, size=examples)
        try:
            drawn.append(float(score(*(array[chosen] for array in arrays))))
        except UserError:  # not defined for this draw: it is for the arrays themselves
            continue
        if len(drawn) == resamples:
            return _interval(value, np.array(drawn), level)
    raise UserError(
        f"bootstrap: most draws from {examples} examples leave the score undefined: use more "
        "examples"
    )


def resample(
    examples: int, seed: int, resamples: int
) -> Iterator[Float[np.ndarray, "chunk examples"]]:
    """Counts of how often each example is drawn, in chunks of at most about 32 MB."""
    generator = np.random.default_rng(seed)
    chunk = max(1, 4_000_000 // examples)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(examples, size=(rows, examples))
        drawn += np.arange(rows)[:, None] * examples
        counts = np.bincount(drawn.ravel(), minlength=rows * examples)
        yield counts.reshape(rows, examples).astype(np.float64)


def _interval(value: float, drawn: Float[np.ndarray, " resamples"], level: float) -> Interval:
    low, high = np.percentile(drawn, [50 - 50 * level, 50 + 50 * level])
    return {"value": value, "low": float(low), "high": float(high)}

"""Scores of the source classes that a pretrained model predicts on the new examples."""

import numpy as np
from jaxtyping import Float

from jtl.errors import UserError
from jtl.metrics.checks import check_probabilities
from jtl.transferability._checks import Labels, as_integers, as_matrix


def leep(
    source_probabilities: Float[np.ndarray, "examples source_classes"], labels: Labels
) -> float:
    """Log expected empirical prediction: mean log likelihood of the labels given source classes.

    ``mean_i log sum_z P(y_i | z) p_i(z)``, where ``P(y | z)`` is the joint of labels and predicted
    source classes, ``P(y, z) = mean_i 1[y_i = y] p_i(z)``, over its marginal (Nguyen et al., 2020,
    arXiv 2002.12462).

    Args:
      source_probabilities: [examples, source classes], what the pretrained head predicts. A source
        class that it never predicts says nothing, and counts nothing.
      labels: [examples], integers.

    Returns:
      From minus the labels' entropy (the predictions tell nothing) to 0.

    Raises:
      UserError: shapes that differ, no example, labels that are not integers, or rows that are no
        distribution.

    >>> round(leep(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1])), 4)  # log 1/2
    -0.6931
    """
    p, labels = as_matrix("leep: source_probabilities", source_probabilities, labels)
    check_probabilities(p, "leep: source_probabilities")
    _, classes = np.unique(labels, return_inverse=True)
    joint = np.zeros((classes.max() + 1, p.shape[1]))
    np.add.at(joint, classes, p / len(p))
    given_source = _over(joint, joint.sum(axis=0))
    return float(np.log((given_source[classes] * p).sum(axis=1)).mean())


def nce(source_labels: Labels, labels: Labels) -> float:
    """Negative conditional entropy of the labels given source classes, in nats.

    ``sum_(y, z) P(y, z) log P(y | z)`` of the empirical joint (Tran et al., 2019,
    arXiv 1908.08142). LEEP with certain predictions has this value.

    Args:
      source_labels: [examples], the source class of each example, the pretrained head's argmax say.
      labels: [examples], integers.

    Returns:
      From minus the labels' entropy to 0.

    Raises:
      UserError: lengths that differ, no example, or labels that are not integers.

    >>> round(nce(np.array([0, 0, 1]), np.array([0, 1, 1])), 4)  # 2/3 * log 1/2
    -0.4621
    """
    source_labels, labels = as_integers("nce", source_labels), as_integers("nce", labels)
    if len(source_labels) != len(labels):
        raise UserError(f"nce: {len(source_labels)} source labels for {len(labels)} labels")
    _, sources = np.unique(source_labels, return_inverse=True)
    _, classes = np.unique(labels, return_inverse=True)
    joint = np.zeros((classes.max() + 1, sources.max() + 1))
    np.add.at(joint, (classes, sources), 1 / len(labels))
    given_source = joint / joint.sum(axis=0)
    present = joint > 0
    return float((joint[present] * np.log(given_source[present])).sum())


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their ratio, 0 where both are 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)

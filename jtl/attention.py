"""Which channels of a pretrained model matter to a new task, for DELTA.

Li et al., ICLR 2019, arXiv 1901.09229: those without which a classifier on the pretrained features
errs more. NumPy, and scikit-learn for that classifier.
"""

import numpy as np
from jaxtyping import Float, Int

from jtl.types import Pretrained

EXAMPLES = 256
"""At most as many are looked at, as in the authors' code."""
PENALTY = 1e-4
"""The classifier's weight decay, as there."""


def channel_weights(
    pretrained: Pretrained, labels: Int[np.ndarray, " examples"]
) -> dict[str, Float[np.ndarray, " channels"]]:
    """The weight of each channel of each block that is trained, from :func:`attention`.

    A linear classifier learns the labels from the pretrained features. What counts of a channel is
    how much the classifier's log loss rises where that channel is 0, on up to 256 of the examples.

    Args:
      pretrained: of the labelled examples.
      labels: [examples], of at least two classes.
    """
    from sklearn.linear_model import LogisticRegression  # late: takes seconds to import

    count = len(labels)
    fit = LogisticRegression(C=1 / (PENALTY * count), max_iter=10_000)
    fit.fit(pretrained.features, labels)
    rows = np.linspace(0, count - 1, min(count, EXAMPLES)).astype(int)
    columns = np.searchsorted(fit.classes_, labels[rows])

    def loss(features: np.ndarray) -> float:
        return -fit.predict_log_proba(features)[np.arange(len(rows)), columns].mean()

    whole = loss(pretrained.features[rows])
    return {
        block: attention(np.array([loss(left) - whole for left in pretrained.without(block, rows)]))
        for block in pretrained.blocks
    }


def attention(rises: Float[np.ndarray, " channels"]) -> Float[np.ndarray, " channels"]:
    """The weights of a block's channels, from how much the loss rises without each; their sum is 1.

    ``softmax(z / 5)`` of the rises ``z`` in standard deviations from their mean, as in the authors'
    code; the paper has the softmax of the rises themselves.

    >>> attention(np.array([0.1, 0.3])).round(4)  # one deviation below the mean, and one above
    array([0.4013, 0.5987])
    """
    spread = rises.std()
    scores = (rises - rises.mean()) / spread / 5 if spread > 0 else np.zeros(len(rises))
    weights = np.exp(scores)
    return weights / weights.sum()

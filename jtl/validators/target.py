"""Validators that read predictions on the target and no label at all."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jtl.errors import UserError
from jtl.metrics.checks import Probabilities, check_probabilities

CHUNK = 4_000_000
"""Similarities held at a time: 32 MB."""


def entropy(target_probabilities: Probabilities) -> float:
    """Negative mean entropy of the predictions, in nats: confident. Fooled by a collapse.

    ``-mean_i H(p_i)``, from -log classes to 0; higher is better. As a criterion in Morerio et al.,
    2018, https://arxiv.org/abs/1711.10288. Reads no label.

    >>> round(entropy(np.array([[0.5, 0.5]])), 4)
    -0.6931
    """
    return float(-entropies(_checked(target_probabilities)).mean())


def information_maximization(target_probabilities: Probabilities) -> float:
    """Entropy of the mean prediction minus the mean entropy: confident and diverse, in nats.

    ``H(mean p) - mean H(p)``, from 0 to log classes; higher is better (Musgrave et al., 2022,
    https://arxiv.org/abs/2208.07360; the score is from Bridle et al., 1991). Reads no label.

    >>> round(information_maximization(np.eye(4)), 4)  # log 4
    1.3863
    """
    p = _checked(target_probabilities)
    return float(entropies(p.mean(0)) - entropies(p).mean())


def batch_nuclear_norm(target_probabilities: Probabilities) -> float:
    """Sum of the singular values of the predictions per example: confident and diverse (BNM).

    ``||P||_* / N``, at most ``sqrt(min(N, classes) / N)``; higher is better (Cui et al., 2020,
    https://arxiv.org/abs/2003.12237; as a validator, Musgrave et al., 2022). It shrinks as
    examples are added, so compare it on the same ones. Reads no label.

    >>> round(batch_nuclear_norm(np.array([[1.0, 0.0], [0.0, 1.0]])), 4)
    1.0
    """
    p = _checked(target_probabilities)
    return float(np.linalg.svd(p, compute_uv=False).sum() / len(p))


def minimum_class_confusion(
    target_probabilities: Probabilities, *, temperature: float = 2.5
) -> float:
    """Minus how much the predictions confuse each class with the others (MCC).

    Of the tempered predictions ``q ~ p^(1/T)``, with weights ``w`` proportional to
    ``1 + exp(-H(q))``: minus the mean over classes of ``1 - sum_i w_i q_ic^2 / sum_i w_i q_ic``. A
    class that no prediction gives any mass adds 0. From ``1 / classes - 1`` to 0, higher is better
    (Jin et al., 2020, https://arxiv.org/abs/1912.03699). Fooled by a collapse. Reads no label.

    >>> minimum_class_confusion(np.array([[0.5, 0.5]]))
    -0.5
    """
    _check_temperature("minimum_class_confusion", temperature)
    tempered = _checked(target_probabilities) ** (1 / temperature)
    q = tempered / tempered.sum(1, keepdims=True)
    weights = 1 + np.exp(-entropies(q))
    mass, kept = weights @ q, weights @ q**2
    return float(-(1 - kept[mass > 0] / mass[mass > 0]).sum() / q.shape[1])


def soft_neighborhood_density(
    target_probabilities: Probabilities, *, temperature: float = 0.05
) -> float:
    """How many neighbours each prediction has: the entropy of its similarities, in nats (SND).

    With unit rows ``z = p / |p|``, example i is similar to j by
    ``softmax over j != i of z_i . z_j / T``; the score is the mean entropy of these
    distributions, from 0 to log(N - 1), higher is better (Saito et al., 2021,
    https://arxiv.org/abs/2108.10860). It grows with the number of examples, so compare it on the
    same ones. It is largest where all predictions are equal, sure or unsure: of two models that
    separate no classes it says nothing. Reads no label. Costs ``N^2 classes``.

    Raises:
      UserError: fewer than two examples, or what is no distribution.

    >>> round(soft_neighborhood_density(np.eye(2)[[0, 0, 0]]), 4)  # two alike: log 2
    0.6931
    """
    _check_temperature("soft_neighborhood_density", temperature)
    p = _checked(target_probabilities)
    if len(p) < 2:
        raise UserError("soft_neighborhood_density: one example has no neighbour: give two or more")
    rows = p / np.linalg.norm(p, axis=1, keepdims=True)
    total, chunk = 0.0, max(1, CHUNK // len(p))
    for start in range(0, len(p), chunk):
        similarity = rows[start : start + chunk] @ rows.T / temperature
        inside = np.arange(len(similarity))
        similarity[inside, start + inside] = -np.inf
        total += _softmax_entropy(similarity).sum()
    return float(total / len(p))


def ensemble_agreement(target_probabilities: Sequence[Probabilities]) -> list[float]:
    """How often each candidate predicts what their ensemble predicts (EnsV), for all at once.

    The reference is the class of the largest mean probability over all candidates; the score is
    the share of examples that a candidate gives that class, from 0 to 1, higher is better (Hu et
    al., 2023, https://openreview.net/forum?id=SfRa1zGxCg). A majority of bad candidates outvotes
    the good ones. Reads no label.

    Args:
      target_probabilities: [examples, classes] of each candidate, of the same examples.

    Raises:
      UserError: fewer than two candidates, or of different shapes.

    >>> ensemble_agreement([np.eye(2), np.eye(2), np.eye(2)[[0, 0]]])
    [1.0, 1.0, 0.5]
    """
    candidates = [_checked(probabilities) for probabilities in target_probabilities]
    shapes = sorted({p.shape for p in candidates})
    if len(candidates) < 2 or len(shapes) > 1:
        raise UserError(
            f"ensemble_agreement: {len(candidates)} candidates of shapes {shapes}: give two or "
            "more, of the same examples and classes"
        )
    reference = np.mean(candidates, axis=0).argmax(1)
    return [float(np.mean(p.argmax(1) == reference)) for p in candidates]


def entropies(p: Float[np.ndarray, "*examples classes"]) -> Float[np.ndarray, "*examples"]:
    """``-sum p log p`` of each distribution, in nats, with ``0 log 0 = 0``."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)


def _checked(target_probabilities: Probabilities) -> Probabilities:
    return check_probabilities(target_probabilities, "target_probabilities")


def _check_temperature(name: str, temperature: float) -> None:
    if not temperature > 0:
        raise UserError(f"{name}: temperature is {temperature}: give a positive one")


def _softmax_entropy(
    logits: Float[np.ndarray, "examples others"],
) -> Float[np.ndarray, " examples"]:
    """``log sum exp - mean`` of the logits under their softmax; -inf has no probability."""
    shifted = logits - logits.max(1, keepdims=True)
    odds = np.exp(shifted)
    total = odds.sum(1)
    shifted[np.isneginf(shifted)] = 0.0
    return np.log(total) - np.einsum("ij,ij->i", odds, shifted) / total

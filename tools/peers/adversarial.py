"""Adversarial losses of other implementations."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jtl import losses
from peers.common import markdown, number, softmax

LOGITS = tuple(np.random.default_rng(i).normal(size=(8, 3)).round(2) for i in range(4))
"""The classifier's and the adversary's on the source, then on the target."""
EPS = np.finfo(np.float32).eps

# --- margin disparity -----------------------------------------------------------------------------
# Each with the sign of the paper: the adversary maximises it.


class Heads(NamedTuple):
    """Logits of the classifier and of the adversary in both domains."""

    source: np.ndarray
    on_source: np.ndarray
    target: np.ndarray
    on_target: np.ndarray

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """Those that the adversary gives to the classifier's choices."""
        rows, others = np.arange(len(self.source)), np.arange(len(self.target))
        return (
            softmax(self.on_source)[rows, self.source.argmax(axis=1)],
            softmax(self.on_target)[others, self.target.argmax(axis=1)],
        )


def mdd(heads: Heads) -> float:
    """MDD's authors: thuml/MDD, model/MDD.py, ``get_loss`` (51e5484), with their weight 4.

    They minimise minus this, behind a reversal layer.
    """
    on_source, on_target = heads.probabilities()
    return 4 * np.log(on_source).mean() + np.log(1 - on_target).mean()


def tllib_mdd(heads: Heads) -> float:
    """thuml/Transfer-Learning-Library, tllib/alignment/mdd.py (c4aa59e)."""
    on_source, on_target = heads.probabilities()
    return 4 * np.log(on_source).mean() + np.log(np.minimum(1 - on_target + 1e-6, 1)).mean()


def adapt_mdd(heads: Heads) -> float:
    """adapt-python/adapt, adapt/feature_based/_mdd.py (fd67cb7), its networks ending in softmax."""
    on_source, on_target = heads.probabilities()
    return 4 * np.log(on_source + EPS).mean() + np.log(1 - on_target + EPS).mean()


def skada_mdd(heads: Heads) -> float:
    """scikit-adaptation/skada, skada/deep/_adversarial.py, ``MDDLoss`` (46bc3db).

    Its default adversary (skada/deep/modules.py) ends in a softmax, and both terms take another.
    Indexing with a vector of labels picks a column for every one of them: all pairs of examples.
    The target's probabilities are smoothed by 0.1.
    """
    on_source, on_target = softmax(heads.on_source), softmax(heads.on_target)
    agrees = softmax(on_source)[np.arange(len(on_source)), heads.source.argmax(axis=1)]
    smooth = 0.9 * softmax(on_target) + 0.1 / on_target.shape[1]
    all_pairs = smooth[:, heads.target.argmax(axis=1)]
    return 4 * np.log(agrees).mean() + np.log(1 - all_pairs).mean()


def jtl_mdd(heads: Heads) -> float:
    """Jtl's."""
    return float(losses.margin_disparity(*(jnp.float32(logits) for logits in heads)))


EVEN = np.zeros((1, 3), np.float32)
CERTAIN = Heads(EVEN, EVEN, EVEN, np.float32([[20, 0, 0]]))
"""The adversary agrees with the classifier on the target: in float32 its probability is 1."""


def slope(by_probability: Callable[[np.float32], np.float32]) -> float:
    """The gradient at the certain logit by the chain rule in float32, as autodiff takes it."""
    p = softmax(CERTAIN.on_target)[0]
    with np.errstate(all="ignore"):
        by_p = np.float32([by_probability(p[0]), 0, 0])
        return float((p * (by_p - (by_p * p).sum()))[0])


def jtl_slope() -> float:
    """Jtl's own."""

    def on_target(logits: jax.Array) -> jax.Array:
        return losses.margin_disparity(*CERTAIN[:3], logits)

    return float(jax.grad(on_target)(CERTAIN.on_target)[0, 0])


def skada_slope(step: float = 1e-3) -> float:
    """By differences: two softmaxes and the smoothing have no infinite slope."""
    move = np.array([[step, 0, 0]])
    up, down = (CERTAIN._replace(on_target=CERTAIN.on_target + by) for by in (move, -move))
    return (skada_mdd(up) - skada_mdd(down)) / (2 * step)


def mdd_table() -> str:
    """The value on generic logits, then value and slope where the adversary is certain."""
    rows = []
    for name, disparity, gradient, note in (
        ("jtl", jtl_mdd, jtl_slope(), "`log(1 - p)` from the other logits"),
        ("MDD's authors", mdd, slope(lambda p: -1 / (1 - p)), "`log(1 - softmax)`"),
        ("TLL", tllib_mdd, slope(lambda p: -1 / (1 - p + np.float32(1e-6))), "shifted by 1e-6"),
        ("adapt", adapt_mdd, slope(lambda p: -1 / (1 - p + EPS)), "shifted by 1.2e-7"),
        ("skada", skada_mdd, skada_slope(), "**two softmaxes, all n x n pairs**, smoothed"),
    ):
        with np.errstate(divide="ignore"):
            certain = disparity(CERTAIN) - 4 * np.log(1 / 3)
        rows.append(
            [name, number(disparity(Heads(*LOGITS))), number(certain), number(gradient), note]
        )
    return markdown(["", "8 examples", "certain: value", "slope", "the target's term"], rows)


# --- CDAN+E ---------------------------------------------------------------------------------------

SOURCE_LOGITS = np.array([[9.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
TARGET_LOGITS = np.zeros((3, 2))


def raw_weights(logits: np.ndarray) -> np.ndarray:
    """``1 + exp(-H)``."""
    p = softmax(logits)
    return 1 + np.exp((p * np.log(p)).sum(axis=1))


def per_domain(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each domain's weights over their mean: CDAN's authors, adapt, PyKale and jtl.

    thuml/CDAN, pytorch/loss.py (c904cd3); adapt-python/adapt, adapt/feature_based/_cdan.py
    (fd67cb7); pykale/pykale, kale/pipeline/domain_adapter.py (545b871b). The first and the last
    divide by sums per domain and then by the sum of both, which is the same.
    """
    source, target = raw_weights(source), raw_weights(target)
    return source / source.mean(), target / target.mean()


def tllib_weights(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """thuml/Transfer-Learning-Library, tllib/alignment/cdan.py (c4aa59e)."""
    weights = np.concatenate([raw_weights(source), raw_weights(target)])
    weights = weights / weights.mean()
    return weights[: len(source)], weights[len(source) :]


def pytorch_adapt_weights(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """KevinMusgrave/pytorch-adapt, src/pytorch_adapt/hooks/cdan.py (1366df7c)."""
    source, target = raw_weights(source), raw_weights(target)
    return source / source.max(), target / target.max()


def jtl_weights(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Jtl's."""
    return tuple(np.asarray(losses.entropy_weights(jnp.float32(z))) for z in (source, target))


CDAN: Sequence[tuple[str, Callable, str]] = (
    ("jtl", jtl_weights, "mean 1 in each domain; no gradient"),
    ("CDAN's authors, PyKale", per_domain, "the same; a **reversed gradient** passes"),
    ("adapt", per_domain, "the same; a gradient passes"),
    ("TLL", tllib_weights, "mean 1 over **both domains together**; no gradient"),
    ("pytorch-adapt", pytorch_adapt_weights, "**largest** 1 in each domain; no gradient"),
)


def cdan_table() -> str:
    """The factor of each example's loss."""
    rows = []
    for name, weights, note in CDAN:
        source, target = weights(SOURCE_LOGITS, TARGET_LOGITS)
        shown = [", ".join(number(w, 2) for w in side) for side in (source, target)]
        rows.append([name, *shown, note])
    return markdown(["", "source", "target", "normalised to"], rows)


# --- the gradient penalty -------------------------------------------------------------------------


def wdgrl_penalty(slope: np.ndarray) -> float:
    """WDGRL's authors: RockySJ/WDGRL, toy/wd.py and digits/mnist_usps/wd.py (f1f8c3a).

    At source, target and points between, as pykale/pykale, kale/evaluate/metrics.py,
    ``gradient_penalty`` (545b871b). Of a linear critic the slope is the same at all of them.
    """
    return (np.sqrt((slope**2).sum()) - 1) ** 2


def adapt_penalty(slope: np.ndarray) -> float:
    """adapt-python/adapt, adapt/feature_based/_wdgrl.py (fd67cb7).

    For vectors ``axis=[i for i in range(1, dim)]`` is empty, so the norm is that of each number.
    """
    return ((np.sqrt(slope**2 + np.finfo(np.float32).eps) - 1) ** 2).mean()


def jtl_penalty(slope: np.ndarray) -> float:
    """Jtl's."""
    weights = jnp.float32(slope)
    source, target = jnp.zeros((2, len(slope))), jnp.ones((2, len(slope)))
    return float(losses.gradient_penalty(lambda x: x @ weights, source, target, jax.random.key(0)))


PENALTIES: Sequence[tuple[str, Callable, str]] = (
    ("jtl", jtl_penalty, "at source, target and between"),
    ("WDGRL's authors, PyKale", wdgrl_penalty, "the same"),
    ("adapt", adapt_penalty, "between only, and the norm over **no axis**"),
)


def penalty_table() -> str:
    """Of linear critics with two slopes of norm 1."""
    rows = [
        [
            name,
            number(penalty(np.array([0.6, 0, -0.8]))),
            number(penalty(np.array([1.0, 0, 0]))),
            note,
        ]
        for name, penalty, note in PENALTIES
    ]
    return markdown(["", "slope (0.6, 0, -0.8)", "slope (1, 0, 0)", "what it is"], rows)


# --- reversal and discriminators ------------------------------------------------------------------


def ramp(steps: int, total: int) -> tuple[float, float]:
    """The reversal's strength after ``steps``: the paper's over ``total``, and the peers'.

    jindongwang/transferlearning, code/DeepDA/loss_funcs/adv.py (f951df1), stops counting at 1000;
    thuml/Transfer-Learning-Library, tllib/modules/grl.py (c4aa59e), goes on.
    """
    return 2 / (1 + np.exp(-10 * steps / total)) - 1, 2 / (1 + np.exp(-min(steps, 1000) / 1000)) - 1


def skada_domain_loss(scores: np.ndarray, other_scores: np.ndarray) -> float:
    """scikit-adaptation/skada, skada/deep/modules.py and _adversarial.py, ``DANN`` (46bc3db).

    Its default discriminator ends in a softmax over one unit. torch's binary cross-entropy stops
    logarithms at -100.
    """
    of_source, of_target = softmax(scores[:, None])[:, 0], softmax(other_scores[:, None])[:, 0]
    with np.errstate(divide="ignore"):
        return float(
            -np.maximum(np.log(1 - of_source), -100).mean()
            - np.maximum(np.log(of_target), -100).mean()
        )

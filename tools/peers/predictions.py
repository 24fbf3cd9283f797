"""Losses of predictions, and virtual adversaries, of other implementations."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jtl import losses
from peers.common import markdown, number, softmax

LOGITS = np.random.default_rng(0).normal(size=(8, 3)).round(2).astype(np.float32)
WITHOUT_A_CLASS = LOGITS + np.float32([0, -1000, 0])
"""One class has underflowed for all examples."""

# --- class confusion ------------------------------------------------------------------------------


def confusion(p: np.ndarray, entropies: np.ndarray) -> float:
    """What all share: the weights, the normalisation, the mass off the diagonal."""
    weights = 1 + np.exp(-entropies)
    pairs = (p * (len(p) * weights / weights.sum())[:, None]).T @ p
    with np.errstate(invalid="ignore"):
        pairs = pairs / pairs.sum(axis=1)
    return (pairs.sum() - np.trace(pairs)) / len(pairs)


def mcc(logits: np.ndarray, temperature: float) -> float:
    """The authors: thuml/Versatile-Domain-Adaptation, pytorch/train_image_office.py (db5012a).

    thuml/Transfer-Learning-Library, tllib/self_training/mcc.py (c4aa59e), is the same.
    """
    p = softmax(logits / temperature)
    return confusion(p, -(p * np.log(p + 1e-5)).sum(axis=1))


def skada_mcc(logits: np.ndarray, temperature: float) -> float:
    """scikit-adaptation/skada, skada/deep/losses.py, ``mcc_loss`` (46bc3db)."""
    p = softmax(logits / temperature)
    return confusion(p, -(p * np.log(p + 1e-7)).sum(axis=1))


def jtl_mcc(logits: np.ndarray, temperature: float) -> float:
    """Jtl's."""
    return float(losses.minimum_class_confusion(jnp.float32(logits), temperature=temperature))


MCC: Sequence[tuple[str, Callable, str]] = (
    ("jtl", jtl_mcc, "2.5"),
    ("MCC's authors", mcc, "2.5 or 3, by data set"),
    ("TLL", mcc, "none"),
    ("skada", skada_mcc, "**1**"),
)


def mcc_table() -> str:
    """The confusion of eight predictions, and with a class that none of them gives any mass."""
    rows = [
        [name, *(number(loss(logits, 2.5), 5) for logits in (LOGITS, WITHOUT_A_CLASS)), default]
        for name, loss, default in MCC
    ]
    return markdown(["", "8 examples", "a class without mass", "default temperature"], rows)


# --- nuclear norm ---------------------------------------------------------------------------------


def bnm(logits: np.ndarray) -> float:
    """The authors: cuishuhao/BNM, DA/BNM/train_image.py (2d23c61): the mean singular value.

    jindongwang/transferlearning, code/DeepDA/loss_funcs/bnm.py (f951df1), is the same.
    """
    return -np.linalg.svd(softmax(logits), compute_uv=False).mean()


def bnm_by_rows(logits: np.ndarray) -> float:
    """KevinMusgrave/pytorch-adapt, src/pytorch_adapt/layers/bnm_loss.py (1366df7c).

    So do the authors in SSL/base.py and UODR/train_loader.py.
    """
    return -np.linalg.svd(softmax(logits), compute_uv=False).sum() / len(logits)


def jtl_bnm(logits: np.ndarray) -> float:
    """Jtl's."""
    return float(losses.batch_nuclear_norm(jnp.float32(logits)))


BNM: Sequence[tuple[str, Callable, str]] = (
    ("jtl, pytorch-adapt", jtl_bnm, "over the examples"),
    ("BNM's authors, DeepDA", bnm, "mean of the singular values"),
)


def bnm_table() -> str:
    """One batch, the same twice, and its first three rows."""
    batches = LOGITS, np.concatenate([LOGITS, LOGITS]), LOGITS[:3]
    rows = [[name, *(number(loss(batch)) for batch in batches), note] for name, loss, note in BNM]
    return markdown(["3 classes", "8 examples", "each twice", "3 examples", "divided by"], rows)


# --- the direction of a virtual adversary ---------------------------------------------------------

SIZES = (64, 784, 3072)
STEPS = (1e-6, 1e-2, 1.0)


def mean_cosine(width: int, step: float) -> float:
    """Between jtl's move in float32 and the exact first power iteration, over 16 inputs."""
    rng = np.random.default_rng(width)
    first = rng.normal(size=(width, 64)) / np.sqrt(width)
    second = 2 * rng.normal(size=(64, 10)) / np.sqrt(64)
    inputs = rng.uniform(size=(16, width))
    seen, key = [], jax.random.key(0)

    def network(rows: jax.Array) -> jax.Array:
        seen.append(rows)
        return jnp.tanh(rows @ jnp.float32(first)) @ jnp.float32(second)

    losses.virtual_adversarial(network, jnp.float32(inputs), key, epsilon=1.0, xi=step)
    moves = np.asarray(seen[-1] - jnp.float32(inputs), np.float64)
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(16))
    starts = jax.vmap(lambda key: jax.random.normal(key, width))(keys)
    cosines = []
    for row, move, start in zip(inputs, moves, np.asarray(starts, np.float64), strict=True):
        hidden = np.tanh(row @ first)
        p = softmax(hidden @ second)
        # The Hessian of the divergence is J^T (diag(p) - p p^T) J, J = second^T diag(...) first^T.
        rise = second.T @ ((1 - hidden**2) * (first.T @ start))
        slope = first @ ((1 - hidden**2) * (second @ (p * rise - p * (p @ rise))))
        cosines.append(slope @ move / np.linalg.norm(slope) / np.linalg.norm(move))
    return float(np.mean(cosines))


def vat_table() -> str:
    """What float32 leaves of the direction, by the length of the step that finds it."""
    defaults = {1e-6: "VAT's authors, pytorch-adapt, AdaTime", 1e-2: "jtl"}
    rows = []
    for step in STEPS:
        cosines = [mean_cosine(width, step) for width in SIZES]
        # What is left of a lost direction is rounding, which differs between machines.
        cells = ["**under 0.9**" if cosine < 0.9 else number(cosine, 2) for cosine in cosines]
        rows.append([f"{step:g}", *cells, defaults.get(step, "")])
    return markdown(["`xi`", *(f"{width} inputs" for width in SIZES), "default of"], rows)

"""Norms, and the penalties of fine-tuning, of other implementations."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jtl import losses
from peers.common import markdown, number, softmax

# --- feature norms --------------------------------------------------------------------------------


def rows_of(*lengths: float) -> np.ndarray:
    """Rows along one axis."""
    return np.array([[length, 0.0] for length in lengths])


EVEN, UNEVEN = rows_of(25, 25, 25, 25), rows_of(5, 15, 35, 45)


def hafn(features: np.ndarray, radius: float = 25.0) -> float:
    """The authors: jihanyang/AFN, vanilla/Office31/HAFN/code/train.py (d96515b)."""
    return (np.linalg.norm(features, axis=1).mean() - radius) ** 2


def by_row(features: np.ndarray, radius: float = 25.0) -> float:
    """As it is often written down: the mean outside of the square."""
    return ((np.linalg.norm(features, axis=1) - radius) ** 2).mean()


def jtl_hafn(features: np.ndarray) -> float:
    """Jtl's."""
    return float(losses.hard_feature_norm(jnp.float32(features)))


HAFN: Sequence[tuple[str, Callable, str]] = (
    ("jtl", jtl_hafn, "the mean norm is pulled to 25"),
    ("AFN's authors", hafn, "the same"),
    ("as often written", by_row, "every norm is pulled to 25"),
)


def hafn_table() -> str:
    """Two batches whose mean norm is 25."""
    rows = [
        [name, *(number(loss(f), 0) for f in (EVEN, UNEVEN)), note] for name, loss, note in HAFN
    ]
    return markdown(["", "norms 25, 25, 25, 25", "norms 5, 15, 35, 45", "what it is"], rows)


# --- distillation ---------------------------------------------------------------------------------

STUDENT, TEACHER = (np.random.default_rng(i).normal(size=(8, 5)).round(2) for i in (0, 1))
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)


def tllib_distillation(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """thuml/Transfer-Learning-Library, tllib/regularization/knowledge_distillation.py (c4aa59e)."""
    log_p = jax.nn.log_softmax(student / temperature)
    log_q = jax.nn.log_softmax(teacher / temperature)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=1).mean()


def jtl_distillation(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Jtl's."""
    return losses.distillation(student, teacher, temperature=temperature).mean()


DISTILLATION: Sequence[tuple[str, Callable, str]] = (
    ("jtl", jtl_distillation, "times T^2"),
    ("TLL", tllib_distillation, "**without T^2**"),
)


def distillation_table() -> str:
    """The length of the gradient, by temperature."""
    rows = []
    for name, loss, note in DISTILLATION:
        slopes = [
            jax.grad(loss)(jnp.float32(STUDENT), jnp.float32(TEACHER), temperature)
            for temperature in TEMPERATURES
        ]
        rows.append([name, *(number(float(jnp.linalg.norm(slope))) for slope in slopes), note])
    return markdown(["gradient", *(f"T = {t:g}" for t in TEMPERATURES), ""], rows)


# --- DELTA ----------------------------------------------------------------------------------------

MAPS, OLD = (np.random.default_rng(i).normal(size=(8, 4, 4, 6)).round(2) for i in (2, 3))
ATTENTION = softmax(np.random.default_rng(4).normal(size=6))


def delta(maps: np.ndarray, old: np.ndarray) -> float:
    """The authors: lixingjian/DELTA, train.py, ``reg_fea_map`` (6ba10d2).

    thuml/Transfer-Learning-Library, tllib/regularization/delta.py (c4aa59e), is the same.
    """
    return ((maps - old) ** 2).sum() / 2


def attentive_delta(maps: np.ndarray, old: np.ndarray) -> float:
    """The same files: ``reg_att_fea_map``."""
    _, height, width, channels = maps.shape
    squares = ((maps - old) ** 2).sum(axis=(1, 2))
    return (channels * ATTENTION * squares / (height * width)).sum() / 2


def jtl_delta(maps: np.ndarray, old: np.ndarray) -> float:
    """Jtl's."""
    return float(losses.delta({"maps": jnp.float32(maps)}, {"maps": jnp.float32(old)}))


def jtl_attentive_delta(maps: np.ndarray, old: np.ndarray) -> float:
    """Jtl's."""
    layers = ({"maps": jnp.float32(rows)} for rows in (maps, old))
    return float(losses.delta(*layers, weights={"maps": jnp.float32(ATTENTION)}))


DELTA: Sequence[tuple[str, Callable, str]] = (
    ("jtl", jtl_delta, "mean over examples, sum over channels and positions"),
    ("DELTA's authors, TLL", delta, "half the **sum over examples**, channels and positions"),
    ("jtl, weighted", jtl_attentive_delta, "as above, channels weighted"),
    (
        "authors and TLL, weighted",
        attentive_delta,
        "half the **sum over examples**; *mean* over positions; weights times channels",
    ),
)


def delta_table() -> str:
    """A batch of feature maps and the same twice as long."""
    twice = [np.concatenate([maps, maps]) for maps in (MAPS, OLD)]
    rows = [
        [name, number(loss(MAPS, OLD), 1), number(loss(*twice), 1), note]
        for name, loss, note in DELTA
    ]
    return markdown(["", "8 examples", "each twice", "what it is"], rows)

"""Maximum mean discrepancies and covariance distances of other implementations."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from jtl import losses
from peers.common import markdown, number, squared_distances

SOURCE = np.random.default_rng(0).normal(size=(16, 4)).round(2)
TARGET = np.random.default_rng(1).normal(size=(16, 4)).round(2) * [1, 1, 2, 1] + [0.5, 0, 0, 0]
"""The input of the tables: one feature is shifted, one is twice as wide."""


def octaves(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The sum of five Gaussian kernels of octaves around the mean squared distance.

    thuml/Xlearn, pytorch/src/loss.py, ``guassian_kernel`` (e72b2be). Copied, under that name, by
    jindongwang/transferlearning, AdaTime and PyKale.
    """
    rows = np.concatenate([source, target])
    distances = squared_distances(rows, rows)
    mean = distances.sum() / (len(rows) ** 2 - len(rows))
    return sum(np.exp(-distances / (mean / 4 * 2**i)) for i in range(5))


def biased(kernel: np.ndarray, n: int) -> float:
    """All pairs, those of a row with itself included."""
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def unbiased(kernel: np.ndarray, n: int) -> float:
    """All pairs of different rows."""
    within = ~np.eye(n, dtype=bool)
    return kernel[:n, :n][within].mean() + kernel[n:, n:][within].mean() - 2 * kernel[:n, n:].mean()


def cyclic(kernel: np.ndarray, n: int) -> float:
    """Each row with the next, the last with the first."""
    one, other = np.arange(n), (np.arange(n) + 1) % n
    same = kernel[one, other] + kernel[n + one, n + other]
    return (same - kernel[one, n + other] - kernel[other, n + one]).mean()


def xlearn(source: np.ndarray, target: np.ndarray) -> float:
    """DAN's authors: thuml/Xlearn, pytorch/src/loss.py, ``DAN`` (e72b2be)."""
    return unbiased(octaves(source, target), len(source))


def pykale(source: np.ndarray, target: np.ndarray) -> float:
    """pykale/pykale, kale/evaluate/metrics.py, ``compute_mmd_loss`` (545b871b)."""
    return cyclic(octaves(source, target), len(source))


def deepda(source: np.ndarray, target: np.ndarray) -> float:
    """jindongwang/transferlearning, code/DeepDA/loss_funcs/mmd.py (f951df1).

    emadeldeen24/AdaTime, models/loss.py, ``MMD_loss`` (2d9be6b), is the same formula, computed
    under ``torch.no_grad()``.
    """
    return biased(octaves(source, target), len(source))


def tllib(source: np.ndarray, target: np.ndarray, *, linear: bool) -> float:
    """thuml/Transfer-Learning-Library, tllib/alignment/dan.py and modules/kernels.py (c4aa59e).

    With the kernels of examples/domain_adaptation/image_classification/dan.py, which by default
    takes the linear form.
    """
    rows = np.concatenate([source, target])
    distances = squared_distances(rows, rows)
    kernel = sum(np.exp(-distances / (2 * 2.0**k * distances.mean())) for k in range(-3, 2))
    estimate = cyclic if linear else unbiased
    return estimate(kernel, len(source)) + 2 / (len(source) - 1)


def pytorch_adapt(source: np.ndarray, target: np.ndarray, *, linear: bool) -> float:
    """KevinMusgrave/pytorch-adapt, src/pytorch_adapt/layers/mmd_loss.py, utils.py (1366df7c).

    ``linear`` is its default. torch.median is the lower of the two middle values.
    """
    n = len(source)
    within = np.sort(squared_distances(source, source).ravel())
    median = within[(len(within) - 1) // 2]
    rows = np.concatenate([source, target])
    kernel = np.exp(-squared_distances(rows, rows) / median)
    if not linear:
        return unbiased(kernel, n)
    one, other = np.arange(0, n // 2 * 2, 2), np.arange(1, n // 2 * 2, 2)
    same = kernel[one, other] + kernel[n + one, n + other]
    return (same - kernel[one, n + other] - kernel[other, n + one]).mean()


def skada_mmd(source: np.ndarray, target: np.ndarray) -> float:
    """scikit-adaptation/skada, skada/deep/losses.py, ``dan_loss`` (46bc3db)."""
    within = np.sort(np.sqrt(squared_distances(source, source)).ravel())
    widths = (within[(len(within) - 1) // 2] + 1e-7) * 2.0 ** (-8 + np.arange(33) / 2)
    rows = np.concatenate([source, target])
    distances = np.sqrt(squared_distances(rows, rows))
    return biased(sum(np.exp(-distances / width) for width in widths), len(source))


def dassl(source: np.ndarray, target: np.ndarray) -> float:
    """KaiyangZhou/Dassl.pytorch, dassl/modeling/ops/mmd.py, ``rbf_mmd`` (c61a1b5)."""
    rows = np.concatenate([source, target])
    distances = squared_distances(rows, rows)
    return unbiased(sum(np.exp(-distances / (2 * s**2)) for s in (1, 5, 10)), len(source))


def domainbed_mmd(source: np.ndarray, target: np.ndarray) -> float:
    """facebookresearch/DomainBed, domainbed/algorithms.py, ``AbstractMMD.mmd`` (b93c22a)."""
    rows = np.concatenate([source, target])
    distances = squared_distances(rows, rows)
    return biased(sum(np.exp(-distances * 10.0**k) for k in range(-3, 4)), len(source))


def jtl_mmd(estimator: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """jtl's, as a function of two samples."""
    return lambda s, t: float(losses.mmd(jnp.float32(s), jnp.float32(t), estimator=estimator))


MMD: Sequence[tuple[str, Callable, str]] = (
    ("jtl, biased (default)", jtl_mmd("biased"), "mean of five Gaussians; median of all pairs"),
    ("jtl, unbiased", jtl_mmd("unbiased"), "the same without pairs of a row with itself"),
    ("jtl, linear", jtl_mmd("linear"), "disjoint pairs of consecutive rows"),
    ("DAN's authors (Xlearn)", xlearn, "unbiased; *sum* of five Gaussians; mean of all pairs"),
    ("PyKale", pykale, "as Xlearn, each row with the next, the last with the first"),
    ("DeepDA", deepda, "as Xlearn, biased"),
    ("AdaTime", deepda, "as DeepDA, under `torch.no_grad()`: **no gradient**"),
    ("TLL, linear (default)", lambda s, t: tllib(s, t, linear=True), "**plus 2 / (n - 1)**"),
    ("TLL, non-linear", lambda s, t: tllib(s, t, linear=False), "unbiased **plus 2 / (n - 1)**"),
    (
        "pytorch-adapt, linear (default)",
        lambda s, t: pytorch_adapt(s, t, linear=True),
        "one Gaussian; median within the source, zeros included",
    ),
    (
        "pytorch-adapt, quadratic",
        lambda s, t: pytorch_adapt(s, t, linear=False),
        "the same, unbiased",
    ),
    ("skada", skada_mmd, "biased; sum of 33 kernels of the **un-squared** distance"),
    ("Dassl", dassl, "unbiased; sum of three Gaussians of fixed width"),
    ("DomainBed", domainbed_mmd, "biased; sum of seven Gaussians of fixed width"),
)


def mmd_table() -> str:
    """All values on the same two samples, and of the source with itself."""
    rows = [
        [name, number(mmd(SOURCE, TARGET)), number(mmd(SOURCE, SOURCE)), note]
        for name, mmd, note in MMD
    ]
    return markdown(["", "source, target", "source, source", "what it is"], rows)


def xlearn_joint(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """JAN's authors: thuml/Xlearn, pytorch/src/loss.py, ``JAN`` (e72b2be).

    The second layer, the predictions, has one kernel of fixed width 1.68.
    """
    features, (p, q) = (sources[0], targets[0]), (sources[1], targets[1])
    rows = np.concatenate([p, q])
    kernel = octaves(*features) * np.exp(-squared_distances(rows, rows) / 1.68)
    return unbiased(kernel, len(p))


# --- covariances ----------------------------------------------------------------------------------


def covariance(rows: np.ndarray) -> np.ndarray:
    """Unbiased."""
    return np.cov(rows, rowvar=False)


def pytorch_adapt_coral(source: np.ndarray, target: np.ndarray) -> float:
    """KevinMusgrave/pytorch-adapt, src/pytorch_adapt/layers/coral_loss.py (1366df7c).

    So are DeepDA's loss_funcs/coral.py (f951df1), skada's ``deepcoral_loss`` (46bc3db) and adapt's
    adapt/feature_based/_deepcoral.py (fd67cb7) for batches of equal size.
    """
    gap = covariance(source) - covariance(target)
    return (gap**2).sum() / (4 * source.shape[1] ** 2)


def tllib_coral(source: np.ndarray, target: np.ndarray) -> float:
    """thuml/Transfer-Learning-Library, tllib/alignment/coral.py (c4aa59e).

    facebookresearch/DomainBed, domainbed/algorithms.py, ``CORAL`` (b93c22a), is the same.
    """
    means = ((source.mean(axis=0) - target.mean(axis=0)) ** 2).mean()
    return means + ((covariance(source) - covariance(target)) ** 2).mean()


def adatime_coral(source: np.ndarray, target: np.ndarray) -> float:
    """emadeldeen24/AdaTime, models/loss.py, ``CORAL`` (2d9be6b)."""
    scatter = (len(source) - 1) * covariance(source) - (len(target) - 1) * covariance(target)
    return (scatter**2).mean() / (4 * source.shape[1] ** 2)


def jtl_coral(source: np.ndarray, target: np.ndarray) -> float:
    """Jtl's."""
    return float(losses.coral(jnp.float32(source), jnp.float32(target)))


CORAL: Sequence[tuple[str, Callable, str]] = (
    ("jtl", jtl_coral, "the paper's"),
    ("pytorch-adapt, DeepDA, skada", pytorch_adapt_coral, "the same"),
    ("adapt", pytorch_adapt_coral, "the same; its encoder **never gets the task loss**"),
    ("TLL, DomainBed", tllib_coral, "**four times** the paper's, plus a distance of the means"),
    ("AdaTime", adatime_coral, "**not divided by n - 1**, and by d^4 where the paper has d^2"),
)


def coral_table() -> str:
    """All values on the same two samples, and of the source with its shifted self."""
    rows = [
        [name, number(coral(SOURCE, TARGET)), number(coral(SOURCE, SOURCE + 1)), note]
        for name, coral, note in CORAL
    ]
    return markdown(["", "source, target", "source, source + 1", "what it is"], rows)

"""Probes on given features: jtl against scikit-learn, in turns, at the same objective.

python benchmarks/probes.py [--examples N] [--features N] [--classes N] [--strengths N] [--folds N]
    [--rounds N] [--tolerances T ...] [--peer_folds N] [--exponents LOW HIGH] [--doubles]
    [--peer_threads N]

Features are drawn: correlated, with a decaying spectrum, not negative, as a network's are. Both fit
the same strengths on the same folds. scikit-learn fits one fold after another, so with
``--peer_folds`` it is given some of them only, and its time is taken times the rest. jtl fits all
examples besides, and its compilation is said apart. ``--exponents`` are those of ten between which
scikit-learn's C is. scikit-learn computes in the precision of the features, and in single its line
search ends before the tolerance is reached where C is great: with ``--doubles`` its logistic
regression gets them in double. On few cores its threads of BLAS and of OpenMP keep each other from
working: ``--peer_threads 1`` leaves it one of BLAS, and was up to eleven times as fast on two.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifierCV
from threadpoolctl import threadpool_limits
from turns import processor, quartiles

from jtl.probing import LogisticPath, deal, logistic_path, ridge_path

DEFAULT = 1e-4
"""scikit-learn's tolerance where none is given; then with its default of 100 iterations too."""


def draw(examples: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rectified features whose variances fall along their principal axes, and their labels."""
    draw = np.random.default_rng(0)
    spectrum = np.arange(1, features + 1) ** -0.7
    axes = np.linalg.qr(draw.standard_normal((features, features)))[0]
    labels = draw.integers(classes, size=examples)
    centres = 0.3 * draw.standard_normal((classes, features))
    latent = (draw.standard_normal((examples, features)) + centres[labels]) * spectrum @ axes
    return np.maximum(latent / latent.std() + 0.3, 0).astype(np.float32), labels


def objective(
    coefficients: np.ndarray,
    intercepts: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    strength: float,
) -> float:
    """Mean log loss and penalty, in double precision."""
    logits = features.astype(np.float64) @ coefficients + intercepts
    chosen = logits[np.arange(len(labels)), labels]
    losses = np.logaddexp.reduce(logits, axis=1) - chosen
    return float(losses.mean() + strength / 2 * (coefficients**2).sum())


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it returned."""
    begun = time.perf_counter()
    made = run()
    return time.perf_counter() - begun, made


def limited(threads: int | None, run: Callable[[], Any]) -> Any:
    """What it returns with so many threads of BLAS, or as many as it likes."""
    with threadpool_limits(threads, "blas"):
        return run()


def in_turns(
    ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int
) -> tuple[list[float], list[float], Any, Any]:
    """Seconds of both, round by round, and what they returned last."""
    turns = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    first, second = zip(*turns, strict=True)
    return [s for s, _ in first], [s for s, _ in second], first[-1][1], second[-1][1]


def row(name: str, theirs: Sequence[float], ours: Sequence[float], said: str) -> None:
    """A line of the table: medians, and quartiles of the ratios within a turn."""
    low, middle, high = quartiles([a / b for a, b in zip(theirs, ours, strict=True)])
    print(
        f"| {name} | {np.median(theirs):.2f} | {np.median(ours):.2f} | "
        f"{middle:.1f}x ({low:.1f} to {high:.1f}) | {said} |",
        flush=True,
    )


def ridge(
    features: np.ndarray, labels: np.ndarray, strengths: np.ndarray, options: argparse.Namespace
) -> None:
    """Ridge with exact leave-one-out; both must choose the same strength."""
    penalties = strengths * len(labels)
    ridge_path(features, labels, strengths)  # compiles
    ours, theirs, path, peer = in_turns(
        lambda: ridge_path(features, labels, strengths),
        lambda: limited(
            options.peer_threads, lambda: RidgeClassifierCV(alphas=penalties).fit(features, labels)
        ),
        options.rounds,
    )
    chosen = penalties[path.errors.argmin()]
    row("RidgeClassifierCV", theirs, ours, f"alpha {chosen:.3g}, theirs {peer.alpha_:.3g}")


def logistic(
    features: np.ndarray, labels: np.ndarray, strengths: np.ndarray, options: argparse.Namespace
) -> None:
    """Logistic regression of all folds and strengths, scikit-learn at several tolerances."""
    folds = deal(labels, options.folds)
    given = features.astype(np.float64) if options.doubles else features
    compiling, _ = timed(lambda: logistic_path(features, labels, strengths, folds))
    splits = [(folds != fold).nonzero()[0] for fold in range(options.peer_folds)]
    inverse = 1 / (strengths * np.mean([len(split) for split in splits]))
    for tolerance in options.tolerances:
        peer: Any = LogisticRegressionCV(
            Cs=inverse.tolist(),
            cv=[(split, (folds == fold).nonzero()[0]) for fold, split in enumerate(splits)],
            tol=tolerance,
            max_iter=100 if tolerance == DEFAULT else 100_000,
            refit=False,
        )
        ours, theirs, path, fitted = in_turns(
            lambda: logistic_path(features, labels, strengths, folds),
            lambda peer=peer: limited(options.peer_threads, lambda: peer.fit(given, labels)),
            options.rounds,
        )
        theirs = [seconds * options.folds / options.peer_folds for seconds in theirs]
        gaps = _gaps(path, fitted, features, labels, splits, inverse)
        said = f"gap at most {gaps.max():.1g}, jtl's {path.gap.max():.1g}"
        row(f"LogisticRegressionCV, tol {tolerance:.0e}", theirs, ours, said)
    print(f"\njtl's first call, which compiles: {compiling:.1f} s")


def _gaps(
    path: LogisticPath,
    peer: Any,
    features: np.ndarray,
    labels: np.ndarray,
    splits: Sequence[np.ndarray],
    inverse: np.ndarray,
) -> np.ndarray:
    """How far scikit-learn is above the minimum at most, relative, by fold and strength.

    The minimum is no lower than jtl's objective less its gap.
    """
    by_class = np.stack([peer.coefs_paths_[name] for name in peer.classes_], axis=-1)
    by_class = by_class.reshape(len(splits), len(inverse), -1, len(peer.classes_))
    gaps = []
    for fold, split in enumerate(splits):
        for number, each in enumerate(1 / (inverse * len(split))):
            coefficients = by_class[fold, number]
            found = objective(
                coefficients[:-1], coefficients[-1], features[split], labels[split], float(each)
            )
            least = path.objective[number, fold] * (1 - path.gap[number, fold])
            gaps.append(found / least - 1)
    return np.array(gaps)


def main() -> None:
    """Draws the features, lets both fit them, and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("examples", 5000), ("features", 1280), ("classes", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("strengths", 40), ("folds", 5), ("rounds", 3), ("peer_folds", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--tolerances", type=float, nargs="*", default=[DEFAULT, 1e-6])
    parser.add_argument("--exponents", type=float, nargs=2, default=[-4, 4])  # scikit-learn's own
    parser.add_argument("--doubles", action="store_true")
    parser.add_argument("--peer_threads", type=int)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's, that it has not converged
    features, labels = draw(options.examples, options.features, options.classes)
    low, high = options.exponents
    inverse = np.logspace(low, high, options.strengths)
    strengths = 1 / (inverse * options.examples * (1 - 1 / options.folds))
    print(f"{features.shape}, {options.classes} classes, {processor()}\n")
    print("| scikit-learn's | its seconds | jtl's | jtl is faster by | |\n|---|---|---|---|---|")
    ridge(features, labels, strengths, options)
    logistic(features, labels, strengths, options)


if __name__ == "__main__":
    main()

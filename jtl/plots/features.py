"""Features in two dimensions: do the domains lie on each other, and the classes apart?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jtl.plots.style import INK, SOURCE, TARGET, class_colours, new_figure, shorten, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 1000
NEIGHBOURS = 10
MARKERS = {"source": "o", "target": "^"}


class Domains(NamedTuple):
    """Features of held-out examples of both domains; the labels only colour the picture."""

    source: Float[np.ndarray, "source features"]
    source_labels: Int[np.ndarray, " source"]
    target: Float[np.ndarray, "target features"]
    target_labels: Int[np.ndarray, " target"]


@styled
def feature_map(
    stages: Mapping[str, Domains], classes: Sequence[str], *, seed: int = 0
) -> "Figure":
    """t-SNE of the features, before and after: by class above, by domain below.

    At most 1,000 examples (as many of each domain), reduced to 50 dimensions by PCA first. Below
    each, the share of the ten nearest neighbours, among all features, that are of the other
    domain: 50 % where the domains cannot be told apart, 0 % where they lie apart.

    Args:
      stages: features by name, such as "before" and "after"; the same examples in each.
      classes: names, in the order of the labels.
      seed: of the choice of examples and of t-SNE.
    """
    figure = new_figure(10, 8.1)
    grid = figure.subplots(2, len(stages), squeeze=False, height_ratios=[2.1, 1])
    for column, (stage, domains) in enumerate(stages.items()):
        few = _thin(domains, seed)
        positions = embed(np.concatenate([few.source, few.target]), seed=seed)
        source, target = np.split(positions, [len(few.source)])
        _by_class(grid[0, column], source, target, few, len(classes))
        _by_domain(grid[1, column], source, target, mixing(few.source, few.target))
        grid[0, column].set_title(stage[:1].upper() + stage[1:], fontsize=12)
    _legend(figure, classes)
    return figure


def embed(features: Float[np.ndarray, "examples features"], *, seed: int) -> np.ndarray:
    """Two dimensions by t-SNE on at most 50 principal components, scaled to [0, 1].

    The same seed gives the same picture.
    """
    from sklearn.decomposition import PCA  # late: scikit-learn takes 2.7 s to import
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features = np.asarray(features, np.float64)
    components = min(50, *features.shape)
    reduced = PCA(components, random_state=seed).fit_transform(features)
    perplexity = max(1.0, min(30.0, (len(features) - 1) / 3))
    settings = {"perplexity": perplexity, "init": "pca", "max_iter": 500, "random_state": seed}
    # Its OpenMP threads wait for each other some thousand times: on a machine with other work, two
    # of them take 31 s where one takes 5.
    with threadpool_limits(1):
        placed = TSNE(**settings).fit_transform(reduced)
    low, high = placed.min(0), placed.max(0)
    return (placed - low) / np.maximum(high - low, 1e-9)


def mixing(
    source: Float[np.ndarray, "source features"], target: Float[np.ndarray, "target features"]
) -> float:
    """Share of the nearest neighbours that are of the other domain, averaged over examples.

    The chance that a neighbour is of the other domain depends on how many there are of each:
    give as many of both, so that 0.5 means mixed and 0 apart.

    >>> mixing(np.zeros((9, 1)), np.ones((9, 1)))
    0.0
    """
    from sklearn.neighbors import NearestNeighbors

    both = np.concatenate([source, target])
    domain = np.arange(len(both)) < len(source)
    count = min(NEIGHBOURS, len(source) - 1, len(target) - 1)
    if count < 1:
        return float("nan")
    near = NearestNeighbors(n_neighbors=count).fit(both).kneighbors(return_distance=False)
    return float((domain[near] != domain[:, None]).mean())


def _thin(domains: Domains, seed: int) -> Domains:
    """As many examples of each domain, at most :data:`POINTS` in all."""
    count = min(len(domains.source), len(domains.target), POINTS // 2)
    generator = np.random.default_rng(seed)
    source = generator.permutation(len(domains.source))[:count]
    target = generator.permutation(len(domains.target))[:count]
    return Domains(
        domains.source[source],
        domains.source_labels[source],
        domains.target[target],
        domains.target_labels[target],
    )


def _by_class(
    axes: "Axes", source: np.ndarray, target: np.ndarray, domains: Domains, classes: int
) -> None:
    colours = np.array(class_colours(classes), dtype=object)
    _bare(axes)
    for points, labels, domain in (
        (source, domains.source_labels, "source"),
        (target, domains.target_labels, "target"),
    ):
        paint = [colours[label] for label in labels]
        pale = domain == "source"
        axes.scatter(
            *points.T,
            c=paint,
            marker=MARKERS[domain],
            s=20 if pale else 26,
            alpha=0.45 if pale else 0.95,
            linewidths=0 if pale else 0.4,
            edgecolors="none" if pale else "white",
        )


def _by_domain(axes: "Axes", source: np.ndarray, target: np.ndarray, share: float) -> None:
    _bare(axes)
    axes.set_box_aspect(1)
    axes.set_anchor("W")  # leaves the right half for words
    for points, colour in ((source, SOURCE), (target, TARGET)):
        axes.scatter(*points.T, s=7, alpha=0.6, color=colour, linewidths=0)
    said = [(0.9, "source", SOURCE), (0.78, "target", TARGET)]
    if np.isfinite(share):
        note = f"{100 * share:.0f} % of the nearest\nneighbours are of\nthe other domain"
        said.append((0.04, note, INK))
    for height, text, colour in said:
        words = axes.annotate(text, (1.06, height), xycoords="axes fraction", color=colour)
        words.set_in_layout(False)  # stands beside a panel that is narrower than its place


def _bare(axes: "Axes") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_facecolor("#fafbfc")
    axes.spines[:].set_visible(False)
    axes.margins(0.03)


def _legend(figure: "Figure", classes: Sequence[str]) -> None:
    """Classes by colour and domains by shape; classes past 20 are left out."""
    from matplotlib.lines import Line2D

    dots = [
        Line2D([], [], linestyle="", marker="s", markersize=7, color=colour)
        for colour in class_colours(len(classes))
    ]
    names = [shorten(name, 22) for name in classes]
    if len(classes) > 20:
        dots, names = [], []
    for domain, marker in MARKERS.items():
        dots.append(Line2D([], [], linestyle="", marker=marker, color="#555555"))
        names.append(domain)
    columns = 6 if max(map(len, names)) > 8 else 12
    figure.legend(dots, names, loc="outside lower center", ncols=columns, handletextpad=0.2)

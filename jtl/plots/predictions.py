"""What the predictions are: which classes are confused, and whether confidence is earned."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jtl.metrics import confusion_matrix, ece, reliability
from jtl.plots.style import (
    FAINT,
    INK,
    MUTED,
    domain_colour,
    new_figure,
    percent,
    shorten,
    styled,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Predicted = tuple[np.ndarray, np.ndarray]
"""Probabilities [examples, classes] and labels [examples] of a split."""


@styled
def confusion_matrices(splits: Mapping[str, Predicted], classes: Sequence[str]) -> "Figure":
    """One matrix a split: shades are shares of the row's class, numbers are counts.

    Past 20 classes the counts are left out, past 50 the names.

    Args:
      splits: probabilities and labels by name, such as "source_test" and "target_test".
      classes: names, in the order of the labels.
    """
    side = 5.0 if len(classes) <= 20 else 6.0
    longest = max(len(shorten(name, 22)) for name in classes)
    figure = new_figure(5.0 * len(splits), side * 0.72 + 0.072 * min(longest, 22))
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    images = [
        _confusion(axes, words(split), *predicted, classes)
        for axes, (split, predicted) in zip(panels, splits.items(), strict=True)
    ]
    panels[0].set_ylabel("label")
    bar = figure.colorbar(images[0], ax=panels, fraction=0.018, pad=0.012)
    bar.ax.yaxis.set_major_formatter(percent)
    bar.outline.set_visible(False)
    bar.set_label("share of the label's examples", color=MUTED)
    return figure


def _confusion(
    axes: "Axes", name: str, probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> "AxesImage":
    counts = confusion_matrix(probabilities, labels)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    axes.set_title(f"{name.capitalize()}: {100 * np.trace(counts) / counts.sum():.1f} % right")
    axes.set_xlabel("prediction")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if len(classes) <= 50:
        names = [shorten(text, 22) for text in classes]
        slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        flat = max(map(len, names)) <= 3
        axes.set_xticks(range(len(classes)), names, color=INK, **({} if flat else slant))
        axes.set_yticks(range(len(classes)), names, color=INK)
    if len(classes) <= 20:
        size = 9 if len(classes) <= 12 else 6.5
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.55 else INK
                axes.text(
                    column, row, str(count), ha="center", va="center", fontsize=size, color=colour
                )
    return image


@styled
def reliability_diagram(splits: Mapping[str, Predicted]) -> "Figure":
    """Accuracy against confidence, a panel for each split, with how many examples there are.

    Bars that end below the diagonal are overconfident. A bin with few examples is drawn paler.

    Args:
      splits: probabilities and labels by name.
    """
    figure = new_figure(4.6 * len(splits), 4.7)
    grid = figure.subplots(
        2, len(splits), sharex=True, sharey="row", squeeze=False, height_ratios=[4, 1]
    )
    for column, (split, predicted) in enumerate(splits.items()):
        _reliability(grid[0, column], grid[1, column], split, column, *predicted)
    grid[0, 0].set_ylabel("share right")
    grid[1, 0].set_ylabel("examples")
    return figure


def _reliability(
    above: "Axes",
    below: "Axes",
    split: str,
    position: int,
    probabilities: np.ndarray,
    labels: np.ndarray,
) -> None:
    bins = reliability(probabilities, labels)
    colour = domain_colour(split, position)
    width = bins.edges[1] - bins.edges[0]
    middle = bins.edges[:-1] + width / 2
    there = bins.counts > 0
    strength = np.where(bins.counts[there] >= 10, 0.85, 0.35)
    bars = above.bar(middle[there], bins.accuracy[there], width * 0.9, color=colour)
    for bar, alpha in zip(bars, strength, strict=True):
        bar.set_alpha(alpha)
    above.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    if position == 0:
        above.text(0.02, 0.97, "on the dashed line,\nconfidence is earned", color=MUTED, va="top")
    error = ece(probabilities, labels)
    above.set_title(f"{words(split).capitalize()}: calibration error {100 * error:.1f} %")
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    below.bar(middle, bins.counts, width * 0.9, color=colour, alpha=0.5)
    below.set_xlabel("confidence")
    below.axhline(0, color=FAINT, linewidth=0.8)
    below.set_xticks([0, 0.25, 0.5, 0.75, 1])
    for axes in (above, below):
        axes.xaxis.set_major_formatter(percent)
    above.yaxis.set_major_formatter(percent)

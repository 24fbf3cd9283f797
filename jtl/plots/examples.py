"""Examples with what the model said about them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jtl.plots.style import INK, MUTED, RIGHT, WRONG, new_figure, shorten, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6


@styled
def example_grid(
    images: Any,
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    wrong: int = 12,
    right: int = 6,
    seed: int = 0,
) -> "Figure":
    """The worst mistakes (wrong with the highest confidence) and some of the right ones.

    Of one class taken for one other, two are shown before others get their turn.

    Args:
      images: uint8 [examples, height, width, 1 or 3], or anything that gives example i as
        ``images[i]``.
      probabilities: [examples, classes].
      labels: [examples].
      classes: names, in the order of the labels.
      wrong: how many mistakes at most.
      right: how many right ones at most, drawn at random.
      seed: of that draw.
    """
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    mistakes = worst_mistakes(probabilities, labels)[:wrong]
    correct = np.flatnonzero(predictions == labels)
    correct = np.random.default_rng(seed).permutation(correct)[:right]
    sections = [
        (f"The worst mistakes (of {int((predictions != labels).sum()):,})", mistakes, WRONG),
        (f"Some of the {int((predictions == labels).sum()):,} right ones", correct, RIGHT),
    ]
    sections = [section for section in sections if len(section[1])]
    rows = [-(-len(chosen) // COLUMNS) for _, chosen, _ in sections]
    figure = new_figure(10, 2.15 * sum(rows) + 0.35 * len(rows))
    parts = figure.subfigures(len(sections), 1, squeeze=False, height_ratios=rows)[:, 0]
    for part, count, (title, chosen, colour) in zip(parts, rows, sections, strict=True):
        part.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=10.5)
        cells = part.subplots(count, COLUMNS, squeeze=False).ravel()
        for axes in cells:
            axes.axis("off")
        for axes, i in zip(cells, chosen, strict=False):  # the last row may be short
            _show(axes, np.asarray(images[i]))
            said = f"{shorten(classes[int(predictions[i])], 18)} {100 * confidence[i]:.0f} %"
            axes.set_title(said, color=colour, fontsize=8.5, loc="center", pad=14)
            if predictions[i] != labels[i]:
                truth = f"is {shorten(classes[int(labels[i])], 20)}"
                _below_title(axes, truth, INK)
            else:
                _below_title(axes, "right", MUTED)
    return figure


def worst_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The positions of the wrong predictions, the most confident first.

    Of one class taken for one other, two stand before others get their turn: one example in many
    copies says little.

    Args:
      probabilities: [examples, classes].
      labels: [examples].
    """
    predictions, classes = probabilities.argmax(1), probabilities.shape[1]
    mistakes = np.flatnonzero(predictions != labels)
    mistakes = mistakes[np.argsort(-probabilities.max(1)[mistakes], kind="stable")]
    kinds = labels * classes + predictions
    order = [
        np.sum(kinds[mistakes[:position]] == kinds[i]) // 2 for position, i in enumerate(mistakes)
    ]
    return mistakes[np.argsort(order, kind="stable")]


def _show(axes: "Axes", image: np.ndarray) -> None:
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.ndim == 2 else {}
    axes.imshow(image, interpolation="nearest", **grey)


def _below_title(axes: "Axes", text: str, colour: str) -> None:
    axes.annotate(
        text,
        (0.5, 1.0),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=colour,
    )

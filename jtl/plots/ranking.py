"""Scores of backbones before training, against the accuracy after it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jtl.plots.style import INK, MUTED, SERIES, new_figure, percent, styled, words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3


@styled
def scores_and_accuracy(
    scores: Mapping[str, Mapping[str, float]], accuracies: Mapping[str, float]
) -> "Figure":
    """A panel for each score, a dot for each backbone that has it.

    Args:
      scores: by score and backbone; higher is better.
      accuracies: that probes reach, by backbone.
    """
    shown = {score: by for score, by in scores.items() if by}
    marks = {name: str(number) for number, name in enumerate(accuracies, 1)}
    rows = -(-len(shown) // COLUMNS)
    figure = new_figure(10, 2.6 * rows + 0.6)
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    for axes, (score, by) in zip(panels.flat, shown.items(), strict=False):
        axes.set_title(words(score))
        axes.yaxis.set_major_formatter(percent)
        axes.margins(0.15)
        axes.scatter(by.values(), [accuracies[name] for name in by], s=36, color=SERIES[0])
        for name, value in by.items():
            axes.annotate(
                marks[name],
                (value, accuracies[name]),
                xytext=(6, 4),
                textcoords="offset points",
                fontsize=8.5,
                color=INK,
            )
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    for row in panels:
        row[0].set_ylabel("probe accuracy")
    legend = "     ".join(f"{mark}  {name}" for name, mark in marks.items())
    figure.supxlabel(legend, fontsize=8.5, color=MUTED)
    return figure

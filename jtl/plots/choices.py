"""What validators would have chosen, against what turned out to be best."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jtl.plots.style import INK, MUTED, TARGET, new_figure, percent, styled, words
from jtl.validators import choices

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def validator_choices(
    scores: Mapping[str, Sequence[float]], accuracies: Sequence[float], names: Sequence[str]
) -> "Figure":
    """The target accuracy that each validator would have got, below the oracle's.

    Args:
      scores: of every candidate, by validator; higher is better.
      accuracies: of every candidate on the target.
      names: of the candidates: "step 300", say.
    """
    chosen = sorted(choices(scores, accuracies).items(), key=lambda item: item[1].regret)
    figure = new_figure(10, 1.2 + 0.34 * (len(chosen) + 1))
    axes = figure.subplots()
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(percent)
    axes.set_xlabel("target accuracy")
    best = max(accuracies)
    axes.axvline(best, color=MUTED, linewidth=1)
    axes.scatter(accuracies, [0] * len(accuracies), s=12, color=MUTED, alpha=0.5, linewidths=0)
    for row, (_, choice) in enumerate(chosen, 1):
        axes.plot([choice.accuracy, best], [row, row], color=TARGET, linewidth=1.2, alpha=0.5)
        axes.scatter(choice.accuracy, row, s=36, color=TARGET)
        regret = f"regret {100 * choice.regret:.1f}" if choice.regret else "the best"
        axes.annotate(
            f"{names[choice.candidate]}, {regret}",
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=MUTED,
        )
    rows = ["all candidates", *(words(name) for name, _ in chosen)]
    axes.set_yticks(range(len(rows)), rows, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    return figure

"""What held-out examples say of each strength of a probe."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from jtl.plots.style import MUTED, SERIES, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Curve(NamedTuple):
    """Of one kind of probe.

    Attributes:
      strengths: that were tried.
      errors: on held-out examples; the least one chose.
      named: what these are.
      accuracies: on the same examples.
    """

    strengths: Float[np.ndarray, " strengths"]
    errors: Float[np.ndarray, " strengths"]
    named: str
    accuracies: Float[np.ndarray, " strengths"]


@styled
def strength_curves(curves: Mapping[str, Curve]) -> "Figure":
    """A column for each kind of probe: its error above, its accuracy below.

    Args:
      curves: by the name of the probe.
    """
    figure = new_figure(10, 4.6)
    panels = figure.subplots(2, len(curves), sharex="col", squeeze=False)
    for column, (name, curve) in zip(panels.T, curves.items(), strict=True):
        chosen = int(curve.errors.argmin())
        values = (curve.errors, curve.named), (curve.accuracies, "held-out accuracy")
        for axes, (heights, label) in zip(column, values, strict=True):
            axes.set_xscale("log")
            axes.set_ylabel(label)
            axes.plot(curve.strengths, heights, color=SERIES[0])
            axes.axvline(curve.strengths[chosen], color=MUTED, linewidth=1)
            axes.scatter(curve.strengths[chosen], heights[chosen], s=36, color=SERIES[0])
        column[0].set_title(name)
        column[1].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        column[1].set_xlabel("strength")
    return figure

"""What held-out examples say of each strength of a probe, and of each layer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from jtl.plots.style import MUTED, SERIES, new_figure, percent, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Curve(NamedTuple):
    """Of one kind of probe.

    Attributes:
      axis: what differs between fits: "strength" or "neighbours".
      tried: its values.
      errors: on held-out examples; the least one chose.
      named: what these are.
      accuracies: on the same examples.
    """

    axis: str
    tried: Float[np.ndarray, " tried"]
    errors: Float[np.ndarray, " tried"]
    named: str
    accuracies: Float[np.ndarray, " tried"]


@styled
def probe_curves(curves: Mapping[str, Curve]) -> "Figure":
    """A column for each kind of probe: its error above, its accuracy below.

    Args:
      curves: by the name of the probe.
    """
    figure = new_figure(4 + 3 * len(curves), 4.6)
    panels = figure.subplots(2, len(curves), sharex="col", squeeze=False)
    for column, (name, curve) in zip(panels.T, curves.items(), strict=True):
        chosen = int(curve.errors.argmin())
        values = (curve.errors, curve.named), (curve.accuracies, "held-out accuracy")
        for axes, (heights, label) in zip(column, values, strict=True):
            axes.set_xscale("log")
            axes.set_ylabel(label)
            axes.plot(curve.tried, heights, color=SERIES[0])
            axes.axvline(curve.tried[chosen], color=MUTED, linewidth=1)
            axes.scatter(curve.tried[chosen], heights[chosen], s=36, color=SERIES[0])
        column[0].set_title(name)
        column[1].yaxis.set_major_formatter(percent)
        column[1].set_xlabel(curve.axis)
    return figure


@styled
def layer_curves(layers: Sequence[str], accuracies: Mapping[str, Sequence[float]]) -> "Figure":
    """Held-out accuracy by layer, a line for each kind of probe.

    Args:
      layers: their names, in order.
      accuracies: of each layer, by the name of the probe.
    """
    figure = new_figure(10, 4.2)
    axes = figure.subplots()
    for (name, heights), color in zip(accuracies.items(), SERIES, strict=False):
        axes.plot(range(len(layers)), heights, color=color, marker="o", label=name)
    axes.set_xticks(range(len(layers)), layers, rotation=45, ha="right")
    axes.set_ylabel("held-out accuracy")
    axes.yaxis.set_major_formatter(percent)
    axes.legend()
    return figure

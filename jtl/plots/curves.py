"""Lines and dots: how training went, what labels buy, how methods compare."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jtl.plots.style import (
    INK,
    MUTED,
    SERIES,
    domain_colour,
    label_ends,
    new_figure,
    percent,
    styled,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCHEDULES = ("learning_rate", "strength", "progress", "weight", "examples_per_second")
"""Training values that are settings or speeds rather than losses: not drawn among the losses."""


@styled
def learning_curves(records: Iterable[Mapping[str, Any]]) -> "Figure":
    """Held-out accuracy by split on the left, the terms of the training loss on the right.

    Args:
      records: of metrics.jsonl: ``{"step", "split", "values"}``.
    """
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record["values"].items():
            curves.setdefault((record["split"], name), []).append((record["step"], value))
    held_out = {s: points for (s, n), points in curves.items() if s != "train" and n == "accuracy"}
    shares = {n: p for (s, n), p in curves.items() if s == "train" and n.endswith("accuracy")}
    terms = {
        name: points
        for (split, name), points in curves.items()
        if split == "train" and name not in shares and not name.startswith(SCHEDULES)
    }
    figure = new_figure(10, 3.7)
    left, right = figure.subplots(1, 2)
    _held_out_panel(left, held_out)
    _terms_panel(right, terms)
    return figure


def _held_out_panel(axes: "Axes", curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    axes.set_title("Accuracy on held-out examples")
    axes.set_xlabel("step")
    ends = []
    for position, (split, points) in enumerate(curves.items()):
        steps, values = np.array(points).T
        colour = domain_colour(split, position)
        axes.plot(steps, values, color=colour, marker="o", markersize=3.2)
        last = f"{words(split)} {100 * values[-1]:.1f} %"
        ends.append((steps[-1], values[-1], last, colour))
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(percent)
    label_ends(axes, ends, gap=0.07)


def _terms_panel(axes: "Axes", curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    axes.set_title("Losses on training batches")
    axes.set_xlabel("step")
    ends = []
    for position, (name, points) in enumerate(curves.items()):
        steps, values = np.array(points, float).T
        colour = SERIES[position % len(SERIES)]
        smooth = _smooth(values)
        axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.9)
        axes.plot(steps, smooth, color=colour, marker="o" if len(steps) == 1 else "")
        ends.append((steps[-1], smooth[-1], f"{words(name)} {smooth[-1]:.3g}", colour))
    finite = [v for points in curves.values() for _, v in points if np.isfinite(v)]
    if finite and min(finite) >= 0:
        # a few spikes at the start must not flatten the rest
        axes.set_ylim(0, max(1.05 * np.percentile(finite, 99), 1e-6))
    label_ends(axes, [end for end in ends if np.isfinite(end[1])], gap=0.07)


@styled
def interpolation_curve(curve: Sequence[Mapping[str, Any]]) -> "Figure":
    """Accuracy on the way from the start to the end of training, with 95 % intervals.

    Args:
      curve: ``{"fraction", "source_test", "target_test"}`` in order, the last two as in
        summary.json, and absent where a run has none.
    """
    figure = new_figure(8, 3.7)
    axes = figure.subplots()
    splits = [name for name in curve[0] if name != "fraction"]
    fractions = [point["fraction"] for point in curve]
    ends = []
    for position, split in enumerate(splits):
        colour = domain_colour(split, position)
        value, low, high = (
            [point[split]["accuracy"][key] for point in curve] for key in ("value", "low", "high")
        )
        axes.fill_between(fractions, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(fractions, value, color=colour, marker="o", markersize=4)
        last = f"{words(split)} {100 * value[-1]:.1f} %"
        ends.append((fractions[-1], value[-1], last, colour))
    axes.set_title("Accuracy on held-out examples")
    axes.set_xlabel("from the start (0) to the end (1) of training")
    axes.yaxis.set_major_formatter(percent)
    label_ends(axes, ends, gap=0.07)
    return figure


@styled
def accuracy_by_shots(results: Mapping[str, Mapping[int, Sequence[float]]]) -> "Figure":
    """Accuracy against labels a class: mean and standard deviation, each seed a faint dot.

    Args:
      results: accuracies over seeds, by method and number of labels a class.
    """
    figure = new_figure(8, 4.4)
    axes = figure.subplots()
    shots = sorted({k for by_shots in results.values() for k in by_shots})
    ends = []
    for position, (method, by_shots) in enumerate(results.items()):
        colour = SERIES[position % len(SERIES)]
        # methods at the same number of labels stand side by side rather than on each other
        shift = 1.035 ** (position - (len(results) - 1) / 2)
        at = [k for k in shots if k in by_shots]
        means = [float(np.mean(by_shots[k])) for k in at]
        spread = [_deviation(by_shots[k]) for k in at]
        x = np.array(at) * shift
        axes.errorbar(x, means, yerr=spread, color=colour, marker="o", markersize=5, capsize=0)
        for k, place in zip(at, x, strict=True):
            axes.scatter([place] * len(by_shots[k]), by_shots[k], s=9, color=colour, alpha=0.3)
        ends.append((x[-1], means[-1], words(method), colour))
    axes.set_xscale("log")
    axes.set_xticks(shots, [str(k) for k in shots])
    axes.minorticks_off()
    axes.set_xlabel("labels a class")
    axes.set_title("Accuracy on held-out target examples")
    axes.yaxis.set_major_formatter(percent)
    label_ends(axes, ends, gap=0.06)
    return figure


@styled
def method_comparison(
    results: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    baseline: str = "",
    oracles: Collection[str] = (),
    domain: str = "target",
) -> "Figure":
    """Accuracy by method, a panel for each task: mean, standard deviation, seeds.

    Args:
      results: accuracies over seeds, by task and method.
      baseline: the method that the others have to beat: a line goes through its mean.
      oracles: methods that saw target labels; drawn hollow and named so.
      domain: that the accuracies are of.
    """
    methods = list(dict.fromkeys(method for by in results.values() for method in by))
    figure = new_figure(10, 1.3 + 0.48 * len(methods))
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (task, by_method) in zip(panels, results.items(), strict=True):
        axes.set_title(task.replace(", ", "\n"))
        axes.margins(x=0.3)  # for the numbers of the outermost
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(percent)
        axes.set_xlabel(f"{domain} accuracy")
        if baseline in by_method:
            axes.axvline(float(np.mean(by_method[baseline])), color=MUTED, alpha=0.4, zorder=0)
        for row, method in enumerate(methods):
            if method in by_method:
                _comparison_row(axes, row, by_method[method], method in oracles)
    names = [words(name) + (" (oracle)" if name in oracles else "") for name in methods]
    panels[0].set_yticks(range(len(methods)), names, color=INK)
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    return figure


def _comparison_row(axes: "Axes", row: int, values: Sequence[float], oracle: bool) -> None:
    colour = MUTED if oracle else SERIES[0]
    mean, spread = float(np.mean(values)), _deviation(values)
    axes.scatter(values, [row + 0.24] * len(values), s=9, color=colour, alpha=0.45, linewidths=0)
    face = "white" if oracle else colour
    axes.errorbar(mean, row, xerr=spread, color=colour, marker="o", markersize=7, mfc=face)
    spread_text = f" ± {100 * spread:.1f}" if len(values) > 1 else ""
    axes.annotate(
        f"{100 * mean:.1f}{spread_text}",
        (mean, row),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=colour,
    )


def _deviation(values: Sequence[float]) -> float:
    """The sample's standard deviation; none with one seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a fortieth of the points: centred, narrow at the steep start, cut at the end."""
    half = len(values) // 80
    if not half:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first = index - np.minimum(half, index)
    last = np.minimum(index + np.minimum(half, index), len(values) - 1)
    return (sums[last + 1] - sums[first]) / (last + 1 - first)

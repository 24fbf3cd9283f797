"""One look for every picture: colours that a colour-blind reader can tell apart, little ink."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE, TARGET = "#0072B2", "#D55E00"
RIGHT, WRONG = "#1b7f4d", "#b3261e"
INK, MUTED, FAINT = "#1f2933", "#66707a", "#e4e7eb"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4d4d4d")
"""Lines and dots, in order (Okabe and Ito)."""
CLASSES = (
    "#332288",
    "#DDAA33",
    "#CC6677",
    "#117733",
    "#88CCEE",
    "#AA4499",
    "#999933",
    "#882255",
    "#44AA99",
    "#777777",
)
"""Classes, in order (Tol, muted)."""
DOMAINS = {"source": SOURCE, "target": TARGET}

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be named "$5"
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.edgecolor": "#b8bfc6",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "figure.dpi": 100,
}

P = ParamSpec("P")


def styled(draw: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """Draws with :data:`STYLE`, leaving the user's own matplotlib settings alone."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib  # late: it costs more than a second of every start

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches; a report shows ten inches as its full width."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))


def class_colours(classes: int) -> list[Any]:
    """One colour a class: the palette, or steps of a colour map where it is too short."""
    if classes <= len(CLASSES):
        return list(CLASSES[:classes])
    import matplotlib

    return list(matplotlib.colormaps["turbo"](np.linspace(0.03, 0.97, classes)))


def domain_colour(split: str, position: int) -> str:
    """The colour of the domain that a split's name starts with, or the next free one."""
    return DOMAINS.get(split.split("_")[0], SERIES[2 + position % (len(SERIES) - 2)])


def words(name: str) -> str:
    """A name as text.

    >>> words("target_test")
    'target test'
    """
    return name.replace("_", " ")


def percent(share: float, _: object) -> str:
    """What stands beside a line of a grid, whose step may be half a percent.

    >>> percent(0.725, None)
    '72.5 %'
    """
    return f"{round(100 * share, 6):g} %"


def shorten(text: str, width: int) -> str:
    """Cuts a text, showing that it was cut.

    >>> shorten("Smileys & Emotion", 10)
    'Smileys &…'
    """
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def label_ends(axes: "Axes", ends: Sequence[tuple[float, float, str, str]], gap: float) -> None:
    """Writes each line's name beside its end, moved apart where they would overlap.

    Args:
      axes: with its limits set; names stand to the right of it.
      ends: (x, y, text, colour) of each line's last point.
      gap: the least distance between names, as a share of the height.
    """
    low, high = axes.get_ylim()
    span = high - low
    order = sorted(range(len(ends)), key=lambda i: ends[i][1])
    heights = [(ends[i][1] - low) / span for i in order]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    overflow = max(0.0, heights[-1] - 1) if heights else 0.0
    for i in reversed(range(len(heights))):  # what was pushed over the top comes down again
        ceiling = heights[i + 1] - gap if i + 1 < len(heights) else heights[-1] - overflow
        heights[i] = min(heights[i], ceiling)
    for i, height in zip(order, heights, strict=True):
        _, _, text, colour = ends[i]
        axes.annotate(
            text,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9,
            annotation_clip=False,
        )

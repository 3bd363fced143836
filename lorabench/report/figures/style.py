"""The figures' look: small type that ships with matplotlib, and series that differ in shape and line before colour.

Nothing here touches matplotlib's global settings but `styled`, which puts them back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from lorabench.analysis import number
from lorabench.analysis.inference import FEWEST, Estimate

WIDTH = 6.8
"""Inches: a page's text width."""

INK, PALE = "#1a1a1a", "#8a8a8a"
COLOURS = ("#000000", "#d55e00", "#0072b2", "#cc79a7", "#009e73", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind readers tell apart, the darkest first."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

_SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "figure.dpi": 300,
    "figure.titlesize": 9.5,
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "lorabench",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": 7.5,
    "ytick.major.width": 0.6,
}


@contextlib.contextmanager
def styled() -> Generator[None]:
    """matplotlib's own defaults with our look, whatever the user's matplotlibrc says, until the block ends."""
    with matplotlib.style.context(["default", _SETTINGS]):
        yield


def series_look(index: int) -> dict[str, Any]:
    """Colour, line and marker of a figure's series, as `plot` takes them."""
    kinds = {"color": COLOURS, "linestyle": LINES, "marker": MARKERS}
    return {name: kind[index % len(kind)] for name, kind in kinds.items()}


def short(label: str, most: int = 40) -> str:
    """A label cut after `most` characters: a longer one leaves no room for what is drawn, and each is an outline."""
    return label if len(label) <= most else f"{label[:most]}…"


def canvas(height: float, title: str, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def caption(figure: Figure, text: str) -> None:
    """What the reader must know, below everything."""
    figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color="#555555")


def over(counts: Iterable[int]) -> str:
    """`mean over n = 5 seeds; bars: 95% t interval over trainings`, of estimates of so many values each."""
    seeds = sorted(set(counts))
    if seeds[-1] < FEWEST:
        return f"{number.ranges(seeds)} seed{'' if seeds == [1] else 's'}, so no interval"
    return f"mean over n = {number.ranges(seeds)} seeds; bars: 95% t interval over trainings"


def bar(estimate: Estimate) -> tuple[list[float], list[float]] | None:
    """How far the interval reaches below and above the mean, as `errorbar` takes it; None without one."""
    if estimate.low is None or estimate.high is None:
        return None
    return [estimate.mean - estimate.low], [estimate.high - estimate.mean]


def marks(axis: Axis, at: Sequence[float]) -> None:
    """Ticks at these values alone, written as whole numbers."""
    axis.set_major_locator(FixedLocator(at))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def logarithmic(axis: Axis) -> None:
    """A logarithmic scale whose ticks are plain numbers: 1, 2, 5, 10, or where it is long, 1, 10, 100."""
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    subs = (1, 1.5, 2, 3, 5, 7) if high < 12 * low else (1, 2, 5) if high < 90 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def base_line(axes: Axes, base: Estimate) -> None:
    """The base's accuracy in percent as a line, named at its right end."""
    axes.axhline(base.mean, color=PALE, linestyle=(0, (1, 1.5)), linewidth=1.2, zorder=1.2)
    axes.annotate(
        f"base\n{number.decimal(base.mean)}",
        (1, base.mean),
        (3, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color="#555555",
    )


def limits(estimates: Sequence[Estimate], *, least: float, extra: Sequence[float] = ()) -> tuple[float, float]:
    """The ends of an axis for all `estimates`, their intervals and the values `extra`, at least `least` long."""
    shown = [*extra, *(end for e in estimates for end in (e.mean, e.low, e.high) if end is not None)]
    low, high = min(shown), max(shown)
    spare = max(0, least - (high - low)) / 2 + 0.06 * max(high - low, least)
    return low - spare, high + spare

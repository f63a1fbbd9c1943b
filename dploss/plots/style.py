"""How every figure looks: colours, fonts, log axes with ticks to read. Saving it, and a window where one can open."""

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

from dploss.errors import InputError
from dploss.experiments.history import PCA, PCA_INT8, PCA_PQ, PCA_RENORMALISED, START
from dploss.files.atomic import atomic_write, check_writable
from dploss.files.given import expanded

FORMATS = ("png", "pdf", "svg")
DPI = 150

# Okabe & Ito, "Color Universal Design" (2008): colour-blind readers can distinguish them too. Yellow is left out: it
# fades on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("", "o", "s", "^", "x")
# A curve that changes by less than this share of its height is drawn flat.
_FLAT = 1e-3
_HATCHES = ("", "///", "...", "xx")

# Fonts with Korean, Chinese and Japanese letters, for names of files; those that are installed are used.
_CJK_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo")

STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    # Text of a pdf stays text.
    "pdf.fonttype": 42,
    # A dollar in the name of a file is a dollar.
    "text.parse_math": False,
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    plt.style.use(STYLE)
    plt.rcParams["font.family"] = _with_fallbacks("DejaVu Sans")
    return plt.figure(figsize=(width, height), dpi=DPI)


def monospace() -> list[str]:
    """The font family of tables."""
    return _with_fallbacks("DejaVu Sans Mono")


def _with_fallbacks(font: str) -> list[str]:
    # By name: of a generic family, "sans-serif", matplotlib takes one font and no fallbacks.
    installed = set(font_manager.get_font_names())
    return [font, *(name for name in _CJK_FONTS if name in installed)]


def line_style(place: int) -> Mapping[str, Any]:
    """How to draw the line of the place-th of several runs: 140 of them differ, the first 28 without markers."""
    colour, dash, marker = place, place // len(COLOURS), place // (len(COLOURS) * len(_DASHES))
    return {
        "color": COLOURS[colour % len(COLOURS)],
        "linestyle": _DASHES[dash % len(_DASHES)],
        "marker": _MARKERS[marker % len(_MARKERS)],
        "markevery": 0.1,
        "markersize": 4,
    }


def bar_style(place: int) -> Mapping[str, Any]:
    """The bar of the same run: its colour, hatched as its line is dashed."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "hatch": _HATCHES[place // len(COLOURS) % len(_HATCHES)],
        "edgecolor": "white",
        "linewidth": 0,
    }


def baseline_style(name: str) -> Mapping[str, Any]:
    """How to draw the level of a baseline, one of `dploss.experiments.history.BASELINES`."""
    colour, dash = {
        START: (2, (0, (1, 1.5))),
        PCA_RENORMALISED: (3, (0, (6, 3))),
        PCA: (1, (0, (3, 2, 1, 2))),
        PCA_INT8: (1, (0, (3, 2, 1, 2, 1, 2))),
        PCA_PQ: (3, (0, (6, 2, 1, 2))),
    }[name]
    return {"color": COLOURS[colour], "linestyle": dash, "linewidth": 1.3}


def legend_below(axes: Axes, fontsize: float) -> None:
    """A legend at the lower right; the y axis reaches down so far that nothing drawn yet is behind it."""
    legend = axes.legend(loc="lower right", fontsize=fontsize, borderaxespad=0.3)
    share = min(legend.get_window_extent().height / axes.bbox.height + 0.06, 0.7)
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.asarray(axes.get_ylim()))
    (lower,) = scale.inverted().transform(np.array([high - (high - low) / (1 - share)]))
    # So far down that nothing is there, on a log axis.
    axes.set_ylim(bottom=max(lower, sys.float_info.min) if axes.get_yscale() == "log" else lower)


def log_scale(axes: Axes, values: Sequence[float]) -> None:
    """Make the y axis logarithmic for these values, in a way that zeros (and values below) still have a place.

    Where there are any, the axis is linear between zero and the smallest of the others (matplotlib's "symlog").
    """
    known = np.asarray(values, float)
    sizes = np.abs(known[np.isfinite(known) & (known != 0)])
    if not len(sizes):
        return
    if sizes.max() < sizes.min() * (1 + _FLAT) and (known > 0).all():
        axes.set_ylim(sizes.min() * (1 - _FLAT), sizes.max() * (1 + _FLAT))
    if (known <= 0).any():
        axes.set_yscale("symlog", linthresh=sizes.min())
    else:
        axes.set_yscale("log")
    axes.yaxis.set_major_locator(_ReadableLocator(sizes.min()))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick_text))
    wide = sizes.max() >= 10 * sizes.min()
    axes.yaxis.set_minor_locator(LogLocator(subs=range(2, 10)) if wide and (known > 0).all() else NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


class _ReadableLocator(Locator):
    """Decades; where fewer than three are in sight, a few digits of each; in a narrower view, round numbers."""

    def __init__(self, smallest: float) -> None:
        self.smallest = smallest

    def __call__(self) -> list[float]:
        assert self.axis is not None, "set_major_locator sets it"
        low, high = self.axis.get_view_interval()
        return self.tick_values(low, high)

    def tick_values(self, low: float, high: float) -> list[float]:
        """The ticks of a view."""
        low, high = min(low, high), max(low, high)
        above = _log_ticks(low if low > 0 else self.smallest, high) if high > 0 else []
        below = [-tick for tick in _log_ticks(-high if high < 0 else self.smallest, -low)] if low < 0 else []
        if above and below:
            # Both signs share the height: one tick for every power of ten, or one in all.
            above, below = _only_powers(above), _only_powers(below)
        return [*below, *([0.0] if low <= 0 <= high else []), *above]


def _log_ticks(low: float, high: float) -> list[float]:
    if not low < high:
        return [low] if low == high else []
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(decades) > 2:
        return decades[:: math.ceil(len(decades) / 7)]
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        few = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(few) > 2:
            return few
    for most in (5, 8, 12):
        ticks = [tick for tick in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]
        if len(ticks) > 2:
            break
    return ticks


def _only_powers(ticks: list[float]) -> list[float]:
    return [tick for tick in ticks if math.log10(abs(tick)).is_integer()] or ticks[-1:]


def _tick_text(value: float, place: int | None = None) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def figure_path(path: str | Path) -> Path:
    """Where a figure may be saved.

    Raises:
        InputError: no folder there, one that cannot be written, or a format other than .png, .pdf or .svg.
    """
    path = expanded(path)
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise InputError(f"{path}: a figure's name ends in {', '.join('.' + name for name in FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: no folder {path.parent} to save it in")
    check_writable(path.parent)
    return path


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of its suffix; an old file is replaced atomically."""
    with warnings.catch_warnings(record=True) as caught, atomic_write(path) as file:
        warnings.simplefilter("always")
        figure.savefig(file, format=path.suffix.lower().lstrip("."), dpi=DPI)
    if any("Glyph" in str(warning.message) for warning in caught):
        print(f"{path}: no font for some of its letters; install one that has them", file=sys.stderr)


def show(figure: Figure) -> None:
    """Open a window, where a person sits at a screen; and close the figure."""
    if figure.canvas.required_interactive_framework and sys.stdout.isatty():
        plt.show()
    plt.close(figure)

"""The measures of quality.py, and its report: a Markdown table, and a figure with two panels per data set."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, PercentFormatter
from quality_methods import METHODS, OURS, TRAINED, UNTRAINED
from torch import Tensor

from dploss.evaluation.recall import RecallEvaluator
from dploss.experiments.history import PCA_RENORMALISED
from dploss.plots.style import COLOURS, line_style, new_figure
from dploss.text import MISSING, number

KS = (1, 10, 100)
DEPTH = 10
NDCG = f"NDCG@{DEPTH}"
MEASURES = (*(f"recall@{k}" for k in KS), NDCG)

# The measures of one encoder, or the error that it failed with.
Entry = Mapping[str, Any]
# Lower shares are not drawn: they would compress the axis.
_LEAST = -0.12


def measure(original: np.ndarray, latent: np.ndarray) -> dict[str, float]:
    """How well latents preserve neighbours; distances are Euclidean, no row is its own neighbour.

    Args:
        original: (N, D) rows, N above 100.
        latent: (N, d) latents of the same rows.

    Returns:
        recall@1, @10 and @100 (see RecallEvaluator), and NDCG@10 (see `ndcg`).

    Raises:
        ValueError: latents are not finite, or differ from the rows in number.
    """
    evaluator = RecallEvaluator(num_samples=len(original))
    recalls = evaluator.evaluate_reranked(original, latent, [(k, k) for k in KS])
    order = ndcg(nearest(original, DEPTH), nearest(latent, DEPTH))
    return {f"recall@{recall.k}": recall.value for recall in recalls} | {NDCG: order}


def nearest(rows: np.ndarray, k: int) -> Tensor:
    """(N, k) indices of each row's nearest other rows, nearest first; ties in any order."""
    rows = torch.from_numpy(np.asarray(rows, np.float64))
    return torch.cdist(rows, rows).fill_diagonal_(math.inf).topk(k, largest=False).indices


def ndcg(true: Tensor, found: Tensor) -> float:
    """Normalised discounted cumulative gain: are the nearest found, and in order?

    The relevance of a row's j-th true neighbour is k + 1 - j (10 for the nearest, 1 for the tenth), of any other row 0.
    DCG = sum over positions p = 1..k of the relevance of the row found there / log2(p + 1). NDCG is DCG divided by
    that of the true order, 0 to 1. Järvelin & Kekäläinen 2002.

    Args:
        true: (N, k) indices of the true neighbours, nearest first.
        found: (N, k) indices of those found, nearest first.

    Returns:
        The mean over the rows.
    """
    k = true.shape[1]
    relevance = torch.arange(k, 0, -1, dtype=torch.float64)
    discounts = 1 / torch.arange(2, k + 2, dtype=torch.float64).log2()
    gained = (found[:, :, None] == true[:, None, :]).double() @ relevance
    return ((gained @ discounts) / (relevance @ discounts)).mean().item()


@dataclass(frozen=True)
class Summary:
    """One method at one size, over the seeds.

    Attributes:
        mean: of the measure R.
        spread: half its range.
        recovered: share of what renormalised PCA loses that the method recovers, the mean of (R - R_pca) / (1 - R_pca);
            None where PCA was not measured, or loses nothing.
        recovered_spread: half the range of these shares.
    """

    mean: float
    spread: float
    recovered: float | None
    recovered_spread: float


def summaries(entries: Sequence[Entry], data: str, name: str) -> dict[str, dict[int, Summary | None]]:
    """A measure by method, in the order of METHODS, and by size, from small to large; None where all seeds failed."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for method in METHODS:
        for entry in sorted(entries, key=itemgetter("size")):
            if entry["data"] == data and entry["method"] == method:
                by_seed = found.setdefault(method, {}).setdefault(entry["size"], {})
                if name in entry:
                    by_seed[entry["seed"]] = entry[name]
    return {
        method: {
            size: _summary(by_seed, found.get(PCA_RENORMALISED, {}).get(size, {})) for size, by_seed in by_size.items()
        }
        for method, by_size in found.items()
    }


def _summary(by_seed: Mapping[int, float], pca: Mapping[int, float]) -> Summary | None:
    if not by_seed:
        return None
    shares = [(by_seed[seed] - pca[seed]) / (1 - pca[seed]) for seed in by_seed if pca.get(seed, 1) < 1]
    recovered = fmean(shares) if shares else None
    return Summary(fmean(by_seed.values()), _half_range([*by_seed.values()]), recovered, _half_range(shares))


def _half_range(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / 2 if values else 0.0


def tables(results: Mapping[str, Any], name: str) -> list[str]:
    """Lines of Markdown: a table of methods by sizes for each data set.

    Args:
        results: the content of the results file.
        name: the measure.
    """
    entries = results["entries"]
    lines = [results["machine"]]
    for data in results["data"]:
        methods = summaries(entries, data["name"], name)
        sizes = _sizes(methods)
        seeds = len({entry["seed"] for entry in entries if entry["data"] == data["name"]})
        spread = f", the mean of {seeds} seeds ± half their range" if seeds > 1 else ""
        lines += [
            "",
            f"**{data['name']}**: {data['rows']:,} rows of {data['dim']} dimensions, {data['held_out']:,} of them held "
            f"out; {name}{spread}, and the share of what renormalised PCA loses that is recovered.",
            "",
            "| method | " + " | ".join(map(str, sizes)) + " | seconds |",
            "|---|" + "---|" * (len(sizes) + 1),
        ]
        best = {size: max((one[size].mean for one in methods.values() if one.get(size)), default=0) for size in sizes}
        for method, by_size in methods.items():
            cells = [_cell(by_size[size], best[size]) if size in by_size else MISSING for size in sizes]
            taken = [one["seconds"] for one in entries if (one["data"], one["method"]) == (data["name"], method)]
            cells.append(number(fmean(taken), ".1f") if taken else MISSING)
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    threads = " or ".join(map(str, sorted({entry["threads"] for entry in entries})))
    lines += ["", f"Seconds of the fit, mean over sizes and seeds; torch threads: {threads}."]
    failures = {f"{entry['method']}: {entry['error']}": None for entry in entries if "error" in entry}
    return lines + [f"Failed: {failure}" for failure in failures]


def _sizes(methods: Mapping[str, Mapping[int, Any]]) -> list[int]:
    return sorted({size for by_size in methods.values() for size in by_size})


def _cell(one: Summary | None, best: float) -> str:
    if one is None:
        return "failed"
    text = f"**{one.mean:.3f}**" if one.mean == best else f"{one.mean:.3f}"
    if one.spread:
        text += f" ± {one.spread:.3f}"
    if not one.recovered:  # unknown, or renormalised PCA itself
        return text
    # Without + 0 a share could round to -0%.
    return f"{text}, {round(one.recovered, 2) + 0:.0%}"


def draw_figure(results: Mapping[str, Any], name: str) -> Figure:
    """For each data set the measure against the size, and below it the share of renormalised PCA's loss recovered.

    Args:
        results: the content of the results file.
        name: the measure.
    """
    panels = results["data"]
    figure = new_figure(2.6 + 4.6 * len(panels), 8.4)
    figure.set_layout_engine("constrained")
    drawn: dict[str, Line2D] = {}
    for (above, below), data in zip(figure.subplots(2, len(panels), squeeze=False).T, panels, strict=True):
        methods = summaries(results["entries"], data["name"], name)
        drawn |= _curves(above, methods, lambda one: (one.mean, one.spread))
        drawn |= _curves(below, methods, lambda one: (one.recovered, one.recovered_spread))
        above.set(title=f"{data['name']}, {data['dim']} dimensions", ylabel=f"held-out {name}")
        shares = [one.recovered for by_size in methods.values() for one in by_size.values() if one and one.recovered]
        below.set(
            ylabel="recovered of what renormalised PCA loses",
            ylim=(_LEAST, max(shares, default=0) + 0.1),
        )
        below.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    shown = [method for method in (*OURS, *UNTRAINED, *TRAINED) if method in drawn]
    figure.legend([drawn[method] for method in shown], shown, loc="outside right center", handlelength=3.5)
    if len({entry["seed"] for entry in results["entries"]}) > 1:
        figure.supxlabel("points: the mean over the seeds; bars: ± half their range", size=9)
    return figure


def _curves(
    axes: Axes,
    methods: Mapping[str, Mapping[int, Summary | None]],
    height: Callable[[Summary], tuple[float | None, float]],
) -> dict[str, Line2D]:
    """Draw a line per method, ours solid, untrained baselines dashed, trained ones dotted; and its heights' spreads."""
    drawn = {}
    for method, by_size in methods.items():
        points = [(size, *height(one)) for size, one in by_size.items() if one and height(one)[0] is not None]
        if points:
            sizes, heights, spreads = zip(*points, strict=True)
            group = next(place for place, names in enumerate((OURS, UNTRAINED, TRAINED)) if method in names)
            place = list((OURS, UNTRAINED, TRAINED)[group]).index(method)
            # Shifted, so that the last of ours and renormalised PCA differ in colour too.
            shifted = (place + 2 * group) % len(COLOURS)
            style = line_style(group * len(COLOURS) + shifted) | {"marker": "os^"[group], "markevery": None}
            (drawn[method],) = axes.plot(sizes, heights, **style)
            # Of one seed nothing is known, not that it is exact.
            bars = [spread or math.nan for spread in spreads]
            axes.errorbar(sizes, heights, bars, fmt="none", ecolor=style["color"], elinewidth=1, capsize=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(_sizes(methods), map(str, _sizes(methods)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("dimensions of a latent (log scale)")
    return drawn

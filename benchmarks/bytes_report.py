"""Tables and figure of what benchmarks/bytes.py measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bytes_methods import METHODS
from bytes_search import K
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dploss.codes.build import CODES

LIMIT, RERANK = "limit", 5
_BEGIN, _END = "<!-- tables -->\n", "<!-- end of tables -->"
_COSTS = {"fit_seconds": ",.1f", "rows_per_second": ",.0f", "queries_per_second": ",.0f", "model_bytes": ",.0f"}
_SETS = {"wordnet_minilm_384_100k": "wordnet_minilm_384_100k, 55,000 stored"}
_LABELS = {
    "trained": "`trellis`, trained",
    "trained int8": "`int8`, trained",
    "trained binary": "`binary`, trained, float queries",
    "trained binary, Hamming": "`binary`, trained, Hamming distance",
    "trellis": "`trellis`, closed form (default)",
    "pq": "`pq`, for FAISS",
    "binary": "`binary`, float queries",
    "binary, Hamming": "`binary`, Hamming distance",
    "PCA, signs": "signs of PCA, float queries",
    "PCA, signs, Hamming": "signs of PCA, Hamming distance",
    "PCA, 4 bits": "PCA, renormalised, 4 bits",
    "PCA, 6 bits": "PCA, renormalised, 6 bits",
    "PCA, 8 bits": "PCA, renormalised, 8 bits",
    LIMIT: "Gaussian limit of squared error",
}
_COLOURS = colormaps["tab20"]
# Drawn as one line, the best of them at every size.
_FAMILIES = {
    "float16, int8, int4": ("float16", "int8", "int4"),
    "OPQ, the norm restored or not": ("OPQ",),
    "RaBitQ, 1 to 4 bits": ("RaBitQ", "rabitqlib"),
    "TurboQuant, 2 to 4 bits": ("TurboQuant", "turbovec"),
    "EDEN, 2 to 4 bits": ("EDEN",),
    "ASH, 1 to 4 bits": ("ASH",),
    "int8, trained": ("trained int8",),
    "binary, trained, float queries or Hamming": ("trained binary",),
    "trellis, trained": ("trained",),
    "binary, float queries or Hamming": ("binary",),
    "signs of PCA": ("PCA, signs",),
    "PCA, 4 to 8 bits": ("PCA",),
    "RQ": ("RQ",),
}


def mean_of(entries: Sequence[dict[str, Any]], data: str, method: str, n_bytes: int, key: str) -> float | None:
    """Mean over the seeds; None where nothing was measured."""
    values = [
        one[key]
        for one in entries
        if (one["data"], one["method"], one["bytes"]) == (data, method, n_bytes) and key in one
    ]
    return sum(values) / len(values) if values else None


def tables(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown for every set: recall@10 by method and bytes, single pass and re-ranked; and the costs at 64 bytes."""
    lines = []
    for data in dict.fromkeys(one["data"] for one in entries):
        name_of_set = _SETS.get(data, data)
        own = [one for one in entries if one["data"] == data]
        sizes = sorted({one["bytes"] for one in own})
        methods = [name for name in (*METHODS, LIMIT) if any(one["method"] == name for one in own)]
        for key, title in (("recall", f"recall@{K}"), ("reranked", f"recall@{K}, {K * RERANK} candidates re-ranked")):
            cells = {name: [_cell(mean_of(own, data, name, size, key)) for size in sizes] for name in methods}
            lines += [f"{name_of_set}: {title}", "", *_table([f"{size} bytes" for size in sizes], cells), ""]
        cells = {
            name: [_cell(mean_of(own, data, name, 64, key), form) for key, form in _COSTS.items()] for name in methods
        }
        lines += [
            f"{_SETS.get(data, data)}: costs at 64 bytes",
            "",
            *_table([key.replace("_", " ") for key in _COSTS], cells),
            "",
        ]
    return lines


def write_into(docs: Path, lines: Sequence[str]) -> None:
    """Put the tables between the marks of a Markdown file."""
    before, _, after = docs.read_text(encoding="utf-8").partition(_BEGIN)
    _, mark, after = after.partition(_END)
    text = "\n".join([before + _BEGIN, *lines])
    docs.write_text(f"{text}{mark}{after}", encoding="utf-8")


def _table(columns: Sequence[str], cells: Mapping[str, Sequence[str]]) -> list[str]:
    """Markdown; methods without a value are left out."""
    rows = [[_label(name), *values] for name, values in cells.items() if any(values)]
    return ["| " + " | ".join(row) + " |" for row in (["", *columns], ["---"] * (len(columns) + 1), *rows)]


def _label(method: str) -> str:
    code = f"`{method}`" if method in CODES else method.replace(", PCA", " after PCA")
    return _LABELS.get(method, code)


def _cell(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def figure(entries: Sequence[dict[str, Any]]) -> Figure:
    """Recall against bytes, a panel for each set: others dotted; of a family the best at each size."""
    sizes_of = {one["data"]: sorted({e["bytes"] for e in entries if e["data"] == one["data"]}) for one in entries}
    sets = [data for data, sizes in sizes_of.items() if len(sizes) > 1]
    families: dict[str, list[str]] = {}
    for name in (*METHODS, LIMIT):
        families.setdefault(family_of(name), []).append(name)
    drawn = Figure(figsize=(2 + 6 * max(1, len(sets)), 6), layout="constrained")
    lines: dict[str, Line2D] = {}
    for place, data in enumerate(sets):
        panel = drawn.add_subplot(1, len(sets), place + 1)
        for number, (family, names) in enumerate(families.items()):
            ours = names[0].startswith("trained") or names[0] in CODES
            style: dict[str, Any] = {"color": _COLOURS(number), "marker": "o", "linestyle": "-" if ours else ":"}
            if family == LIMIT:
                style = {"color": "black", "linestyle": "--"}
            found = {
                size: [mean_of(entries, data, name, size, "recall") or 0 for name in names] for size in sizes_of[data]
            }
            best = {size: max(values) for size, values in found.items() if any(values)}
            if best:
                label = "Gaussian limit" if family == LIMIT else family
                (lines[label],) = panel.plot(list(best), list(best.values()), markersize=4, **style)
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes_of[data], [str(size) for size in sizes_of[data]])
        panel.set(title=data, xlabel="bytes a stored vector", ylabel="recall@10, float queries")
        panel.grid(alpha=0.3)
    drawn.legend(lines.values(), lines, loc="outside right upper", fontsize=9)
    return drawn


def family_of(name: str) -> str:
    """What a method is drawn as: the first family with a prefix of its name, or itself."""
    return next((family for family, prefixes in _FAMILIES.items() if name.startswith(prefixes)), name)

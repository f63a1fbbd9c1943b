"""Numbers and tables as text, for the terminal and for the monospaced panels of figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate
from wcwidth import clip, wcswidth

from dploss.errors import one_line
from metrics.table import BUILT_IN, ERROR_SUFFIX

MISSING = "-"
_ABBREVIATIONS = {name: name.upper() for name in ("clip", "cmmd", "fd", "fid", "kid", "lpips", "mind", "psnr", "ssim")}
_ABBREVIATIONS["dinov2"] = "DINOv2"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of equal columns, two blanks apart, as wide as a terminal shows their cells.

    Args:
        header: the columns' names.
        rows: cells of text, as many per row as the header has.
        left: the first `left` columns are aligned left, the others right.
    """
    return _plain_lines([header, *rows], ["left" if index < left else "right" for index in range(len(header))])


def aligned(facts: Mapping[str, str]) -> list[str]:
    """Lines of names and values, the values below one another."""
    return _plain_lines(list(facts.items()), ["left", "left"])


def _plain_lines(rows: Sequence[Sequence[str]], alignment: Sequence[str]) -> list[str]:
    table = tabulate(rows, tablefmt="plain", colalign=alignment, disable_numparse=True, preserve_whitespace=True)
    return table.split("\n") if rows else []


def display_width(text: str) -> int:
    """Columns that a terminal takes for text without control characters: two for a Hangul syllable or an emoji."""
    return wcswidth(text)


def elided(text: str, width: int) -> str:
    """Text of at most `width` columns; what is cut away is cut from the middle. Line breaks become blanks."""
    text = one_line(text)
    columns = display_width(text)
    if columns <= width:
        return text
    tail = (width - 1) * 2 // 3
    # Half a wide letter at the cut becomes an ellipsis too.
    beginning, end = clip(text, 0, width - 1 - tail, fillchar="…"), clip(text, columns - tail, columns, fillchar="…")
    return f"{beginning}…{end}"


def number(value: float | None, form: str = ".4g") -> str:
    """A number for a table; a dash where there is none."""
    return MISSING if value is None or not math.isfinite(value) else format(value, form)


def shown(value: Any) -> str:
    """A setting's value as a flag would be given."""
    if value is None:
        return MISSING
    if isinstance(value, list | tuple):
        return one_line(" ".join(map(str, value))) or "none"
    return number(value, "g") if isinstance(value, float) else one_line(str(value))


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss; a dash where they are not known."""
    if not math.isfinite(seconds):
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def metrics_text(metrics: Mapping[str, object]) -> str:
    """Metrics in a line, without standard errors: "clip_score: 0.8123, inception_score: 3.45"."""
    return ", ".join(
        f"{name}: {value:.{_digits(name)}f}"
        for name, value in metrics.items()
        if isinstance(value, float) and not name.endswith(ERROR_SUFFIX)
    )


def _digits(metric: str) -> int:
    info = BUILT_IN.get(metric.removesuffix("_std"))
    return info.digits if info else 4


def metric_title(name: str) -> str:
    """A metric's name as a title: "CLIP Score", "LPIPS", "Composite Score"."""
    return " ".join(_ABBREVIATIONS.get(word, word.title()) for word in name.split("_"))

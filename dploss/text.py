"""Numbers and tables as text: for the terminal, and for a figure's monospaced panels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dploss.errors import one_line

MISSING = "-"
_TWO_DIGITS = ("inception_score", "inception_score_std", "fid", "psnr")
_ABBREVIATIONS = ("clip", "fid", "lpips", "psnr", "ssim")


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of equal columns, two blanks apart.

    Args:
        header: the columns' names.
        rows: cells of text, as many a row as the header has.
        left: so many first columns are flush left, the others flush right.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def aligned(facts: dict[str, str]) -> list[str]:
    """Lines of names and what they stand for."""
    width = max(map(len, facts), default=0)
    return [f"{name:<{width}}  {value}".rstrip() for name, value in facts.items()]


def elided(text: str, width: int) -> str:
    """Text of at most `width` characters; what is cut away is cut from the middle. Line breaks become blanks."""
    text = one_line(text)
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


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


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """Measured numbers in a line: "clip_score: 0.8123, inception_score: 3.45"."""
    return ", ".join(
        f"{name}: {value:.{2 if name in _TWO_DIGITS else 4}f}"
        for name, value in metrics.items()
        if isinstance(value, float)
    )


def metric_title(name: str) -> str:
    """A metric's name as a title: "CLIP Score", "LPIPS", "Composite Score"."""
    return " ".join(word.upper() if word in _ABBREVIATIONS else word.title() for word in name.split("_"))

"""Numbers and tables as text, for the terminal and for the monospaced panels of figures."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TextIO

from tabulate import tabulate
from wcwidth import clip, wcswidth, wrap

from dploss.errors import one_line
from metrics.table import BUILT_IN, ERROR_SUFFIX

MISSING = "-"
# Columns of a terminal that nobody has widened: what is laid out in lines has no wider ones.
LINE = 80
_NO_BREAK = "\N{NO-BREAK SPACE}"
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


def fitted_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int, elastic: int) -> list[str]:
    """`text_table`, where it is wider than a line with the column `elastic` cut to what is left for it."""
    lines = text_table(header, rows, left)
    excess = max(map(display_width, lines)) - LINE
    if excess <= 0:
        return lines
    width = max(display_width(row[elastic]) for row in rows) - excess
    cut = [[*row[:elastic], elided(row[elastic], width), *row[elastic + 1 :]] for row in rows]
    return text_table(header, cut, left)


def narrow_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """`text_table`, and where that is wider than a line, several of them: each has the `left` first columns."""
    cells = [header, *rows]
    for last in range(len(header), left, -1):
        lines = text_table(header[:last], [row[:last] for row in rows], left)
        if last == left + 1 or max(map(display_width, lines)) <= LINE:
            break
    if last == len(header):
        return lines
    header, *rows = ([*row[:left], *row[last:]] for row in cells)
    return [*lines, "", *narrow_table(header, rows, left)]


def aligned(facts: Mapping[str, str]) -> list[str]:
    """Lines of names and values, the values below one another; long ones go on in the next line."""
    room = LINE - 2 - max(map(display_width, facts), default=0)
    rows = []
    for name, value in facts.items():
        first, *more = wrapped(value, width=room) or [""]
        rows += [(name, first), *(("", line) for line in more)]
    return _plain_lines(rows, ["left", "left"])


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal that a stream goes to; None where it goes to a file or a program."""
    return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None


def wrapped(text: str, indent: int = 0, width: int = LINE) -> list[str]:
    """Text as lines of at most `width` columns, broken at blanks; those after the first are indented."""
    return wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def wrapped_list(heading: str, items: Iterable[str], indent: int = 0, width: int = LINE) -> list[str]:
    """Items after a heading as `wrapped` breaks them, between two items alone."""
    unbroken = ", ".join(item.replace(" ", _NO_BREAK) for item in items)
    return [line.replace(_NO_BREAK, " ") for line in wrapped(f"{heading}{unbroken}", indent, width)]


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


def beginning(text: str, width: int) -> str:
    """Text of at most `width` columns; what is cut away is its end. Line breaks become blanks."""
    text = one_line(text)
    return text if display_width(text) <= width else f"{clip(text, 0, width - 1).rstrip()}…"


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number of things: "1 epoch", "2,000 rows".

    Args:
        n: how many.
        noun: of one.
        plural: of several, where that is not the noun and an s.
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The hint "; did you mean --epochs?" where one of the words is near; else nothing."""
    by_lower = {one.lower(): one for one in words}
    near = get_close_matches(word.lower(), by_lower, 1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


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


def metric_texts(metrics: Mapping[str, object]) -> list[str]:
    """Metrics as text, without standard errors: "clip_score: 0.8123" and "inception_score: 3.45"."""
    return [
        f"{name}: {_metric_value(name, value)}"
        for name, value in metrics.items()
        if isinstance(value, float) and not name.endswith(ERROR_SUFFIX)
    ]


def _metric_value(name: str, value: float) -> str:
    text = f"{value:.{_digits(name)}f}"
    # Of a small loss nothing but zeros would be left.
    return text if float(text) or not value else f"{value:.2g}"


def _digits(metric: str) -> int:
    info = BUILT_IN.get(metric.removesuffix("_std"))
    return info.digits if info else 4


def metric_title(name: str) -> str:
    """A metric's name as a title: "CLIP Score", "LPIPS", "Composite Score"."""
    return " ".join(_ABBREVIATIONS.get(word, word.title()) for word in name.split("_"))

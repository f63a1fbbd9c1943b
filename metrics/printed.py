"""A report for people, as lines, and for programs, as JSON."""

import json
import math
from typing import Any

from wcwidth import wrap

from metrics.registry import direction
from metrics.table import JACKKNIFE, error_key

# Standard errors to both sides: 95 % of a normal distribution.
_INTERVAL = 1.96
_COLUMNS = 80


def table(report: dict[str, Any]) -> list[str]:
    """The report as aligned lines of 80 columns: values, what is left out, notes, weight files."""
    errors = {error_key(name): name for name in report if error_key(name) in report}
    scores = [name for name in report if isinstance(report[name], float) and name not in errors]
    width = max(len(name) for name in [*scores, *report["left_out"], "num_references"])
    intervals = {name: f"± {_INTERVAL * report[key]:.4f}" for key, name in errors.items()}
    interval_width = max(map(len, intervals.values()), default=0)
    lines = []
    for name in scores:
        better = {True: "higher is better", False: "lower is better", None: ""}[direction(name)]
        interval = f" {intervals.get(name, ''):<{interval_width}}" if intervals else ""
        mark = " *" if name in report["below_floor"] else ""
        lines.append(f"{name:<{width}}  {report[name]:>12.4f}{interval}  {better}{mark}".rstrip())
    lines += [f"{name:<{width}}  {report[name]:>12}" for name in ("num_images", "num_references")]
    first_of: dict[str, str] = {}
    for name, reason in report["left_out"].items():
        first = first_of.setdefault(reason, name)
        why = f"left out: {reason}" if first == name else f"left out, as {first}"
        lines += _wrapped(f"{name:<{width}}  {'-':>12}  ", why)
    for note in report["notes"]:
        lines += _wrapped("note: ", note, 2)
    users: dict[str, list[str]] = {}
    for name, file in report["weights"].items():
        users.setdefault(f"{file['source']} ({file['sha256'][:12]})", []).append(name)
    for file, names in users.items():
        lines += _wrapped("weights of ", f"{', '.join(names)}: {file}", 2)
    return lines


def _wrapped(start: str, text: str, indent: int | None = None) -> list[str]:
    """Text after a start, in lines of `_COLUMNS`, of which the further ones are indented."""
    further = " " * (len(start) if indent is None else indent)
    return wrap(
        text,
        _COLUMNS,
        initial_indent=start,
        subsequent_indent=further,
        break_on_hyphens=False,
    )


def json_text(report: dict[str, Any]) -> str:
    """The report as strict JSON, without what the tracker alone needs: a value that is not finite is null."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in report.items()
        if name != JACKKNIFE
    }
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)

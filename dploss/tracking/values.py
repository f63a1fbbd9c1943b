"""Measured values of any kind as JSON holds them."""

import math
import sys
from collections.abc import Collection, Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from metrics.table import JACKKNIFE

# Deeper values are stored as their text: the state is refused when read if it is nested more than 50 levels deep.
_DEPTH = 20
_TEXT = 200


def plain_metrics(metrics: Mapping[Any, Any], with_jackknife: Collection[str] = ()) -> dict[str, Any]:
    """Metrics ready for JSON; nothing that one of them holds raises an error.

    Numbers of NumPy, torch, `decimal` and `fractions` become floats or ints, ints beyond the range of a float infinite;
    keys become text. What JSON cannot hold is stored as the beginning of its text. None, "not measured", is left out.

    Args:
        metrics: by name.
        with_jackknife: metrics whose jackknife values are kept; a report has those of all.
    """
    found = {_text(key): plain(value) for key, value in metrics.items() if value is not None}
    values = found.pop(JACKKNIFE, None)
    kept = {name: values[name] for name in with_jackknife if values.get(name)} if isinstance(values, dict) else {}
    return {**found, JACKKNIFE: kept} if kept else found


def plain(value: Any, depth: int = 0) -> Any:
    """A value as bool, int, float, text, None, or a list or dict of such."""
    try:
        return _plain(value, depth)
    except Exception:
        # Tensors of several values, objects whose methods raise: the training continues, whatever was measured.
        return _text(value)


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, Integral):
        whole = int(value)
        # JSON's readers refuse thousands of digits.
        return whole if abs(whole) <= sys.float_info.max else math.inf * (1 if whole > 0 else -1)
    if isinstance(value, Real | Decimal):
        return float(value)
    if depth < _DEPTH:
        if isinstance(value, Mapping):
            return {_text(key): plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [plain(item, depth + 1) for item in value]
        if hasattr(value, "item"):
            return plain(value.item(), depth + 1)
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _encodable(value)
    try:
        return _encodable(str(value)[:_TEXT])
    except Exception:
        return f"<{type(value).__name__}>"


def _encodable(text: str) -> str:
    """Text without lone surrogates, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode()

"""Arguments of the Python API: numbers of Python, NumPy and torch alike, text or a path."""

import operator
import os
from typing import Any

from dploss.errors import SettingError


def plain(value: Any) -> Any:
    """A scalar or an array of NumPy or torch as numbers and lists of them, a path as text; anything else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value


def whole_number(name: str, value: Any, at_least: int, at_most: int | None = None) -> int:
    """An argument as an int: of Python, NumPy or torch.

    Args:
        name: of the parameter, for messages.
        value: what was given.
        at_least: the least that it may be.
        at_most: the most; None: no limit.

    Raises:
        SettingError: no whole number, or one outside these limits.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise SettingError(f"{{{name}}} must be a whole number, got {{value!r}}", value=value)
    if number < at_least or (at_most is not None and number > at_most):
        limits = f"at least {at_least}" if at_most is None else f"within {at_least} and {at_most}"
        raise SettingError(f"{{{name}}} must be {limits}, got {number}")
    return number

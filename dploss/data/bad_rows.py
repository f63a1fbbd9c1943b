"""Rows that cannot be used: readers mark what is no vector of numbers; here they are told apart, counted and named."""

from collections import Counter
from collections.abc import Mapping
from types import NoneType
from typing import Any

import numpy as np

from dploss.errors import InputError, SettingError

# Squared distances of larger values overflow float32.
_LARGEST = 1e15
# A row that is no vector becomes NaNs whose free bits say what it was: any matrix can hold it, mapped ones too.
_NAN, _FREE = 0x7FC00000, 0x3FFFFF
_IS_NULL, _HAS_NULL, _LENGTH = 1, 2, 3
_KINDS = _NULL, _HOLE, _EMPTY, _RAGGED, _NOT_FINITE, _LARGE, _ZEROS, _COPIES = (
    "null",
    "with a null inside",
    "empty",
    "of other dimensions",
    "not finite",
    f"beyond {_LARGEST:g}",
    "all zeros",
    "equal to a row",
)


def marks(is_null: np.ndarray, has_null: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """What a reader fills rows with that are no vectors.

    Args:
        is_null: (n,) bool, rows that are null.
        has_null: (n,) bool, rows with a null among their values.
        lengths: (n,) how many values each has.

    Returns:
        (n, 1) float32 NaNs, for `BadRows` to read.
    """
    of_length = _LENGTH + np.minimum(lengths, _FREE - _LENGTH)
    payload = np.where(is_null, _IS_NULL, np.where(has_null, _HAS_NULL, of_length))
    return (_NAN + payload).astype(np.uint32).view(np.float32)[:, np.newaxis]


class BadRows:
    """Counts the rows that cannot be used, as all rows pass by, and keeps the first of them in mind.

    Args:
        zeros: whether a row may be all zeros; under cosine it has no direction.
        n_rows: how many rows have passed by.
        kinds: how many of them cannot be used, by what is wrong.
        first_row: the index of the first of these.

    Attributes:
        first_fault: what is wrong with it, where it passed by here.
        first_place: where it is, for who knows of several files to set.
    """

    def __init__(
        self,
        zeros: bool = True,
        n_rows: int = 0,
        kinds: Mapping[str, int] | None = None,
        first_row: int | None = None,
    ) -> None:
        self.zeros, self.n_rows, self.first_row = zeros, n_rows, first_row
        self.kinds = Counter(kinds or {})
        self.first_fault = self.first_place = ""

    @property
    def count(self) -> int:
        """How many rows cannot be used."""
        return self.kinds.total()

    def look(self, rows: np.ndarray) -> np.ndarray:
        """Look at the next rows.

        Args:
            rows: (n, D) float32.

        Returns:
            (n,) bool: which can be used.
        """
        fits = np.abs(rows) <= _LARGEST
        usable = np.ones(len(rows), bool)
        if not fits.all():
            usable &= fits.all(axis=1)
        if not self.zeros:
            usable &= rows.any(axis=1)
        if not usable.all():
            bad = rows[~usable]
            kinds = _kinds(bad)
            self.kinds.update({_KINDS[kind]: int((kinds == kind).sum()) for kind in np.unique(kinds)})
            self._remember(int(np.argmin(usable)), _fault(bad[0], _KINDS[kinds[0]]))
        self.n_rows += len(rows)
        return usable

    def look_at_codes(self, present: np.ndarray) -> None:
        """Look at the next rows of codes: (n,) bool, which are not null."""
        if not present.all():
            self.kinds[_NULL] += int(len(present) - present.sum())
            self._remember(int(np.argmin(present)), "is null")
        self.n_rows += len(present)

    def add_copies(self, rows: np.ndarray, source: str) -> None:
        """Count queries that are rows of what they search, and so would find themselves.

        Args:
            rows: (n,) their indices, sorted, n > 0.
            source: of the rows that they are.
        """
        self.kinds[_COPIES] += len(rows)
        if self.first_row is None or rows[0] < self.first_row:
            fault = f"is to the last bit a row of {source}, and would find itself"
            self.first_row, self.first_fault, self.first_place = int(rows[0]), fault, ""

    def _remember(self, row: int, fault: str) -> None:
        if self.first_row is None:
            self.first_row, self.first_fault = self.n_rows + row, fault

    def add(self, others: "BadRows") -> None:
        """Add rows that have passed by elsewhere, further down in the same source."""
        self.n_rows += others.n_rows
        self.kinds.update(others.kinds)
        if self.first_row is None:
            self.first_row, self.first_fault = others.first_row, others.first_fault

    def __str__(self) -> str:
        """How many of how many rows, of what kinds, and the first: for a person."""
        kinds = ", ".join(f"{self.kinds[kind]:,} {kind}" for kind in _KINDS if self.kinds[kind])
        first = f"row {self.first_row}{self.first_place}" + (f", {self.first_fault}" if self.first_fault else "")
        return f"{self.count:,} of {self.n_rows:,} rows cannot be used ({kinds}); the first, {first}"

    def error(self, source: str, advice: str = "") -> InputError:
        """The refusal of a source.

        Args:
            source: for the message.
            advice: what a person can do about any kind; settings stand in braces.
        """
        advices = [
            "use {metric} euclidean" if self.kinds[_ZEROS] == self.count else "",
            "divide all rows by a number" if self.kinds[_LARGE] == self.count else "",
            advice,
        ]
        listed = ", or ".join(filter(None, advices))
        return SettingError("{source}: {rows}" + (f": {listed}" if listed else ""), source=source, rows=str(self))

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"kinds": dict(self.kinds), "first_row": self.first_row}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], zeros: bool = True, n_rows: int = 0) -> "BadRows":
        """From what `as_dict` gave; the other arguments are the class's.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it is something else.
        """
        kinds, first_row = stored["kinds"], stored["first_row"]
        if not all(type(n) is int for n in kinds.values()) or type(first_row) not in (int, NoneType):
            raise ValueError(f"kinds is {kinds!r}, first_row {first_row!r}")
        return cls(zeros, n_rows, kinds, first_row)


def _kinds(bad: np.ndarray) -> np.ndarray:
    """(n, D) float32 rows that cannot be used -> (n,) indices in _KINDS."""
    bits = bad.view(np.uint32)
    marked = (bits == bits[:, :1]).all(axis=1) & (bits[:, 0] >= _NAN) & (bits[:, 0] <= _NAN + _FREE)
    payload = np.where(marked, bits[:, 0] - _NAN, 0)
    not_finite = ~np.isfinite(bad).all(axis=1)
    cases = [
        payload == _IS_NULL,
        payload == _HAS_NULL,
        payload == _LENGTH,
        payload > _LENGTH,
        not_finite,
        bad.any(axis=1),
    ]
    return np.select(cases, range(len(cases)), len(cases))


def _fault(row: np.ndarray, kind: str) -> str:
    """What is wrong with a row (D,): "has nan in dimension 2 as float32"."""
    if kind == _RAGGED:
        return f"has {row.view(np.uint32)[0] - _NAN - _LENGTH} dimensions, not {len(row)}"
    if kind in (_NOT_FINITE, _LARGE):
        column = np.argmin(np.abs(row) <= _LARGEST)
        return f"has {row[column]:g} in dimension {column} as float32"
    words = {_HOLE: "has a null among its values", _ZEROS: "is all zeros, which has no direction"}
    return words.get(kind, f"is {kind}")

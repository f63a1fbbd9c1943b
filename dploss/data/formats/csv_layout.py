"""What the columns of a .csv or .tsv file are, going by its first rows: their names, and which are the vectors."""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dploss.data.formats.columns import choose_column
from dploss.errors import InputError, SettingError
from dploss.files.compressed import inner_suffix, open_bytes
from dploss.files.untrusted import decoding

TROUBLE = "not a readable table"
_SAMPLE_ROWS = 100
_LONGEST_CELL = 2**24
_DELIMITERS = (",", ";", "\t")
_LIST = re.compile(r"\s*[\[({].*[\])}]\s*", re.DOTALL)
_TOGETHER = re.compile(r'"[^"]*"|[\[({][^\])}]*[\])}]')
_NUMBERED = re.compile(r"(.*?)\d+")
_NO_DIMENSION = ("", "id", "idx", "index", "row", "label", "unnamed: 0")


@dataclass(frozen=True)
class Layout:
    """The columns of a file.

    Attributes:
        delimiter: between cells.
        names: of the columns; of a file without a header their indices.
        head: lines before the first row, those of the header.
        lists: which columns hold lists as text, such as [0.1, 0.2].
        numbers: which hold a number.
        counts: which count the rows.
    """

    delimiter: str
    names: list[str]
    head: int
    lists: list[bool]
    numbers: list[bool]
    counts: list[bool]

    @property
    def texts(self) -> dict[str, bool]:
        """Every column's name, and whether it holds text."""
        return {
            name: not (lists or numbers)
            for name, lists, numbers in zip(self.names, self.lists, self.numbers, strict=True)
        }

    def vectors(self, source: str, wanted: str | None) -> list[int]:
        """The columns of the vectors: one of lists, or several, of a number each.

        Args:
            source: the file, for messages.
            wanted: a column of lists, or a pattern of columns of numbers, such as dim_*; None: a column of lists, else
                the columns numbered alike, else all columns of numbers but those that number the rows.

        Raises:
            InputError: there are none, or several could be meant.
        """
        if wanted is not None and wanted not in self.names:
            matched = [index for index, name in enumerate(self.names) if fnmatchcase(name, wanted)]
            if matched:
                return matched
        if wanted is not None or any(self.lists):
            index = self.names.index(choose_column(source, dict(zip(self.names, self.lists, strict=True)), wanted))
            if not self.lists[index]:
                template = "{source}: column {name} holds no lists of numbers; choose with {column}, several as 'dim_*'"
                raise SettingError(template, source=source, name=self.names[index])
            return [index]
        groups = self._numbered()
        if len(groups) > 1:
            template = "{source}: several groups of columns could be the vectors: {names}; choose with {column}"
            raise SettingError(template, source=source, names=", ".join(groups))
        found = next(iter(groups.values()), None) or [
            index
            for index, name in enumerate(self.names)
            if self.numbers[index] and not (name.lower() in _NO_DIMENSION or self.counts[index])
        ]
        if not found:
            choose_column(source, dict.fromkeys(self.names, False), None)
        return found

    def _numbered(self) -> dict[str, list[int]]:
        """Columns whose names differ in a number at their end alone, two or more with mostly numbers; by pattern."""
        if not self.head:
            return {}
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            numbered = _NUMBERED.fullmatch(name)
            if numbered:
                groups.setdefault(f"{numbered[1] or '[0-9]'}*", []).append(index)
        return {
            pattern: columns
            for pattern, columns in groups.items()
            if len(columns) > 1 and 2 * sum(self.numbers[index] for index in columns) > len(columns)
        }


def read_layout(path: Path) -> Layout:
    """Look at the first rows of a file.

    Raises:
        InputError: it has no rows, or is no table.
    """
    with decoding(path, TROUBLE), open_bytes(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
        first = text.readline()
        while first.isspace():
            first = text.readline()
    delimiter = "\t" if inner_suffix(path) == ".tsv" else max(_DELIMITERS, key=_TOGETHER.sub("", first).count)
    rows = list(itertools.islice(read_cells(path, delimiter), _SAMPLE_ROWS + 1))
    if not rows:
        raise InputError(f"{path}: the file is empty")
    names, samples, head = [str(index) for index in range(len(rows[0][1]))], [cells for _, cells in rows], 0
    if _is_header(samples):
        (head, names), samples = rows[0], samples[1:]
    filled = [[row[index] for row in samples if len(row) > index and row[index].strip()] for index in range(len(names))]
    return Layout(
        delimiter=delimiter,
        names=[name.strip() for name in names],
        head=head,
        lists=[2 * sum(map(_is_list, cells)) > len(cells) for cells in filled],
        numbers=[2 * sum(map(is_number, cells)) > len(cells) for cells in filled],
        counts=[_count_rows(cells) for cells in filled],
    )


def read_cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file, blank lines left out: the lines up to the end of each, and its cells."""
    csv.field_size_limit(_LONGEST_CELL)
    with decoding(path, TROUBLE), open_bytes(path) as file:
        reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline=""), delimiter=delimiter)
        for cells in reader:
            if cells:
                yield reader.line_num, cells


def is_number(cell: str) -> bool:
    """Whether a cell is a number, as `float` reads it."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _is_list(cell: str) -> bool:
    return _LIST.fullmatch(cell) is not None


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: nothing in it is a fraction or a list, and one cell is what no row is.

    A data frame's columns may be named 0, 1, 2, ...
    """
    names, others = rows[0], rows[1:]
    if any(_is_list(name) or (is_number(name) and not name.strip().isdigit()) for name in names):
        return False
    whole = [name.strip() for name in names if name.strip().isdigit()]
    if len(whole) > 1 and whole == _numbers(0, len(whole)):
        return True
    values = [[is_number(cell) or _is_list(cell) for cell in row] for row in others]
    no_values = bool(others) and not any(map(any, values))
    return no_values or any(
        not is_number(name) and any(row[index] for row in values if len(row) > index)
        for index, name in enumerate(names)
    )


def _count_rows(cells: list[str]) -> bool:
    """Whether cells are 0, 1, 2, ..., or 1, 2, 3, ..."""
    counts = [cell.strip() for cell in cells]
    return len(counts) > 2 and any(counts == _numbers(first, len(counts)) for first in (0, 1))


def _numbers(first: int, count: int) -> list[str]:
    return list(map(str, range(first, first + count)))

"""ResumableJob: a file written some rows at a time; a stopped or killed run resumes."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dploss.codes.encoded_file import Form, form_of, sidecar
from dploss.data.bad_rows import BadRows
from dploss.encoding.writers import SUFFIXES, MatrixWriter, ParquetWriter
from dploss.errors import InputError
from dploss.files.atomic import check_writable, remove, write_json
from dploss.files.locks import lock_output
from dploss.files.untrusted import read_json

# The most work that a power cut can lose.
FLUSH_SECONDS, FLUSH_BYTES = 10.0, 2**27


@dataclass(frozen=True)
class Task:
    """What determines the output: a run resumes only an earlier run of an equal task.

    Attributes:
        experiment_id: of the checkpoint; None if it has none.
        checkpoint: its absolute path.
        checkpoint_sha256: of its bytes.
        source: path, size and modification time of every file that is read.
        data: absolute path (or glob) of the vectors, or "builtin".
        column: of the vectors, as asked for.
        rows: N.
        dtype: of the output.
        dim: d, dimensions of a latent that are kept.
    """

    experiment_id: str | None
    checkpoint: str
    checkpoint_sha256: str
    source: list[list[str | int]]
    data: str
    column: str | None
    rows: int
    dtype: str
    dim: int


def check_output(output: Path) -> None:
    """Refuse an output that is no file of a known format in an existing folder.

    Raises:
        InputError: it is none.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{output}: the output must be one of {', '.join(SUFFIXES)}")
    check_place(output)


def check_place(output: Path) -> None:
    """Refuse an output that is a folder, in none, or in one that cannot be written.

    Raises:
        InputError: it is one.
    """
    if not output.parent.is_dir() or output.is_dir():
        raise InputError(f"{output}: " + ("it is a folder" if output.is_dir() else "its folder does not exist"))
    check_writable(output.parent)


def convert_usable(
    rows: np.ndarray, usable: np.ndarray, form: Form, convert: Callable[[np.ndarray, Form], np.ndarray]
) -> np.ndarray:
    """Rows -> (n, width) of the form: those that can be used are converted, others are 0."""
    if usable.all():
        return convert(rows, form)
    dtype, width = form.stored
    stored = np.zeros((len(rows), width), dtype)
    if usable.any():
        stored[usable] = convert(rows[usable], form)
    return stored


class ResumableJob(ABC):
    """One file to write. Nothing is written before `run`.

    Args:
        output: the file; replaced when the new one is complete.
        task: what determines it.
        column: name of the rows' column in parquet; None for the usual one.
        name: the source, for messages.
        zeros: whether a row that is read may be all zeros.

    Attributes:
        rows: N.
        done: number of rows written so far, by earlier runs too.
        bad: which of these cannot be used: in parquet they become null, in others NaN.
    """

    def __init__(self, output: Path, task: Task, column: str | None, name: str, zeros: bool = True) -> None:
        self.output, self.task, self.column, self.rows = output, task, column, task.rows
        self.name, self.zeros = name, zeros
        self.partial = output.with_name(f".{output.name}.partial")
        self.state = output.with_name(f".{output.name}.partial.json")
        self._find_earlier()

    @abstractmethod
    def _form(self) -> Form:
        """How the rows of a new output are stored."""

    @abstractmethod
    def _batches(self, beside: bool) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Table | None]]:
        """The rows that are read, from `done` on; which can be used, (n,) bool; their other columns, if asked for."""

    @abstractmethod
    def _convert(self, rows: np.ndarray, form: Form) -> np.ndarray:
        """Rows that can be used -> rows that are stored."""

    def _find_earlier(self) -> Form | None:
        """Look for an unfinished run of an equal task: set `done` and `flushes`, return its form."""
        self.done, self.flushes, self.bad = 0, 0, BadRows(self.zeros)
        try:
            state = read_json(self.state, "not readable")
            if state["task"] == asdict(self.task) and 0 <= state["done"] <= self.rows and self.partial.exists():
                form = form_of(state["codes"])
                self.bad = BadRows.from_dict(state["bad_rows"], self.zeros, state["done"])
                self.done, self.flushes = state["done"], state["flushes"]
                return form
        except (InputError, AttributeError, KeyError, TypeError, ValueError):
            # No state, or a damaged one: start from the first row.
            pass
        return None

    def run(self, advance: Callable[[int], None] = lambda rows: None, stop: Callable[[], bool] = lambda: False) -> bool:
        """Write the rows that are not yet done.

        Args:
            advance: called with the number of rows after each batch.
            stop: called after every batch; True stops the run.

        Returns:
            Whether the output is complete; False if stopped before the end: the next run resumes.

        Raises:
            InputError: rows that cannot be read or stored, or another run that writes the same output.
            OSError: a write failed, on a full disk for example; the rows saved before are kept.
        """
        with self.locked() as form:
            return self._run(form, advance, stop)

    @contextmanager
    def locked(self) -> Iterator[Form]:
        """Lock the output against other runs; the lock file is deleted when the output is complete.

        Yields:
            The form: that of an unfinished run of an equal task, or a new one.

        Raises:
            InputError: another run writes it.
        """
        lock = lock_output(self.output)
        try:
            form = self._find_earlier()
            if form is None:
                remove(self.partial)
                form = self._form()
            yield form
            if not self.partial.exists():
                remove(Path(lock.lock_file))
        finally:
            lock.release()

    def _run(self, form: Form, advance: Callable[[int], None], stop: Callable[[], bool]) -> bool:
        suffix = self.output.suffix.lower()
        keep_columns = suffix == ".parquet"
        writer: ParquetWriter | MatrixWriter
        if keep_columns:
            writer = ParquetWriter(self.partial, form, self.column, self.flushes)
        else:
            writer = MatrixWriter(self.partial, form, self.rows, suffix, self.done)
        try:
            saved, size = time.monotonic(), 0
            for rows, usable, others in self._batches(keep_columns):
                if not (usable.all() or keep_columns or form.stored[0].kind == "f"):
                    raise self._nowhere_to_say(form)
                stored = convert_usable(rows, usable, form, self._convert)
                writer.append(stored, usable, others)
                self.done += len(rows)
                size += max(rows.nbytes, stored.nbytes)
                advance(len(rows))
                stopped = stop()
                if stopped or size > FLUSH_BYTES or time.monotonic() - saved > FLUSH_SECONDS:
                    writer.flush()
                    self.flushes += 1
                    self.save(form)
                    saved, size = time.monotonic(), 0
                if stopped and self.done < self.rows:
                    return False
            self.finish(form, writer.finish)
            return True
        finally:
            writer.close()

    def _nowhere_to_say(self, form: Form) -> InputError:
        dtype, suffix = form.stored[0], self.output.suffix
        first = f"row {self.bad.first_row} {self.bad.first_fault}"
        return InputError(
            f"{self.name}: {first}, for which {suffix} has no {dtype} values; write .parquet, which has null"
        )

    def finish(self, form: Form, move_to: Callable[[Path], object]) -> None:
        """Give the output its name by `move_to`, and write the sidecar."""
        # Neither can be read without the other: old codes must never have a new sidecar, or the reverse.
        remove(sidecar(self.output))
        move_to(self.output)
        origins = {name: value for name, value in asdict(self.task).items() if name != "source"}
        write_json(sidecar(self.output), origins | {"bad_rows": self.bad.as_dict()} | form.as_dict())
        remove(self.state)

    def save(self, form: Form) -> None:
        """Save the progress, from which the next run resumes."""
        write_json(
            self.state,
            {
                "task": asdict(self.task),
                "done": self.done,
                "flushes": self.flushes,
                "bad_rows": self.bad.as_dict(),
                "codes": form.as_dict(),
            },
        )

"""EncodeJob: a vector file -> a file of short codes, streamed; what is done survives a stop."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dploss.codes.quantization import DTYPES, Codes, sidecar
from dploss.data.stream import VectorStream
from dploss.encoding.writers import SUFFIXES, MatrixSink, ParquetSink
from dploss.errors import InputError
from dploss.files.atomic import remove, write_json
from dploss.files.locks import lock_output
from dploss.files.untrusted import read_json
from dploss.models.encoder import Encoder

# Work that a power cut may cost.
_FLUSH_SECONDS, _FLUSH_BYTES = 10.0, 2**27
_SAMPLE = 10_000
_COLUMN = "embedding"


class EncodeJob:
    """One file to encode. Nothing is written before `run`.

    Args:
        encoder: on the device to use.
        checkpoint: the file that it is from.
        record: what that checkpoint's config holds.
        source: the vectors, as `open_vectors` takes them.
        output: .npy, .parquet, .fvecs or .fbin; replaced when the new one is whole.
        dtype: of the codes, one of DTYPES; .fvecs and .fbin hold float32 alone.
        column: of the vectors.
        dim: of a Matryoshka encoder, the first so many numbers; all if None.
        batch_size: rows at a time.
        folder: whether the output is a new folder of parquet, made of parquet, which `encode_with_ray` writes.

    Attributes:
        rows: how many there are.
        done: how many of them an earlier run has encoded already.

    Raises:
        InputError: vectors that cannot be read, or an output that cannot be made of them.
    """

    def __init__(
        self,
        encoder: Encoder,
        checkpoint: Path,
        record: Mapping[str, Any],
        source: str,
        output: Path,
        dtype: str = "float32",
        column: str | None = None,
        dim: int | None = None,
        batch_size: int = 8192,
        folder: bool = False,
    ) -> None:
        self.encoder, self.output = encoder, output
        self.dim = encoder.latent_dim if dim is None else dim
        self.batch_size = batch_size
        suffix = output.suffix.lower()
        if folder and (output.exists() or suffix):
            raise InputError(
                f"{output}: --engine ray writes a new folder; this "
                + ("is there" if output.exists() else "names a file")
            )
        if not folder and suffix not in SUFFIXES:
            raise InputError(f"{output}: the output must be one of {', '.join(SUFFIXES)}")
        if suffix in (".fvecs", ".fbin") and dtype != "float32":
            raise InputError(f"{output}: {suffix} holds float32 alone; .npy and .parquet hold {', '.join(DTYPES)}")
        if not output.parent.is_dir() or output.is_dir():
            raise InputError(f"{output}: " + ("it is a folder" if output.is_dir() else "its folder is not there"))
        if not 1 <= self.dim <= encoder.latent_dim:
            raise InputError(f"--dim must be within 1 and {encoder.latent_dim}, got {dim}")
        self.stream = VectorStream(source, column)
        if folder and self.stream.column is None:
            raise InputError(f"{source}: --engine ray reads parquet alone")
        if any(output.absolute() == Path(path).absolute() for path in self.stream.files):
            raise InputError(f"{output}: that is the input")
        if self.stream.dim != encoder.input_dim:
            raise InputError(
                f"{source}: its vectors have {self.stream.dim} numbers, the encoder takes {encoder.input_dim}"
            )
        self.rows = self.stream.rows
        self.partial = output.with_name(f".{output.name}.partial")
        self.state = output.with_name(f".{output.name}.partial.json")
        self.task = {
            "experiment_id": record.get("experiment_id"),
            "checkpoint": str(checkpoint.absolute()),
            "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            "source": self.stream.state(),
            "data": source if source == "builtin" else str(Path(source).absolute()),
            "column": column,
            "rows": self.rows,
            "dtype": dtype,
            "dim": self.dim,
        }
        self.done, self.flushes, self.codes = 0, 0, None
        self._find_earlier()

    def _find_earlier(self) -> None:
        """Go on from what a run of this very task has left."""
        try:
            state = read_json(self.state, "not readable")
            if state["task"] == self.task and 0 <= state["done"] <= self.rows and self.partial.exists():
                codes = Codes.from_dict(state["codes"])
                self.done, self.flushes, self.codes = state["done"], state["flushes"], codes
        except (InputError, AttributeError, KeyError, TypeError, ValueError):
            # None there, or damaged: from the start.
            pass

    def run(self, advance: Callable[[int], None] = lambda rows: None, stop: Callable[[], bool] = lambda: False) -> bool:
        """Encode what is not yet done.

        Args:
            advance: told of rows as they are done.
            stop: asked after every batch.

        Returns:
            Whether the output is there; False if stopped before, and then the next run goes on.

        Raises:
            InputError: rows that cannot be encoded, or another run that writes the same output.
            OSError: the disk is full, say; what is done stays.
        """
        with self.locked():
            return self._run(advance, stop)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that writes the output; the lock's file goes when the output is whole.

        Raises:
            InputError: another run writes it.
        """
        lock = lock_output(self.output)
        try:
            self._find_earlier()
            if self.codes is None:
                remove(self.partial)
                self.codes = self._fitted_codes()
            yield
            if not self.partial.exists():
                remove(Path(lock.lock_file))
        finally:
            lock.release()

    def _run(self, advance: Callable[[int], None], stop: Callable[[], bool]) -> bool:
        suffix = self.output.suffix.lower()
        beside = suffix == ".parquet"
        if beside:
            column = self.stream.column or _COLUMN
            sink = ParquetSink(self.partial, column, self.flushes)
        else:
            sink = MatrixSink(self.partial, self.codes, self.rows, suffix, self.done)
        try:
            saved, size = time.monotonic(), 0
            for rows, others in self.stream.batches(self.done, self.batch_size, beside):
                sink.append(self.codes.encode(self._latents(rows)), others)
                self.done += len(rows)
                size += rows.nbytes
                advance(len(rows))
                stopped = stop()
                if stopped or size > _FLUSH_BYTES or time.monotonic() - saved > _FLUSH_SECONDS:
                    sink.flush()
                    self.flushes += 1
                    self.save()
                    saved, size = time.monotonic(), 0
                if stopped and self.done < self.rows:
                    return False
            self.finish(sink.finish)
            return True
        finally:
            sink.close()

    def finish(self, become: Callable[[Path], object]) -> None:
        """Give the output its name by `become`, and write beside it what it is."""
        # The codes cannot be read without it, and it not without them: the old pair is never mixed with the new.
        remove(sidecar(self.output))
        become(self.output)
        about = {name: value for name, value in self.task.items() if name != "source"}
        write_json(sidecar(self.output), about | self.codes.as_dict())
        remove(self.state)

    def _fitted_codes(self) -> Codes:
        """How the latents will be stored; for int8, after a look at rows from all over the source."""
        sampled = self.task["dtype"] == "int8"
        sample = self._latents(self.stream.sample(_SAMPLE)) if sampled else np.empty((0, self.dim))
        return Codes.fitted(self.task["dtype"], sample)

    def save(self) -> None:
        """Write down what is done, for a run that goes on."""
        write_json(
            self.state,
            {"task": self.task, "done": self.done, "flushes": self.flushes, "codes": self.codes.as_dict()},
        )

    def _latents(self, rows: np.ndarray) -> np.ndarray:
        return self.encoder.encode(rows, self.batch_size, self.dim)

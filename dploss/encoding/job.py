"""EncodeJob: a vector file -> a file of codes, streamed; a stopped or killed run resumes."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dploss.codes.encoded_file import sidecar
from dploss.codes.quantizer import DTYPES, Quantizer
from dploss.data.stream import VectorStream
from dploss.encoding.writers import SUFFIXES, MatrixWriter, ParquetWriter
from dploss.errors import InputError, SettingError
from dploss.files.atomic import remove, write_json
from dploss.files.locks import lock_output
from dploss.files.untrusted import read_json
from dploss.models.encoder import Encoder

# The most work that a power cut can lose.
FLUSH_SECONDS, FLUSH_BYTES = 10.0, 2**27
_SAMPLE = 10_000


@dataclass(frozen=True)
class EncodeTask:
    """What determines the output: a run resumes only an earlier run of an equal task.

    Attributes:
        experiment_id: of the checkpoint; None if it has none.
        checkpoint: its absolute path.
        checkpoint_sha256: of its bytes.
        source: path, size and modification time of every file of vectors.
        data: absolute path (or glob) of the vectors, or "builtin".
        column: of the vectors, as asked for.
        rows: N.
        dtype: of the codes.
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


class EncodeJob:
    """One file to encode. Nothing is written before `run`.

    Args:
        encoder: on the device to use.
        source: the vectors, as `open_vectors` takes them.
        output: .npy, .parquet, .fvecs or .fbin; replaced when the new one is complete.
        checkpoint: the file that the encoder was loaded from.
        experiment_id: of that checkpoint, if it has one.
        dtype: of the codes, one of DTYPES; .fvecs and .fbin hold float32 alone.
        column: of the vectors.
        dim: keep the first `dim` dimensions of a Matryoshka encoder's latents; all if None.
        batch_size: rows at a time.
        folder: whether the output is a new folder of parquet, made of parquet, which `encode_with_ray` writes.

    Attributes:
        task: what determines the output.
        rows: N.
        done: number of rows encoded so far, by earlier runs too.

    Raises:
        InputError: vectors that cannot be read, or an output that cannot be made of them.
    """

    def __init__(
        self,
        encoder: Encoder,
        source: str,
        output: Path,
        *,
        checkpoint: Path,
        experiment_id: str | None,
        dtype: str = "float32",
        column: str | None = None,
        dim: int | None = None,
        batch_size: int = 8192,
        folder: bool = False,
    ) -> None:
        self.encoder, self.output, self.batch_size = encoder, output, batch_size
        suffix = output.suffix.lower()
        if folder and (output.exists() or suffix):
            why = "exists already" if output.exists() else "is the name of a file"
            raise SettingError("{output}: {engine} ray writes a new folder, but this {why}", output=output, why=why)
        if not folder and suffix not in SUFFIXES:
            raise InputError(f"{output}: the output must be one of {', '.join(SUFFIXES)}")
        if suffix in (".fvecs", ".fbin") and dtype != "float32":
            raise InputError(f"{output}: {suffix} holds float32 alone; .npy and .parquet hold {', '.join(DTYPES)}")
        if not output.parent.is_dir() or output.is_dir():
            raise InputError(f"{output}: " + ("it is a folder" if output.is_dir() else "its folder does not exist"))
        kept = encoder.latent_dim if dim is None else dim
        if not 1 <= kept <= encoder.latent_dim:
            raise SettingError("{dim} must be within 1 and {most}, got {value}", most=encoder.latent_dim, value=kept)
        self.stream = VectorStream(source, column)
        if folder and self.stream.column is None:
            raise SettingError("{source}: {engine} ray reads parquet alone", source=source)
        if any(output.absolute() == Path(path).absolute() for path in self.stream.files):
            raise InputError(f"{output}: that is the input")
        if self.stream.dim != encoder.input_dim:
            raise InputError(
                f"{source}: its vectors have {self.stream.dim} dimensions, the encoder takes {encoder.input_dim}"
            )
        self.rows = self.stream.rows
        self.partial = output.with_name(f".{output.name}.partial")
        self.state = output.with_name(f".{output.name}.partial.json")
        self.task = EncodeTask(
            experiment_id=experiment_id,
            checkpoint=str(checkpoint.absolute()),
            checkpoint_sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            source=self.stream.state(),
            data=source if source == "builtin" else str(Path(source).absolute()),
            column=column,
            rows=self.rows,
            dtype=dtype,
            dim=kept,
        )
        self._find_earlier()

    def _find_earlier(self) -> Quantizer | None:
        """Look for an unfinished run of an equal task: set `done` and `flushes`, return its quantizer."""
        self.done, self.flushes = 0, 0
        try:
            state = read_json(self.state, "not readable")
            if state["task"] == asdict(self.task) and 0 <= state["done"] <= self.rows and self.partial.exists():
                quantizer = Quantizer.from_dict(state["codes"])
                self.done, self.flushes = state["done"], state["flushes"]
                return quantizer
        except (InputError, AttributeError, KeyError, TypeError, ValueError):
            # No state, or a damaged one: encode from the first row.
            pass
        return None

    def run(self, advance: Callable[[int], None] = lambda rows: None, stop: Callable[[], bool] = lambda: False) -> bool:
        """Encode the rows that are not yet done.

        Args:
            advance: called with the number of rows after each batch.
            stop: called after every batch; True stops the run.

        Returns:
            Whether the output is complete; False if stopped before the end: the next run resumes.

        Raises:
            InputError: rows that cannot be encoded, or another run that writes the same output.
            OSError: a write failed, on a full disk for example; the rows saved before are kept.
        """
        with self.locked() as quantizer:
            return self._run(quantizer, advance, stop)

    @contextmanager
    def locked(self) -> Iterator[Quantizer]:
        """Lock the output against other runs; the lock file is deleted when the output is complete.

        Yields:
            The quantizer: that of an unfinished run of an equal task, or a newly fitted one.

        Raises:
            InputError: another run writes it.
        """
        lock = lock_output(self.output)
        try:
            quantizer = self._find_earlier()
            if quantizer is None:
                remove(self.partial)
                quantizer = self._fit()
            yield quantizer
            if not self.partial.exists():
                remove(Path(lock.lock_file))
        finally:
            lock.release()

    def _run(self, quantizer: Quantizer, advance: Callable[[int], None], stop: Callable[[], bool]) -> bool:
        suffix = self.output.suffix.lower()
        keep_columns = suffix == ".parquet"
        writer: ParquetWriter | MatrixWriter
        if keep_columns:
            writer = ParquetWriter(self.partial, self.stream.column, self.flushes)
        else:
            writer = MatrixWriter(self.partial, quantizer, self.rows, suffix, self.done)
        try:
            saved, size = time.monotonic(), 0
            for rows, others in self.stream.batches(self.done, self.batch_size, keep_columns):
                writer.append(quantizer.quantize(self._latents(rows)), others)
                self.done += len(rows)
                size += rows.nbytes
                advance(len(rows))
                stopped = stop()
                if stopped or size > FLUSH_BYTES or time.monotonic() - saved > FLUSH_SECONDS:
                    writer.flush()
                    self.flushes += 1
                    self.save(quantizer)
                    saved, size = time.monotonic(), 0
                if stopped and self.done < self.rows:
                    return False
            self.finish(quantizer, writer.finish)
            return True
        finally:
            writer.close()

    def finish(self, quantizer: Quantizer, move_to: Callable[[Path], object]) -> None:
        """Give the output its name by `move_to`, and write the sidecar."""
        # Neither can be read without the other: old codes must never have a new sidecar, or the reverse.
        remove(sidecar(self.output))
        move_to(self.output)
        origins = {name: value for name, value in asdict(self.task).items() if name != "source"}
        write_json(sidecar(self.output), origins | quantizer.as_dict())
        remove(self.state)

    def _fit(self) -> Quantizer:
        """The quantizer of the output; for int8 and float16, fitted to a sample of rows from the whole source."""
        dtype, dim = self.task.dtype, self.task.dim
        sample = self._latents(self.stream.sample(_SAMPLE)) if dtype in ("int8", "float16") else np.empty((0, dim))
        return Quantizer.fit(dtype, sample)

    def save(self, quantizer: Quantizer) -> None:
        """Save the progress, from which the next run resumes."""
        write_json(
            self.state,
            {"task": asdict(self.task), "done": self.done, "flushes": self.flushes, "codes": quantizer.as_dict()},
        )

    def _latents(self, rows: np.ndarray) -> np.ndarray:
        return self.encoder.encode(rows, self.batch_size, self.task.dim)

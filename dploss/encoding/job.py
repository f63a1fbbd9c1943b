"""EncodeJob: a file of vectors -> a file of codes or latents."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from dploss.codes.encoded_file import Form
from dploss.codes.quantizer import DTYPES, Quantizer
from dploss.codes.stored_code import StoredCode
from dploss.data.bad_rows import BadRows
from dploss.data.stream import VectorStream
from dploss.encoding.resumable import ResumableJob, Task, check_output, check_place
from dploss.errors import InputError, SettingError
from dploss.models.base import Encoder
from dploss.models.encoder import DPEncoder
from dploss.text import counted

_SAMPLE = 10_000


def allows_zeros(encoder: Encoder) -> bool:
    """Whether vectors of zeros can be encoded: under cosine they have no direction."""
    return not (isinstance(encoder, DPEncoder) and encoder.metric == "cosine")


def store_rows(encoder: Encoder, rows: np.ndarray, form: Form, batch_size: int) -> np.ndarray:
    """Encode vectors and store them in a form: (n, D) -> (n, width)."""
    if isinstance(form, StoredCode):
        return encoder.encode_to_codes(rows)
    return form.quantize(encoder.encode(rows, batch_size, form.dim, any_dim=True))


class EncodeJob(ResumableJob):
    """One file to encode. Nothing is written before `run`.

    Args:
        encoder: on the device to use.
        source: the vectors, as `open_vectors` takes them.
        output: .npy, .parquet, .fvecs or .fbin; replaced when the new one is complete.
        checkpoint: the file that the encoder was loaded from.
        experiment_id: of that checkpoint, if it has one.
        dtype: store latents, as one of DTYPES; if None the codes of an encoder that has a code, else float32. .fvecs
            and .fbin hold float32 alone.
        column: of the vectors.
        dim: keep the first `dim` dimensions of a Matryoshka encoder's latents; all if None. Not for codes.
        any_dim: allow a dim that the encoder was not trained for.
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
        dtype: str | None = None,
        column: str | None = None,
        dim: int | None = None,
        any_dim: bool = False,
        batch_size: int = 8192,
        folder: bool = False,
    ) -> None:
        self.encoder, self.batch_size = encoder, batch_size
        if dtype is None:
            dtype = "float32" if encoder.code is None else StoredCode.dtype
        _check_request(output, dtype, dim, folder)
        kept = encoder.checked_dim(dim, any_dim)
        self.stream = VectorStream(source, column)
        if folder and self.stream.column is None:
            raise SettingError("{source}: {engine} ray reads parquet and Arrow IPC files alone", source=source)
        if any(output.absolute() == Path(path).absolute() for path in self.stream.files):
            raise InputError(f"{output}: that is the input")
        if self.stream.dim != encoder.input_dim:
            dimensions = counted(self.stream.dim, "dimension")
            raise InputError(f"{source}: its vectors have {dimensions}, the encoder takes {encoder.input_dim}")
        task = Task(
            experiment_id=experiment_id,
            checkpoint=str(checkpoint.absolute()),
            checkpoint_sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            source=self.stream.state(),
            data=source if source == "builtin" else str(Path(self.stream.name).absolute()),
            column=column,
            rows=self.stream.rows,
            dtype=dtype,
            dim=kept,
        )
        super().__init__(output, task, self.stream.column, source, allows_zeros(encoder))

    def _form(self) -> Form:
        """For int8 and float16, fitted to a sample of rows from the whole source."""
        dtype, dim = self.task.dtype, self.task.dim
        if dtype == StoredCode.dtype:
            assert self.encoder.code is not None
            return StoredCode.of(self.encoder.code)
        sample = np.empty((0, dim))
        if dtype in ("int8", "float16"):
            sample = self.stream.sample(_SAMPLE)
            sample = sample[BadRows(allows_zeros(self.encoder)).look(sample)]
            if not len(sample):
                raise InputError(f"{self.name}: none of the rows from which {dtype} is fitted can be used")
            sample = self.encoder.encode(sample, self.batch_size, dim, any_dim=True)
        return Quantizer.fit(dtype, sample)

    def _batches(self, beside: bool) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Table | None]]:
        for rows, others in self.stream.batches(self.done, self.batch_size, beside):
            yield rows, self.bad.look(rows), others

    def _convert(self, rows: np.ndarray, form: Form) -> np.ndarray:
        return store_rows(self.encoder, rows, form, self.batch_size)


def _check_request(output: Path, dtype: str, dim: int | None, folder: bool) -> None:
    """Refuse what cannot be written, whatever the vectors are.

    Raises:
        InputError: an output that is none, or that cannot hold the dtype; a dim of codes.
    """
    suffix = output.suffix.lower()
    if folder:
        if output.exists() or suffix:
            why = "exists already" if output.exists() else "is the name of a file"
            raise SettingError("{output}: {engine} ray writes a new folder, but this {why}", output=output, why=why)
        check_place(output)
    else:
        check_output(output)
    is_code = dtype == StoredCode.dtype
    if suffix in (".fvecs", ".fbin") and is_code:
        template = "{output}: {suffix} holds no codes; .npy and .parquet do, or write latents by {dtype} float32"
        raise SettingError(template, output=output, suffix=suffix)
    if suffix in (".fvecs", ".fbin") and dtype != "float32":
        raise InputError(f"{output}: {suffix} holds float32 alone; .npy and .parquet hold {', '.join(DTYPES)}")
    if is_code and dim is not None:
        raise SettingError("{dim} cuts latents, but codes are of all dimensions; write latents by {dtype} float32")

"""DecodeJob: a file of codes -> a file of float32 latents."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dploss.codes.code import Code
from dploss.codes.encoded_file import Form, open_codes, read_origins
from dploss.codes.quantizer import Quantizer
from dploss.encoding.resumable import ResumableJob, Task, check_output
from dploss.errors import InputError


@dataclass(frozen=True)
class DecodeTask(Task):
    """What determines decoded latents.

    Attributes:
        decoded_from: absolute path of the codes.
    """

    decoded_from: str


class DecodeJob(ResumableJob):
    """One file of codes to decode. Nothing is written before `run`.

    Args:
        codes: .npy, .parquet or a folder of parquet, as encode.py wrote it, with its sidecar.
        output: .npy, .parquet (with the other columns of the codes), .fvecs or .fbin; replaced when the new one is
            complete. Its sidecar names the vectors that the codes were made from.
        code: that of the checkpoint; None if it has none.
        checkpoint: the file that the code was loaded from.
        experiment_id: of that checkpoint, if it has one.
        column: of the codes in parquet; the last if None.
        batch_size: rows at a time.

    Attributes:
        task: what determines the output.
        rows: N.
        done: number of rows decoded so far, by earlier runs too.

    Raises:
        InputError: codes that cannot be read, or that are not of this code.
    """

    def __init__(
        self,
        codes: Path,
        output: Path,
        code: Code | None,
        *,
        checkpoint: Path,
        experiment_id: str | None,
        column: str | None = None,
        batch_size: int = 8192,
    ) -> None:
        check_output(output)
        self.batch_size = batch_size
        self.stream, self.code = open_codes(codes, code, column)
        if any(output.absolute() == path.absolute() for path in self.stream.files):
            raise InputError(f"{output}: that is the input")
        origins = read_origins(codes)
        task = DecodeTask(
            experiment_id=experiment_id,
            checkpoint=str(checkpoint.absolute()),
            checkpoint_sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            source=self.stream.state(),
            data=origins.data,
            column=origins.column,
            rows=self.stream.rows,
            dtype="float32",
            dim=self.code.dim,
            decoded_from=str(codes.absolute()),
        )
        super().__init__(output, task, self.stream.column, str(codes))

    def _form(self) -> Form:
        return Quantizer("float32", self.code.dim)

    def _batches(self, beside: bool) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Table | None]]:
        for codes, present, others in self.stream.batches(self.done, self.batch_size, beside):
            self.bad.look_at_codes(present)
            yield codes, present, others

    def _convert(self, rows: np.ndarray, form: Form) -> np.ndarray:
        return self.code.decode(rows)

"""Encode a folder of parquet with Ray Data, on the cores of a machine or on a cluster.

https://docs.ray.io/en/latest/data/data.html
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dploss.codes.encoded_file import Form
from dploss.data.bad_rows import BadRows
from dploss.data.formats.arrow import arrow_file
from dploss.data.stream import VectorStream
from dploss.encoding.job import EncodeJob, allows_zeros, store_rows
from dploss.encoding.resumable import Task, convert_usable
from dploss.encoding.writers import ParquetWriter
from dploss.errors import InputError, SettingError
from dploss.files.atomic import move, remove_stale_temporaries
from dploss.files.untrusted import decoding
from dploss.models.base import Encoder

# Bytes of vectors that a worker encodes before it writes their codes.
_FLUSH_BYTES = 2**27
# In the schema of a part: the rows of it that could not be used.
_BAD_ROWS, _NONE = b"dploss.bad_rows", json.dumps(BadRows().as_dict())


@dataclass(frozen=True)
class _Part:
    """Rows start..stop of the vectors, and the file that their codes go to."""

    path: str
    start: int
    stop: int


def encode_with_ray(
    job: EncodeJob,
    device: str,
    advance: Callable[[int], None] = lambda rows: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Run a job with Ray. The output is a folder of parquet files, which hold the rows in the order of their names.

    The rows are split between row groups into parts. Each becomes a file of the folder, written by any free worker.

    Args:
        job: its source is parquet, its output a folder that does not exist yet; it has not run.
        device: of each worker: "cpu" or "cuda".
        advance: called with the number of rows of each finished part, and once with those of earlier runs.
        stop: called after every part; True stops the run.

    Returns:
        Whether the output is complete; False if stopped before the end: the next run resumes.

    Raises:
        InputError: Ray is not installed, rows cannot be encoded, or another run writes the same output.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SettingError("{engine} ray needs Ray: pip install 'dploss[ray]'") from error
    with job.locked() as form, _silent():
        job.partial.mkdir(exist_ok=True)
        job.save(form)
        remove_stale_temporaries(job.partial)
        folder = job.partial.absolute()
        parts = [
            _Part(path=str(folder / f"{index:06d}.parquet"), start=start, stop=stop_row)
            for index, (start, stop_row) in enumerate(job.stream.parts(job.batch_size))
        ]
        missing = [part for part in parts if not Path(part.path).exists()]
        job.done = job.rows - sum(part.stop - part.start for part in missing)
        advance(job.done)
        if missing:
            if not ray.is_initialized():
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            ray.data.DataContext.get_current().enable_progress_bars = False
            work = partial(_encode_part, job.task, device, job.batch_size, form)
            encoded = ray.data.from_items(list(map(asdict, missing)), override_num_blocks=len(missing)).map(
                work, num_gpus=1 if device == "cuda" else 0
            )
            try:
                for done in encoded.iter_rows():
                    if done["error"]:
                        raise InputError(done["error"])
                    job.done += done["rows"]
                    advance(done["rows"])
                    if stop() and job.done < job.rows:
                        return False
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                raise InputError(f"{job.stream.name}: Ray could not encode it: {reason}") from error
        for part in parts:
            job.bad.add(_bad_rows_of(Path(part.path)))
        job.finish(form, lambda output: move(job.partial, output))
    return True


def _encode_part(task: Task, device: str, batch_size: int, form: Form, row: Mapping[str, Any]) -> dict[str, int | str]:
    """The work of a worker: encode one part, given as a row of Ray Data, to its file, which is complete or absent.

    It runs on any machine of the cluster; all must have the checkpoint, the vectors and the output under the same paths
    as the machine that runs encode.py.
    """
    part = _Part(**row)
    try:
        _write_part(task, device, batch_size, form, part)
    except InputError as error:
        # Returned, not raised: Ray would wrap it in a long traceback.
        return {"rows": 0, "error": str(error)}
    return {"rows": part.stop - part.start, "error": ""}


def _write_part(task: Task, device: str, batch_size: int, form: Form, part: _Part) -> None:
    encoder = _encoder(task.checkpoint, device)
    stream = VectorStream(task.data, task.column)
    path = Path(part.path)
    writer = ParquetWriter(path.with_name(f".{path.stem}.tmp"), form, stream.column, 0)
    size = 0
    bad = BadRows(allows_zeros(encoder), part.start)
    for rows, others in stream.batches(part.start, batch_size, True, part.stop):
        usable = bad.look(rows)
        stored = convert_usable(rows, usable, form, lambda rows, form: store_rows(encoder, rows, form, batch_size))
        writer.append(stored, usable, others)
        size += rows.nbytes
        if size > _FLUSH_BYTES:
            writer.flush()
            size = 0
    # In the part itself: it is complete with its count, or absent.
    writer.finish(path, {_BAD_ROWS: json.dumps(bad.as_dict()).encode()} if bad.count else {})


def _bad_rows_of(path: Path) -> BadRows:
    """The rows of a finished part that could not be used."""
    with decoding(path, "not a readable parquet file"):
        file = pq.read_metadata(arrow_file(path))
        return BadRows.from_dict(json.loads((file.metadata or {}).get(_BAD_ROWS, _NONE)), n_rows=file.num_rows)


@cache
def _encoder(checkpoint: str, device: str) -> Encoder:
    """Load the encoder once per worker, which encodes many parts."""
    from dploss.models.build import load_encoder

    encoder = load_encoder(checkpoint)
    if encoder.code is not None:
        import numba

        # Every core has a worker of its own.
        numba.set_num_threads(1)
    return encoder.to(device)


@contextmanager
def _silent() -> Iterator[None]:
    """Disable all logging: Ray reconfigures its loggers at any time, so that no level set on them lasts."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)

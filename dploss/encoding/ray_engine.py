"""The same encoder over a folder of parquet with Ray Data, on the cores of a machine or on a cluster.

https://docs.ray.io/en/latest/data/data.html
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from dploss.codes.quantization import Codes
from dploss.data.stream import VectorStream
from dploss.encoding.job import EncodeJob
from dploss.encoding.writers import ParquetSink
from dploss.errors import InputError
from dploss.files.atomic import move, remove_stale_temporaries
from dploss.models.encoder import Encoder

# Bytes of vectors that a worker encodes before it writes their codes.
_FLUSH_BYTES = 2**27


def encode_with_ray(
    job: EncodeJob,
    device: str,
    advance: Callable[[int], None] = lambda rows: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Do a job with Ray; its output is a folder of parquet, whose files in the order of their names hold the rows.

    The rows are cut between row groups. Each part becomes a file of the folder, written by whatever worker has time.

    Args:
        job: of parquet, with a folder that is not there yet for its output; it has not run.
        device: where each worker encodes.
        advance: told of rows as they are done, or were by an earlier run.
        stop: asked after every part.

    Returns:
        Whether the output is there; False if stopped before, and then the next run goes on.

    Raises:
        InputError: Ray is not installed, rows cannot be encoded, or another run writes the same output.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("--engine ray needs Ray: pip install 'dploss[ray]'") from error
    with job.locked(), _silent():
        job.partial.mkdir(exist_ok=True)
        job.save()
        remove_stale_temporaries(job.partial)
        folder = job.partial.absolute()
        parts = [
            {"path": str(folder / f"{number:06d}.parquet"), "start": start, "stop": end}
            for number, (start, end) in enumerate(job.stream.parts(job.batch_size))
        ]
        missing = [part for part in parts if not Path(part["path"]).exists()]
        job.done = job.rows - sum(part["stop"] - part["start"] for part in missing)
        advance(job.done)
        if missing:
            if not ray.is_initialized():
                ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
            ray.data.DataContext.get_current().enable_progress_bars = False
            work = partial(_encode_part, job.task, device, job.batch_size, job.codes.as_dict())
            encoded = ray.data.from_items(missing, override_num_blocks=len(missing)).map(
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
        job.finish(lambda output: move(job.partial, output))
    return True


def _encode_part(
    task: Mapping[str, Any], device: str, batch_size: int, codes: Mapping[str, Any], part: Mapping[str, Any]
) -> dict[str, Any]:
    """What a worker does: rows start..stop to one file, which is whole or not there.

    It runs on whatever machine has room, which sees the checkpoint, the vectors and the output under the paths of the
    machine that asks.
    """
    rows = part["stop"] - part["start"]
    try:
        _write_part(task, device, batch_size, Codes.from_dict(codes), part)
    except InputError as error:
        # Ray would wrap it in pages of its own.
        return {"rows": 0, "error": str(error)}
    return {"rows": rows, "error": ""}


def _write_part(task: Mapping[str, Any], device: str, batch_size: int, codes: Codes, part: Mapping[str, Any]) -> None:
    encoder = _encoder(task["checkpoint"], device)
    stream = VectorStream(task["data"], task["column"])
    path = Path(part["path"])
    sink = ParquetSink(path.with_name(f".{path.stem}.tmp"), stream.column, 0)
    size = 0
    for rows, others in stream.batches(part["start"], batch_size, True, part["stop"]):
        sink.append(codes.encode(encoder.encode(rows, batch_size, codes.dim)), others)
        size += rows.nbytes
        if size > _FLUSH_BYTES:
            sink.flush()
            size = 0
    sink.finish(path)


@cache
def _encoder(checkpoint: str, device: str) -> Encoder:
    """Loaded once in a worker, which does many parts."""
    from dploss.models.build import load_encoder

    return load_encoder(checkpoint).to(device)


@contextmanager
def _silent() -> Iterator[None]:
    """Leave out what Ray's many loggers say on their way, which sets them up anew whenever it likes."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)

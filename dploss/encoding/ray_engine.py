"""The same encoder over a folder of parquet with Ray Data, on the cores of a machine or on a cluster.

https://docs.ray.io/en/latest/data/data.html
"""

import logging
from typing import Any

import pyarrow as pa

from dploss.encoding.codes import Codes, sidecar
from dploss.encoding.job import EncodeJob
from dploss.encoding.sinks import as_column
from dploss.errors import InputError
from dploss.files import remove, write_json


class _Encode:
    """What a worker holds: the encoder, loaded once."""

    def __init__(self, checkpoint: str, device: str, column: str, codes: dict[str, Any]) -> None:
        from dploss.devices import pick_device
        from dploss.models import load_encoder

        self.encoder = load_encoder(checkpoint).to(pick_device(device))
        self.column = column
        self.codes = Codes.from_dict(codes)

    def __call__(self, batch: pa.Table) -> pa.Table:
        from dploss.vectors.arrow_columns import to_rows
        from dploss.vectors.opening import check_values

        rows = to_rows("a batch", batch[self.column].combine_chunks(), 0, None).astype("float32")
        check_values("a batch", 0, rows)
        codes = self.codes.encode(self.encoder.encode(rows, dim=self.codes.dim))
        return batch.drop_columns(self.column).append_column(self.column, as_column(codes))


def encode_with_ray(job: EncodeJob, device: str) -> None:
    """Do a job with Ray; its output is a folder of parquet, whose files in the order of their names hold the rows.

    Args:
        job: of parquet, with a folder that is not there yet for its output; it has not run.
        device: where each worker encodes.

    Raises:
        InputError: Ray is not installed, or could not do it.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("--engine ray needs Ray: pip install 'dploss[ray]'") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    codes = job.fitted_codes()
    remove(job.partial)
    gpus = 1 if device == "cuda" else 0
    try:
        encoded = ray.data.read_parquet([str(path.absolute()) for path in job.stream.files]).map_batches(
            _Encode,
            fn_constructor_args=(job.task["checkpoint"], device, job.stream.column, codes.as_dict()),
            batch_format="pyarrow",
            batch_size=job.batch_size,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=None),
            num_gpus=gpus,
        )
        encoded.write_parquet(str(job.partial.absolute()))
    except ray.exceptions.RayError as error:
        raise InputError(
            f"{job.stream.name}: Ray could not encode it: {str(error).strip().splitlines()[-1]}"
        ) from error
    job.partial.rename(job.output)
    write_json(sidecar(job.output), job.about(codes))

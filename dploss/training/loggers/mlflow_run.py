"""A training as a run of MLflow. Needs the extra `mlflow`: pip install 'dploss[mlflow]'."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from dploss.errors import InputError
from dploss.experiments.record import ExperimentRecord
from dploss.files.atomic import write_json
from dploss.files.untrusted import read_json

RUN_FILE = "mlflow_run.json"
_STATUS = {"completed": "FINISHED", "interrupted": "KILLED"}


class MlflowRun:
    """The run's id is in the experiment's folder, so that a training that resumes continues it.

    The variables of the environment are MLflow's own: MLFLOW_TRACKING_URI (without it mlflow.db in the folder that the
    training was started in), MLFLOW_EXPERIMENT_NAME (without it dploss).

    Args:
        folder: the experiment's.
        record: what config.json says.
    """

    def __init__(self, folder: Path, record: ExperimentRecord) -> None:
        self._client = MlflowClient()
        self._id = self._resumed(folder / RUN_FILE) or self._started(folder, record)

    def _started(self, folder: Path, record: ExperimentRecord) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "dploss")
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        tags = {"dploss.experiment_id": folder.absolute().name}
        run = self._client.create_run(experiment_id, run_name=folder.absolute().name[:8], tags=tags).info.run_id
        params = [Param(key, str(value)) for key, value in _flat(record.as_dict()) if value is not None]
        self._client.log_batch(run, params=params)
        write_json(folder / RUN_FILE, {"run_id": run})
        return run

    def _resumed(self, path: Path) -> str | None:
        """The id of the run that an earlier start of the training made, if the server has it."""
        if not path.exists():
            return None
        stored = read_json(path, "not a readable run of MLflow")
        run = stored.get("run_id") if isinstance(stored, dict) else None
        if not isinstance(run, str):
            raise InputError(f"{path}: it names no run of MLflow: delete it to log to a new one")
        try:
            self._client.update_run(run, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See `Logger`."""
        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[Metric(tag, value, now, step) for tag, value in values.items()])

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """See `Logger`."""
        self._client.log_image(self._id, image, key=tag, step=step)

    def close(self, summary: Mapping[str, float | str]) -> None:
        """See `Logger`."""
        now, step = int(1000 * time.time()), int(summary["step"])
        numbers = {name: value for name, value in summary.items() if not isinstance(value, str)}
        self._client.log_batch(
            self._id,
            metrics=[Metric(f"summary/{name}", value, now, step) for name, value in numbers.items()],
            tags=[RunTag(name, value) for name, value in summary.items() if isinstance(value, str)],
        )
        self._client.set_terminated(self._id, _STATUS.get(str(summary["status"]), "FAILED"))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested settings: data.path, versions.torch."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

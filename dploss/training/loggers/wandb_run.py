"""A training as a run of Weights & Biases. Needs the extra `wandb`: pip install 'dploss[wandb]'."""

import os
from collections.abc import Mapping
from pathlib import Path

import wandb
from PIL import Image

from dploss.experiments.record import ExperimentRecord

_STEP = "step"
# After that long without a network the rest is left on the disk, for `wandb sync`.
_FINISH_SECONDS = 300


class WandbRun:
    """The run has the id of the experiment, so that a training that resumes continues it.

    The variables of the environment are wandb's own: WANDB_PROJECT (without it dploss), WANDB_ENTITY, WANDB_MODE
    (offline, disabled), WANDB_API_KEY.

    Args:
        folder: the experiment's, where wandb keeps its files.
        record: what config.json says.
    """

    def __init__(self, folder: Path, record: ExperimentRecord) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "dploss"),
            id=folder.absolute().name,
            name=folder.absolute().name[:8],
            dir=str(folder),
            config=record.as_dict(),
            resume="allow",
            allow_val_change=True,
            settings=wandb.Settings(console="off", silent=record.config.quiet, finish_timeout=_FINISH_SECONDS),
        )
        # Steps of our own: wandb's must rise, and a training may resume before the last that was logged.
        self._run.define_metric(_STEP)
        self._run.define_metric("*", step_metric=_STEP)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See `Logger`."""
        self._run.log({**values, _STEP: step})

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """See `Logger`."""
        self._run.log({tag: wandb.Image(image), _STEP: step})

    def close(self, summary: Mapping[str, float | str]) -> None:
        """See `Logger`."""
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=int(summary["status"] == "failed"))

"""What TensorBoard shows of a training: losses, recall, evaluations and sample images, in tensorboard_logs/."""

import io
import os
import platform
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dploss.text import metric_title
from metrics.table import ERROR_SUFFIX

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

FOLDER = "tensorboard_logs"
_OPENED = count()


class TensorBoardLog:
    """Writes event files with the tensorboard package alone, which starts faster than torch's wrapper of it.

    Every event is on its way to the disk when a method returns: a killed process has lost none, and a write that fails
    raises OSError where it happens, not in a thread of its own.

    Args:
        folder: the experiment's.
        step: where the training resumes; what an earlier run logged beyond it is hidden.
        enabled: False writes nothing.
    """

    def __init__(self, folder: Path, step: int, enabled: bool) -> None:
        self._writer = None
        if not enabled:
            return
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        (folder / FOLDER).mkdir(exist_ok=True)
        # TensorBoard looks for "tfevents", and reads the files in the order of their names.
        unique = f"{time.time():017.6f}.{platform.node()}.{os.getpid()}.{next(_OPENED)}"
        file = open(folder / FOLDER / f"events.out.tfevents.{unique}", "xb")  # noqa: SIM115, for `close` closes it
        self._writer = RecordWriter(file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if step:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Log numbers by their tags; None is left out."""
        if self._writer is not None:
            self._add(
                [
                    self._summary.Value(tag=tag, simple_value=value)
                    for tag, value in values.items()
                    if value is not None
                ],
                step,
            )

    def epoch(self, losses: Sequence[float], learning_rate: float, step: int) -> None:
        """Log an epoch's total, rank and pair distance loss, and its last learning rate."""
        tags = ("Loss/Total", "Loss/Rank", "Loss/Pair_Distance", "Learning_Rate")
        self.scalars(dict(zip(tags, (*losses, learning_rate), strict=True)), step)

    def evaluation(self, metrics: Mapping[str, Any], is_best: bool, step: int) -> None:
        """Log what was measured of a checkpoint; standard errors are in its history."""
        measured = {
            f"Evaluation/{metric_title(name).replace(' ', '_')}": value
            for name, value in metrics.items()
            if isinstance(value, float) and not name.endswith(ERROR_SUFFIX)
        }
        self.scalars({**measured, "Evaluation/IsBest": float(is_best)}, step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """Log an image."""
        if self._writer is not None:
            file = io.BytesIO()
            image.save(file, "PNG")
            encoded = self._summary.Image(
                height=image.height, width=image.width, colorspace=3, encoded_image_string=file.getvalue()
            )
            self._add([self._summary.Value(tag=tag, image=encoded)], step)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, values: list[Any], step: int) -> None:
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def _write(self, event: "Event") -> None:
        assert self._writer is not None
        self._writer.write(event.SerializeToString())
        self._writer.flush()

"""What TensorBoard shows of a training: losses, recall, evaluations and sample images, in tensorboard_logs/."""

import io
import os
import platform
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

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
    """

    def __init__(self, folder: Path, step: int) -> None:
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

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See `Logger`."""
        self._add([self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()], step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """See `Logger`."""
        file = io.BytesIO()
        image.save(file, "PNG")
        encoded = self._summary.Image(
            height=image.height, width=image.width, colorspace=3, encoded_image_string=file.getvalue()
        )
        self._add([self._summary.Value(tag=tag, image=encoded)], step)

    def close(self, summary: Mapping[str, float | str]) -> None:
        """Close the file; the result has been logged as it was measured."""
        self._writer.close()

    def _add(self, values: list[Any], step: int) -> None:
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def _write(self, event: "Event") -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()

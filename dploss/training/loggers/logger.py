"""What every logger does, and a guard that lets a training outlive its logger."""

from collections.abc import Callable, Mapping
from typing import Protocol

from PIL import Image

from dploss.errors import one_line


class Logger(Protocol):
    """Takes what a training measures, as it is measured. A step is the number of optimizer steps done."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by their tags."""

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """Log an image."""

    def close(self, summary: Mapping[str, float | str]) -> None:
        """End the log with the result of the training, whose "status" is as in its history."""


class Guarded:
    """A logger that, when it fails, is left alone: a line says so once, and the training continues.

    Args:
        logger: of a service that may be out of reach.
        name: of the service.
        warn: called with the line.
    """

    def __init__(self, logger: Logger, name: str, warn: Callable[[str], None]) -> None:
        self._logger: Logger | None = logger
        self._name, self._warn = name, warn

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See `Logger`."""
        self._do(lambda logger: logger.scalars(values, step))

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """See `Logger`."""
        self._do(lambda logger: logger.image(tag, image, step))

    def close(self, summary: Mapping[str, float | str]) -> None:
        """See `Logger`."""
        self._do(lambda logger: logger.close(summary))

    def _do(self, action: Callable[[Logger], None]) -> None:
        if self._logger is None:
            return
        try:
            action(self._logger)
        except Exception as error:
            # Its errors are of any kind: of a network, a disk, a server, a library of its own.
            self._logger = None
            reason = one_line(str(error)) or type(error).__name__
            self._warn(f"{self._name} logs no more of this training, which continues: {reason}")

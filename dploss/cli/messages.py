"""Messages on stderr: lines of a terminal's width, or one line each where a file or a program takes them."""

import logging
import sys
from typing import TextIO

from dploss.text import terminal_width, wrapped


def message_lines(text: str, stream: TextIO) -> list[str]:
    """A message as lines that a terminal does not break; anywhere else it stays one, for grep and logs."""
    width = terminal_width(stream)
    if width is None:
        return text.split("\n")
    return [line for part in text.split("\n") for line in wrapped(part, indent=2, width=width)]


class MessageHandler(logging.Handler):
    """Prints what the libraries log as messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        for line in message_lines(self.format(record), sys.stderr):
            print(line, file=sys.stderr)

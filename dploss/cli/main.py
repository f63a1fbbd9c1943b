"""What every script does: parse, act, one line for what goes wrong, exit codes; a Ctrl-C that stops cleanly."""

import argparse
import codecs
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from dploss.cli.names import as_started
from dploss.config import flag_name
from dploss.errors import InputError, SettingError, one_line

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """A parser that keeps the help's line breaks, and whose errors are one line.

    Args:
        script: the file's name; --help and errors call it as it was started.
        doc: the script's docstring, with "Examples" on a line of its own; None under `python -OO`, which has none.
    """

    def __init__(self, script: str, doc: str | None) -> None:
        about, heading, examples = as_started(doc or "").partition("\n\nExamples")
        super().__init__(
            prog=as_started(script),
            description=about,
            epilog=heading.strip() + examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help shows the flags)\n")


def run(action: Callable[[argparse.Namespace], int], parser: Parser, argv: Sequence[str] | None) -> int:
    """Parse the flags and do `action`.

    Returns:
        What the action returns; 2 for input that cannot be used, 1 for a file that cannot be written or memory that
        does not suffice, 130 for Ctrl-C; for these the reason is one line on stderr.
    """
    print_anything()
    try:
        return action(parser.parse_args(argv))
    except InputError as error:
        message = error.named(flag_name) if isinstance(error, SettingError) else str(error)
        print(f"{parser.prog}: {as_started(message)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output, `| head` say, has all that it wanted; the interpreter would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        # torch has no error of its own for a CPU that is out of memory.
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        print(f"{parser.prog}: out of memory: {one_line(str(error))}; fewer rows or smaller sizes", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED


def print_anything() -> None:
    """Let stdout take what its encoding lacks: the bytes of names that are not UTF-8 as they are, else escapes."""

    def encoded(error: UnicodeError) -> tuple[bytes, int]:
        assert isinstance(error, UnicodeEncodeError)
        left_out = error.object[error.start : error.end]
        try:
            return left_out.encode("ascii", "surrogateescape"), error.end
        except UnicodeEncodeError:
            return left_out.encode("ascii", "backslashreplace"), error.end

    codecs.register_error("dploss", encoded)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="dploss")


@contextmanager
def interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a flag to look at; the second one stops at once.

    Yields:
        A function that says whether a stop was asked for.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

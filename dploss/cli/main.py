"""What every script does: parse, act, one line for what goes wrong, exit codes; a Ctrl-C that stops cleanly."""

import argparse
import codecs
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill
from types import FrameType
from typing import Any, NoReturn

from dploss.cli.messages import MessageHandler
from dploss.cli.names import as_started
from dploss.config import flag_name
from dploss.errors import InputError, SettingError, one_line
from dploss.text import did_you_mean

INTERRUPTED = 130


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps paragraphs to the terminal, and keeps the lines of examples, which are indented, as they are written."""

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        """The arguments alone: flags follow one by one, and here would fill the screen."""
        arguments = [str(one.metavar or one.dest) for one in actions if not one.option_strings]
        super().add_usage(" ".join(["%(prog)s", "[FLAGS]", *arguments]), actions, groups, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(one if "\n  " in one else fill(one, width, break_on_hyphens=False) for one in paragraphs)


class Parser(argparse.ArgumentParser):
    """A parser whose help fits the terminal, and whose errors are one line, with the word that was probably meant.

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
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse; a flag that there is not is an error, which names the one that is near."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [one.partition("=")[0] for one in unknown if one.startswith("-")]
            hint = next(filter(None, (did_you_mean(flag, self._option_string_actions) for flag in flags)), "")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            meant = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(action, f"invalid choice: {value!r} (choose from {', '.join(choices)}){meant}")

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
    logging.basicConfig(handlers=[MessageHandler()], format="%(message)s")
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

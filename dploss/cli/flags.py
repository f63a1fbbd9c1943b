"""What the scripts share: flags made from TrainConfig's fields, one-line errors, exit codes."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from dploss.config import TrainConfig
from dploss.config_field import flag_name
from dploss.errors import InputError, one_line
from dploss.experiments.catalog import Experiment, finished_experiment, finished_experiments
from dploss.experiments.layout import LATEST
from dploss.tracking.state import BEST

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """A parser that keeps the help's line breaks, and whose errors are one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help shows the flags)\n")


def run(action: Callable[[argparse.Namespace], int], parser: Parser, argv: Sequence[str] | None) -> int:
    """Parse the flags and do `action`.

    Returns:
        What the action returns; 2 for input that cannot be used, 1 for a file that cannot be written or memory that
        does not suffice, 130 for Ctrl-C; for these the reason is one line on stderr.
    """
    args = parser.parse_args(argv)
    try:
        return action(args)
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
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


def add_experiment_flags(parser: Parser) -> None:
    """Flags that choose one experiment."""
    parser.add_argument(
        "--experiment_id",
        "--experiment-id",
        metavar="ID",
        help="the experiment: its UUID, a unique prefix, or a path (default: the newest)",
    )
    parser.add_argument(
        "--checkpoints-dir",
        metavar="DIR",
        default=TrainConfig.checkpoints_dir,
        help="the folder of all experiments (default: %(default)s)",
    )


def named_or_newest(args: argparse.Namespace) -> Experiment:
    """The experiment of `add_experiment_flags`: the named one, or the newest with a finished epoch.

    Raises:
        InputError: there is none.
    """
    if args.experiment_id is not None:
        return finished_experiment(args.checkpoints_dir, args.experiment_id)
    (experiment, *_), skipped = finished_experiments(args.checkpoints_dir)
    report_skipped(skipped)
    return experiment


def checkpoint_of(args: argparse.Namespace) -> Path:
    """The checkpoint that --checkpoint names, or the best, else the latest, of the experiment that is meant.

    Raises:
        InputError: there is none, or both were given.
    """
    if args.checkpoint and args.experiment_id:
        raise InputError("--checkpoint and --experiment_id both name an encoder: give one")
    if args.checkpoint:
        return Path(args.checkpoint)
    folder = named_or_newest(args).folder
    for name in (BEST, LATEST):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: neither {BEST} nor {LATEST} in it")


def report_skipped(lines: Sequence[str]) -> None:
    """Name on stderr the folders that were left out."""
    for line in lines:
        print(f"skipped: {line}", file=sys.stderr)


def add_settings(parser: Parser) -> None:
    """Give the parser a flag for every field of TrainConfig, in the fields' groups.

    A flag that is not given leaves nothing in the namespace, so that the caller can tell it from its default.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in fields(TrainConfig):
        about = setting.metadata
        if about["group"] not in groups:
            groups[about["group"]] = parser.add_argument_group(about["group"])
        options: dict[str, Any] = {"help": about["help"] + _default_note(about["defaults"], about["env"])}
        if about["kind"] is bool:
            switchable = about["defaults"][0] != about["defaults"][1]
            options["action"] = argparse.BooleanOptionalAction if switchable else "store_true"
        elif about["kind"] is tuple:
            options |= {"type": _whole_numbers, "nargs": "*", "metavar": "N", "action": _Joined}
        else:
            options |= {"type": about["kind"], "choices": about["choices"]}
        groups[about["group"]].add_argument(flag_name(setting.name), default=argparse.SUPPRESS, **options)


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


_whole_numbers.__name__ = "whole numbers"


class _Joined(argparse.Action):
    """32,64 and 32 64 alike become (32, 64)."""

    def __call__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, values: Any, flag: str | None = None
    ) -> None:
        """Join the parts."""
        setattr(args, self.dest, tuple(number for part in values for number in part))


def _default_note(defaults: tuple[Any, Any], env: str | None) -> str:
    vectors, images = (" ".join(map(str, one)) if isinstance(one, tuple) else one for one in defaults)
    if vectors in (None, "") or images is False:
        return ""
    other = f", with --images {images}" if images != vectors else ""
    return f" (default: {vectors}{other}{f'; ${env} changes it' if env else ''})"


def environment_settings() -> dict[str, Any]:
    """The settings that environment variables give: SAVE_INTERVAL, DEVICE.

    Raises:
        InputError: a variable of the wrong type.
    """
    given = {}
    for setting in fields(TrainConfig):
        text = os.environ.get(setting.metadata["env"] or "")
        if text:
            try:
                given[setting.name] = setting.metadata["kind"](text)
            except ValueError:
                raise InputError(
                    f"{setting.metadata['env']} in the environment must be a number, got {text!r}"
                ) from None
    return given


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

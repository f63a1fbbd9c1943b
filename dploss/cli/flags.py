"""Flags that scripts share: those of TrainConfig's settings, and those that choose an experiment or a checkpoint."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dploss.cli.main import Parser
from dploss.config import OPTIONS, Option, TrainConfig, flag_name
from dploss.errors import InputError
from dploss.experiments.catalog import (
    Experiment,
    checkpoint_in,
    find_checkpoint,
    finished_experiment,
    finished_experiments,
)
from dploss.text import did_you_mean


class PathFlag(argparse.Action):
    """A flag whose value is the path of a file or folder, `~` expanded."""

    def __call__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, value: Any, flag: str | None = None
    ) -> None:
        """Keep the path.

        Raises:
            InputError: it is empty.
        """
        if value != self.const and not value.strip():
            raise InputError(f"{flag or self.metavar} must be the path of a file or folder, got {value!r}")
        setattr(args, self.dest, os.path.expanduser(value))


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
        action=PathFlag,
        default=TrainConfig.checkpoints_dir,
        help="the folder of all experiments (default: %(default)s)",
    )


def add_checkpoint_flag(parser: Parser) -> None:
    """A flag that names an encoder, instead of `add_experiment_flags`; `checkpoint_of` reads them."""
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        action=PathFlag,
        help="a checkpoint, or a folder that share.py wrote, instead of an experiment's best or latest",
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
    """The encoder that --checkpoint names, or that of the experiment that is meant.

    Raises:
        InputError: there is none, or both were given.
    """
    if args.checkpoint and args.experiment_id:
        raise InputError("--checkpoint and --experiment_id both name an encoder: give one")
    if args.checkpoint:
        return find_checkpoint(args.checkpoint, args.checkpoints_dir)
    return checkpoint_in(named_or_newest(args).folder)


def report_skipped(lines: Sequence[str]) -> None:
    """Name on stderr the folders that were left out."""
    for line in lines:
        print(f"skipped: {line}", file=sys.stderr)


def add_settings(parser: Parser, alone: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Give the parser a flag for every setting of TrainConfig, in the settings' groups.

    A flag that is not given leaves nothing in the namespace, so that the caller can tell it from its default.

    Args:
        parser: of the script.
        alone: settings whose flags may be given without a value, and what they are then.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, setting in OPTIONS.items():
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        add = partial(
            groups[setting.group].add_argument,
            flag_name(name),
            default=argparse.SUPPRESS,
            help=setting.help + _default_note(setting),
        )
        if setting.kind is bool and name.startswith("no_"):
            add(action="store_true")
            # Hidden, for what --config says.
            positive = flag_name(name.removeprefix("no_"))
            groups[setting.group].add_argument(
                positive, dest=name, action="store_false", default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
        elif setting.kind is bool:
            add(action=argparse.BooleanOptionalAction)
        elif setting.kind is tuple:
            add(type=_whole_numbers, nargs="*", metavar="N", action=_Joined)
        else:
            optional: dict[str, Any] = {"nargs": "?", "const": alone[name]} if name in alone else {}
            if setting.kind is float and setting.choices:
                add(type=partial(_number_or_word, setting.choices), metavar=setting.metavar, **optional)
            else:
                add(type=setting.kind, choices=setting.choices or None, metavar=setting.metavar, **optional)


def _number_or_word(words: Sequence[str], text: str) -> float | str:
    try:
        return text if text in words else float(text)
    except ValueError:
        message = f"must be a number or {', '.join(words)}, got {text!r}{did_you_mean(text, words)}"
        raise argparse.ArgumentTypeError(message) from None


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


def _default_note(setting: Option) -> str:
    vectors, images = (
        " ".join(map(str, one)) if isinstance(one, tuple) else one for one in (setting.default, setting.image_default)
    )
    if vectors in (None, "") or images is False:
        return ""
    other = f", with --images {images}" if images != vectors else ""
    return f" (default: {vectors}{other}{f'; ${setting.env} changes it' if setting.env else ''})"


def environment_settings() -> dict[str, int | str]:
    """The settings that environment variables give: SAVE_INTERVAL, DEVICE.

    Raises:
        InputError: a variable of the wrong type.
    """
    given = {}
    for name, setting in OPTIONS.items():
        text = os.environ.get(setting.env or "")
        if text:
            try:
                given[name] = setting.kind(text)
            except ValueError:
                raise InputError(f"{setting.env} in the environment must be a number, got {text!r}") from None
    return given

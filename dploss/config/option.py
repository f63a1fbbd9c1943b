"""A setting as its flag and its checks need it; type and choices come from the field's annotation."""

import os
import sys
from dataclasses import dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dploss.arguments import plain
from dploss.errors import SettingError
from dploss.text import did_you_mean

_LARGEST = 2**32
# What stands in --help for a path.
_PATHS = ("PATH", "FOLDER", "DIR", "FILE")
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


class _Unset:
    """The default of a field whose default depends on what is trained on."""

    def __repr__(self) -> str:
        return "<default>"


UNSET: Any = _Unset()


class NotGiven(int):
    """A default that gives way to what suits the vectors: the same number, given, does not."""


class WidthsNotGiven(tuple):
    """Such a default of several numbers."""


@dataclass(frozen=True)
class Option:
    """A setting.

    Attributes:
        name: of the field, and the key of config.json.
        kind: int, float, bool, str, or tuple (of whole numbers).
        choices: the values that text may have, any if empty; of a number, the words that may stand in its place.
        optional: whether None is a value.
        default: of a training on vectors.
        image_default: of a training on images.
        group: the heading of its flag in --help.
        help: what its flag does.
        metavar: what stands for the value in --help; None where the flag takes none, or one of `choices`.
        at_least, at_most, above, below, multiple_of: limits of a number; None where there is none.
        env: the environment variable that gives it too.
        on_resume: whether it may be given anew when resuming.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    optional: bool
    default: Any
    image_default: Any
    group: str
    help: str
    metavar: str | None
    at_least: float | None
    at_most: float | None
    above: float | None
    below: float | None
    multiple_of: int | None
    env: str | None
    on_resume: bool

    @property
    def is_path(self) -> bool:
        """Whether the value is the path of a file or folder."""
        return self.metavar in _PATHS

    def checked(self, value: Any) -> Any:
        """A value as the setting has it: numbers of Python, several of them as a tuple, a path as text, `~` expanded.

        Args:
            value: also as NumPy or torch have it.

        Raises:
            SettingError: a value of the wrong type or outside its range.
        """
        value = plain(value)
        if value is None and self.optional:
            return None
        several = self.kind is tuple
        if several and not isinstance(value, list | tuple):
            raise SettingError(f"{{{self.name}}} must be a list of whole numbers, got {{value!r}}", value=value)
        parts = [plain(part) for part in value] if several else [value]
        for part in parts:
            expected = self._expected(part)
            if expected:
                meant = did_you_mean(part, self.choices) if isinstance(part, str) else ""
                template = f"{{{self.name}}} must be {{expected}}, got {{value!r}}{{meant}}"
                raise SettingError(template, expected=expected, value=part, meant=meant)
        if several:
            return tuple(parts)
        return os.path.expanduser(value) if self.is_path else value

    def _expected(self, value: Any) -> str | None:
        """What `value` must be and is not, or None."""
        kind = int if self.kind is tuple else self.kind
        words = self.choices if kind is float else ()
        if value in words:
            return None
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits:
            return " or ".join([_KINDS[kind], *words])
        if self.is_path and not value.strip():
            return "the path of a file or folder"
        if self.choices and kind is str and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if kind is float and not abs(value) <= sys.float_info.max:
            return "finite"
        if self.at_least is not None and value < self.at_least:
            return f"at least {self.at_least}"
        at_most = self.at_most or (_LARGEST if kind is int else None)
        if at_most is not None and value > at_most:
            return f"at most {at_most}"
        if self.above is not None and value <= self.above:
            return f"above {self.above}"
        if self.multiple_of is not None and value % self.multiple_of:
            return f"a multiple of {self.multiple_of}"
        if self.below is not None and value >= self.below:
            return f"below {self.below}"
        return None


def option(
    default: Any,
    group: str,
    help: str,
    *,
    with_images: Any = None,
    metavar: str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    multiple_of: int | None = None,
    env: str | None = None,
    on_resume: bool = False,
) -> Any:
    """A field of a settings class; the arguments are `Option`'s, `with_images` its image_default where it differs."""
    metadata = {
        "default": default,
        "image_default": default if with_images is None else with_images,
        "group": group,
        "help": help,
        "metavar": metavar,
        "at_least": at_least,
        "at_most": at_most,
        "above": above,
        "below": below,
        "multiple_of": multiple_of,
        "env": env,
        "on_resume": on_resume,
    }
    return field(default=default if with_images is None else UNSET, metadata=metadata)


def options_of(settings: type) -> dict[str, Option]:
    """The options of a dataclass whose fields were made by `option`, by name, in their order."""
    hints = get_type_hints(settings)
    return {item.name: _option(item.name, hints[item.name], item.metadata) for item in fields(settings)}


def _option(name: str, hint: Any, metadata: Any) -> Option:
    kinds = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
    choices = tuple(word for one in kinds if get_origin(one) is Literal for word in get_args(one))
    (kind,) = [one for one in kinds if one is not NoneType and get_origin(one) is not Literal] or [str]
    kind = tuple if get_origin(kind) is tuple else kind
    metavar = metadata["metavar"] or {int: "N", float: "X", str: None if choices else "TEXT"}.get(kind)
    about = {**metadata, "metavar": metavar}
    return Option(name=name, kind=kind, choices=choices, optional=NoneType in kinds, **about)


def flag_name(name: str) -> str:
    """The flag of a setting: latent_dim -> --latent-dim."""
    return "--" + name.replace("_", "-")

"""What a setting is: a field of TrainConfig that knows its flag, its help and its limits."""

import sys
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from dploss.errors import InputError


def setting(
    default: Any,
    group: str,
    help: str,
    *,
    kind: type,
    choices: tuple[str, ...] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    multiple: int | None = None,
    below: float | None = None,
    env: str | None = None,
    on_resume: bool = False,
    with_images: Any = None,
) -> Any:
    """A field with what the flag needs to know.

    `on_resume`: may be given anew when resuming. `with_images`: the default of a training on images, where it is
    another; the field itself is then None until the config is made.
    """
    metadata = {
        "group": group,
        "help": help,
        "kind": kind,
        "choices": choices,
        "at_least": at_least,
        "at_most": at_most,
        "above": above,
        "multiple": multiple,
        "below": below,
        "env": env,
        "on_resume": on_resume,
        "defaults": (default, default if with_images is None else with_images),
    }
    return field(default=default if with_images is None else None, metadata=metadata)


def flag_name(name: str) -> str:
    """The flag of a field: latent_dim -> --latent-dim."""
    return "--" + name.replace("_", "-")


_LARGEST = 2**32
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def check(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    """Refuse a value that a setting cannot have.

    Args:
        name: of the setting, as whoever gave the value knows it.
        value: of the setting.
        limits: the metadata of its field.

    Raises:
        InputError: a value of the wrong type or outside its range; the message names it.
    """
    several = limits["kind"] is tuple
    if several and not isinstance(value, list | tuple):
        raise InputError(f"{name} must be a list of whole numbers, got {value!r}")
    for part in value if several else [value]:
        wrong = _problem(part, limits)
        if wrong:
            raise InputError(f"{name} must be {wrong}, got {part!r}")


def _problem(value: Any, limits: Mapping[str, Any]) -> str | None:
    """What `value` must be and is not, or None."""
    kind = int if limits["kind"] is tuple else limits["kind"]
    if type(value) is not kind and not (kind is float and type(value) is int):
        return _KINDS[kind]
    if limits["choices"] and value not in limits["choices"]:
        return "one of " + ", ".join(limits["choices"])
    if kind is float and not abs(value) <= sys.float_info.max:
        return "finite"
    if limits["at_least"] is not None and value < limits["at_least"]:
        return f"at least {limits['at_least']}"
    at_most = limits["at_most"] or (_LARGEST if kind is int else None)
    if at_most is not None and value > at_most:
        return f"at most {at_most}"
    if limits["above"] is not None and value <= limits["above"]:
        return f"above {limits['above']}"
    if limits["multiple"] is not None and value % limits["multiple"]:
        return f"a multiple of {limits['multiple']}"
    if limits["below"] is not None and value >= limits["below"]:
        return f"below {limits['below']}"
    return None

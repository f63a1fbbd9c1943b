"""--config: the settings of a training from a file, TOML or an experiment's config.json."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dploss.config import OPTIONS
from dploss.errors import InputError
from dploss.experiments.record import Origin
from dploss.files.untrusted import decoding, read_json, regular_file

# What config.json has beside settings, that of an encoder that is shared too.
_ABOUT = {*(field.name for field in fields(Origin)), "input_dim", "split", "epoch", "step", "stored_code"}
# A flag takes the place of two settings of the file, where one of them would decide alone.
_ALSO_REPLACES = {"data": "images", "matryoshka": "matryoshka_dims"}


def settings_of_file(file: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a file, each checked, and those that flags give in their place.

    Args:
        file: .toml, of keys as latent_dim or latent-dim; or .json, as an experiment's config.json.
        flags: settings that were given as flags.

    Raises:
        InputError: no such file, not TOML or JSON, or a key or value that is no setting's.
    """
    path = Path(os.path.expanduser(file))
    settings = {name: _checked(path, name, value) for name, value in _settings(path, _content(path)).items()}
    for flag, other in _ALSO_REPLACES.items():
        if flag in flags:
            settings.pop(other, None)
    return {**settings, **flags}


def _content(path: Path) -> dict[str, Any]:
    if path.suffix not in (".toml", ".json"):
        raise InputError(f"{path}: settings are read from .toml or .json")
    if path.suffix == ".toml":
        with decoding(path, "not readable TOML"):
            return tomllib.loads(regular_file(path).read_text(encoding="utf-8"))
    content = read_json(path, "not readable JSON")
    if not isinstance(content, dict):
        raise InputError(f"{path}: it holds no JSON object")
    return content


def _settings(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by their names; `data` of config.json, an object, tells of the rows, and its path is the setting."""
    settings: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name in OPTIONS:
            if name in settings:
                raise InputError(f"{path}: {name} is in it twice, with - and with _")
            settings[name] = value
        elif name not in _ABOUT:
            near = get_close_matches(name, OPTIONS, 1)
            hint = f"did you mean {near[0]}?" if near else "train.py --help shows them, as --latent-dim for latent_dim"
            hint = "settings are keys outside of tables, as latent_dim = 128" if isinstance(value, Mapping) else hint
            raise InputError(f"{path}: {key} is no setting; {hint}")
    data = settings.get("data")
    if isinstance(data, Mapping) and "path" in data:
        settings["images" if settings.get("images") is not None else "data"] = data["path"]
        if settings.get("images") is not None:
            del settings["data"]
    return settings


def _checked(path: Path, name: str, value: Any) -> Any:
    try:
        return OPTIONS[name].checked(value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error

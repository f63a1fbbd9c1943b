"""The folder of an encoder that is shared: model.safetensors, config.json and README.md, none of them pickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dploss.errors import InputError
from dploss.experiments.layout import CARD, CONFIG, SHARED, load_config
from dploss.files.atomic import atomic_write, json_text
from dploss.files.untrusted import decoding, regular_file

# Beside the keys of an experiment's config.json: which weights they are, and which code is among them.
_EPOCH, _STEP, _STORED_CODE = "epoch", "step", "stored_code"
_WEIGHTS, _CODE = "encoder.", "code."


def write_shared(folder: Path, checkpoint: Mapping[str, Any], card: str) -> None:
    """Write an encoder's files to a folder, which is made if need be.

    Args:
        folder: none of the files is in it yet.
        checkpoint: a `Checkpoint`, of which only the encoder and its code are written.
        card: the content of README.md.

    Raises:
        InputError: one of the files exists.
        OSError: the folder cannot be written; nothing is left in it then.
    """
    from safetensors.torch import save

    present = [name for name in (SHARED, CONFIG, CARD) if (folder / name).exists()]
    if present:
        raise InputError(f"{folder}: {present[0]} is in it already; name a new folder")
    code = checkpoint.get("code")
    tensors = {_WEIGHTS + name: weights for name, weights in checkpoint["model_state_dict"].items()}
    config = {**checkpoint["config"], _EPOCH: checkpoint["epoch"], _STEP: checkpoint["step"], _STORED_CODE: None}
    if code is not None:
        tensors |= {_CODE + name: array for name, array in code["arrays"].items()}
        config[_STORED_CODE] = {"name": code["name"], "bytes": code["bytes"]}
    contents = {
        CARD: card.encode(errors="replace"),
        CONFIG: json_text(config).encode() + b"\n",
        SHARED: save({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, {"format": "pt"}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, content in contents.items():
            with atomic_write(folder / name) as file:
                file.write(content)
    except BaseException:
        for name in contents:
            (folder / name).unlink(missing_ok=True)
        raise


def read_shared(path: Path) -> dict[str, Any]:
    """Read what `write_shared` wrote, onto the CPU; nothing in it is executed.

    Args:
        path: of model.safetensors.

    Returns:
        A `Checkpoint` without the state of a training.

    Raises:
        InputError: a file is missing, cannot be read, or is none of a shared encoder.
    """
    from safetensors.torch import load

    with decoding(path, "not a readable encoder"):
        tensors = load(regular_file(path).read_bytes())
    config = load_config(path.parent)
    missing = [key for key in (_EPOCH, _STEP, _STORED_CODE) if key not in config]
    if missing:
        raise InputError(f"{path.parent / CONFIG}: not of a shared encoder of dploss, it lacks {', '.join(missing)}")
    stored = config.pop(_STORED_CODE)
    code = {} if stored is None else {"code": _code(path, stored, _named(tensors, _CODE))}
    return {
        "epoch": config.pop(_EPOCH),
        "step": config.pop(_STEP),
        "model_state_dict": _named(tensors, _WEIGHTS),
        "optimizer_state_dict": {},
        "scheduler_state_dict": {},
        "train_history": {},
        "config": config,
        "rng_state": {},
        "partial_epoch": {},
        **code,
    }


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _code(path: Path, stored: Any, arrays: dict[str, Tensor]) -> dict[str, Any]:
    if not isinstance(stored, dict):
        raise InputError(f"{path.parent / CONFIG}: its {_STORED_CODE} is no object")
    return {"name": stored.get("name"), "bytes": stored.get("bytes"), "arrays": arrays}

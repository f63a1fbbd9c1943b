"""Find experiments under the checkpoints folder, by id, unique prefix or path. Imports no torch."""

from pathlib import Path

from dploss.errors import InputError


def find_experiment(checkpoints_dir: str | Path, reference: str) -> Path:
    """The folder of one experiment.

    Args:
        checkpoints_dir: the folder of all experiments.
        reference: its UUID, a prefix that only it has, or a path: of its folder or of a file in it.

    Raises:
        InputError: none or several answer to the reference.
    """
    path = Path(reference)
    for folder in (path, path.parent):
        if path.exists() and (folder / "config.json").is_file():
            return folder
    ids = sorted(entry.parent.name for entry in Path(checkpoints_dir).glob("*/config.json"))
    if not ids:
        raise InputError(
            f"no experiment in {checkpoints_dir}: train.py makes one, --checkpoints-dir names another folder"
        )
    matches = [name for name in ids if reference and name.startswith(reference)]
    if not matches:
        raise InputError(f"no experiment {reference!r} in {checkpoints_dir}; there are {_some(ids)}")
    if len(matches) > 1 and reference not in matches:
        raise InputError(f"several experiments start with {reference!r}: {_some(matches)}; give more of the id")
    return Path(checkpoints_dir) / (reference if reference in matches else matches[0])


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

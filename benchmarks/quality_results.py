"""The results file of quality.py: what was measured, under which settings, and which results are still valid."""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from quality_methods import OURS, PACKAGES
from quality_report import KS

from dploss.config import DATA, ENCODER, LOSS, OPTIONS, TRAINING, TrainConfig
from dploss.data import open_vectors, split_rows
from dploss.errors import InputError
from dploss.experiments.provenance import git_commit
from dploss.files.atomic import write_json

# Settings that vary by case, or that change no result.
_VARIED = {"data", "limit", "seed", "latent_dim", "loss_function", "device", "skip_bad_rows", "skip_bad_images"}


def opened(path: Path, facts: Mapping[str, Any], data: Sequence[dict[str, Any]], again: Collection[str]) -> dict:
    """The results in a file that need not be measured again; none where there is no file.

    Args:
        path: the file; dropped results are removed from it at once, so that an interrupted run can be continued.
        facts: settings that all results must share: "quick", and for our losses "ours".
        data: the data sets of this run, as `described`.
        again: methods whose results are dropped.

    Returns:
        The content of the file: the facts, "data" and "entries"; "machine" and "versions" once any are measured.

    Raises:
        InputError: the remaining results are of different rows or settings.
    """
    if not path.exists():
        return {**facts, "data": list(data), "entries": []}
    results = read(path)
    entries = [entry for entry in results["entries"] if entry["method"] not in again]
    names = {entry["data"] for entry in entries}
    old = {one["name"]: one for one in results["data"] if one["name"] in names}
    new = {one["name"]: one for one in data}
    stale = {
        entry["method"]
        for entry in entries
        if results["quick"] != facts["quick"]
        or new.get(entry["data"], old[entry["data"]]) != old[entry["data"]]
        or (entry["method"] in OURS and results["ours"] != facts["ours"])
    }
    if stale:
        raise InputError(
            f"{path}: it has results of different rows or settings; give another --out, or add "
            f"--again {shlex.join(sorted(stale))}"
        )
    results |= {**facts, "data": list((old | new).values()), "entries": entries}
    if again:
        write_json(path, results)
    return results


def read(path: Path) -> dict[str, Any]:
    """The content of the file.

    Raises:
        InputError: no such file, or not one of quality.py.
    """
    try:
        results = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; measure first") from None
    except ValueError:
        results = None
    if not isinstance(results, dict) or "entries" not in results:
        raise InputError(f"{path}: not a results file of quality.py")
    return results


def described(name: str, source: str, limit: int) -> dict[str, Any]:
    """The description of a data set: its name, shape and fingerprint, but not its path.

    Raises:
        InputError: it cannot be read, or has too few rows.
    """
    vectors = open_vectors(source, limit=limit)
    rows, dim = vectors.rows.shape
    held_out = len(split_rows(rows, TrainConfig.val_fraction, 0)[1])
    if held_out <= max(KS):
        raise InputError(f"{source}: {held_out} of its {rows} rows are held out, too few for recall@{max(KS)}")
    return {"name": name, "rows": rows, "dim": dim, "held_out": held_out, "fingerprint": vectors.fingerprint}


def our_settings(epochs: int) -> dict[str, Any]:
    """The settings of our trainings that affect results and do not vary by case."""
    config = TrainConfig(epochs=epochs).as_dict()
    deciding = {name for name, setting in OPTIONS.items() if setting.group in (DATA, ENCODER, LOSS, TRAINING)}
    return {name: value for name, value in config.items() if name in deciding - _VARIED}


def versions() -> dict[str, str | None]:
    """The commit of this checkout, and the versions of its packages."""
    packages = ("torch", "numpy", "scikit-learn", *PACKAGES.values())
    return {"commit": git_commit()} | {package: version_of(package) for package in packages}


def version_of(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None

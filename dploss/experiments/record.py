"""ExperimentRecord: what config.json, and the config in every checkpoint, says of an experiment."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.experiments.layout import load_config


@dataclass(frozen=True)
class DataRecord:
    """The rows, or the queries, that an experiment was given.

    Attributes:
        path: where they were read from: a file, a glob, a folder, or "builtin".
        rows: N, held-out ones included; None where the record does not say.
        fingerprint: a hash of the rows, by which they are known again; None where the record does not say.
        rows_left_out: how many more there are, which cannot be used.
    """

    path: str
    rows: int | None
    fingerprint: str | None
    rows_left_out: int = 0


@dataclass(frozen=True)
class SplitRecord:
    """How many rows were trained on, and how many were held out."""

    train_rows: int
    held_out_rows: int


@dataclass(frozen=True)
class Origin:
    """Which experiment it is, and what made it; None and empty where the record does not say.

    Attributes:
        experiment_id: its UUID.
        created: when it began, ISO 8601 with a time zone.
        versions: of dploss, python, torch and numpy.
        git_commit: of the checkout that dploss ran from.
    """

    experiment_id: str | None = None
    created: str | None = None
    versions: Mapping[str, str] | None = None
    git_commit: str | None = None


@dataclass(frozen=True)
class ExperimentRecord:
    """An experiment's settings, data, split and origin.

    Attributes:
        config: the settings; `data`, or `images`, is where the rows were read from.
        data: the rows.
        input_dim: D, dimensions of a row.
        split: None where the record does not say.
        origin: which experiment it is.
        queries: what the rows are searched with, split as `split_queries` does; None: with such rows.
    """

    config: TrainConfig
    data: DataRecord
    input_dim: int
    split: SplitRecord | None
    origin: Origin
    queries: DataRecord | None = None

    def as_dict(self) -> dict[str, Any]:
        """The content of config.json: every setting under its own name, `data` as an object."""
        return {
            **asdict(self.origin),
            **self.config.as_dict(),
            "data": asdict(self.data),
            "queries": None if self.queries is None else asdict(self.queries),
            "input_dim": self.input_dim,
            "split": None if self.split is None else asdict(self.split),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "ExperimentRecord":
        """Read a record back, also one of an earlier version, which had fewer settings.

        Raises:
            InputError: a setting, the data or input_dim is missing or unusable.
        """
        try:
            data = _data(content["data"])
            queries = None if content.get("queries") is None else _data(content["queries"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError("config.json does not say where its data is") from error
        images = content.get("images") is not None
        paths = {"images" if images else "data": data.path, "queries": queries and queries.path}
        config = TrainConfig.from_dict({**content, **paths, **_default_data(images)})
        input_dim = content.get("input_dim")
        if type(input_dim) is not int or input_dim < 1:
            raise InputError(f"config.json says that input_dim is {str(input_dim)[:40]}, not a whole number above 0")
        return cls(config, data, input_dim, _split(content.get("split")), _origin(content), queries)

    @classmethod
    def load(cls, folder: Path) -> "ExperimentRecord":
        """Read config.json in the folder of an experiment.

        Raises:
            InputError: no such file, not JSON, or see `from_dict`; the message names the file.
        """
        content = load_config(folder)
        try:
            return cls.from_dict(content)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error


def _data(content: Any) -> DataRecord:
    return DataRecord(content["path"], content.get("rows"), content.get("fingerprint"), content.get("rows_left_out", 0))


def _default_data(images: bool) -> dict[str, str]:
    # Of images `data` in config.json tells of them, and the setting has its default.
    return {"data": TrainConfig.data} if images else {}


def _split(value: Any) -> SplitRecord | None:
    try:
        return SplitRecord(int(value["train_rows"]), int(value["held_out_rows"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _origin(content: Mapping[str, Any]) -> Origin:
    def text(name: str) -> str | None:
        value = content.get(name)
        return value if isinstance(value, str) else None

    versions = content.get("versions")
    return Origin(
        text("experiment_id"), text("created"), versions if isinstance(versions, dict) else None, text("git_commit")
    )

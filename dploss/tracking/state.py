"""best_checkpoints.json, the state of BestCheckpointTracker; checked when read."""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dploss.files.atomic import write_json
from dploss.files.untrusted import read_json
from dploss.tracking.retention import Entry, Selection

BEST = "best.pt"
BEST_STATE = "best_checkpoints.json"
BEST_RESULTS = "best_checkpoint_results.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackerState:
    """The state of a tracker.

    Attributes:
        entries: the evaluated checkpoints, oldest evaluation first.
        latest: path of the last one evaluated.
        owns_link: whether best.pt was made by the tracker.
        settings: its metric_name, higher_is_better, save_top_k and keep_every_n_steps.
    """

    entries: list[Entry]
    latest: str | None
    owns_link: bool
    settings: Mapping[str, Any]


def record(entry: Entry, metric_name: str) -> dict[str, Any]:
    """An entry as JSON."""
    return {**asdict(entry), "score": entry.score(metric_name)}


def write_state(
    path: Path, selection: Selection, latest: str | None, owns_link: bool, settings: Mapping[str, Any]
) -> None:
    """Replace best_checkpoints.json, best checkpoints first.

    Raises:
        OSError: the folder is not writable, or full.
    """
    metric_name = settings["metric_name"]
    others = [*selection.kept, *selection.to_delete]
    write_json(
        path,
        {
            **settings,
            "latest": latest,
            "owns_link": owns_link,
            "checkpoints": [record(entry, metric_name) for entry in selection.best],
            "others": [record(entry, metric_name) for entry in others],
        },
    )


def read_state(path: Path) -> TrackerState | None:
    """Read best_checkpoints.json; None where there is none. An unreadable one is moved aside, with a warning."""
    if not path.exists():
        return None
    try:
        content = read_json(path, "not a readable tracker state")
        entries = [_entry(one) for one in [*content["checkpoints"], *content["others"]]]
        newest = {entry.path: entry for entry in sorted(entries, key=lambda entry: entry.order)}
        latest = content["latest"]
        if latest is not None and not isinstance(latest, str):
            raise TypeError(f"latest is {latest!r}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        aside = path.with_name(path.name + ".unreadable")
        os.replace(path, aside)
        _log.warning("%s cannot be read (%s); renamed to %s, tracking starts anew", path, error, aside.name)
        return None
    return TrackerState(list(newest.values()), latest, content.get("owns_link") is True, content)


def _entry(value: Mapping[str, Any]) -> Entry:
    entry = Entry(value["path"], value["step"], value["epoch"], value["metrics"], value["order"])
    kinds = (entry.path, str), (entry.step, int), (entry.epoch, int), (entry.metrics, dict), (entry.order, int)
    for item, kind in kinds:
        if type(item) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {item!r}")
    if not entry.path.isprintable():
        raise ValueError(f"not a path: {entry.path!r}")
    return entry

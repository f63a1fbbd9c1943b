"""best_checkpoints.json, the state of BestCheckpointTracker; checked when read."""

import logging
import math
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from types import NoneType
from typing import Any

from dploss.errors import InputError, TrackerConflictError
from dploss.files.atomic import atomic_write, write_json
from dploss.files.untrusted import read_json
from dploss.tracking.best_links import BEST
from dploss.tracking.ranking import Entry, Ranking

BEST_STATE = "best_checkpoints.json"
_FURTHER = "further_metrics"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackerState:
    """The state of a tracker.

    Attributes:
        entries: the evaluated checkpoints, oldest evaluation first.
        best: path of the best one, by the name and direction of each metric.
        links: names of the links that the tracker made.
        settings: the tracker's.
    """

    entries: list[Entry]
    best: dict[tuple[str, bool], str]
    links: list[str]
    settings: Mapping[str, Any]


class StateFile:
    """The file in a tracker's folder; every write of it is marked with the tracker and the number of the write.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / BEST_STATE
        self._tracker = secrets.token_hex(8)
        self._writes = 0
        self._seen: str | None = None

    def read(self) -> TrackerState | None:
        """Read the state; None where there is none. An unreadable one is moved aside, with a warning."""
        if not self.path.exists():
            return None
        try:
            content = read_json(self.path, "not a readable tracker state")
            state = _state(content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            aside = self.path.with_name(self.path.name + ".unreadable")
            os.replace(self.path, aside)
            _log.warning("%s cannot be read (%s); renamed to %s, tracking starts anew", self.path, error, aside.name)
            return None
        self._seen = content.get("writer")
        return state

    def check_writer(self) -> None:
        """Refuse to go on if another tracker has written the file since this one read or wrote it.

        Raises:
            TrackerConflictError: it has.
        """
        try:
            content = read_json(self.path, "not a readable tracker state")
        except InputError:
            return
        writer = content.get("writer") if isinstance(content, dict) else None
        if writer is None or writer == self._seen or str(writer).startswith(self._tracker):
            return
        raise TrackerConflictError(
            f"{self.path}: another tracker has written it since; give every run a folder of its own, and one tracker "
            "several metrics"
        )

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the file.

        Raises:
            OSError: the folder is not writable, or full.
        """
        self._writes += 1
        write_json(self.path, {**content, "writer": f"{self._tracker}-{self._writes}"})
        # From now on, an older state in the file's place is another tracker's.
        self._seen = None

    def copy_aside(self, step: int, last_step: int) -> None:
        """Copy the file of an old run to best_checkpoints.previous.json, or the next free number, with a warning.

        It stays in its place until the new run's is written, so that a kill in between loses nothing.

        Args:
            step: the first one of the new run.
            last_step: of the old run.
        """
        names = (f"{self.path.stem}.previous{number or ''}.json" for number in count())
        aside = next(free for name in names if not (free := self.path.with_name(name)).exists())
        if self.path.exists():
            with atomic_write(aside) as file:
                file.write(self.path.read_bytes())
        _log.warning(
            "step %d is below %d, the last step tracked in %s, so it is taken for a new run: the old one's state is "
            "kept as %s, its checkpoints are neither ranked nor deleted any more. To resume a run, pass resumed_from",
            step,
            last_step,
            self.path.parent,
            aside.name,
        )


def state_content(
    settings: Mapping[str, Any],
    entries: Sequence[Entry],
    best: Mapping[Ranking, Sequence[Entry]],
    links: Iterable[str],
) -> dict[str, Any]:
    """The state as JSON, best checkpoints first; of one metric without a band it is as older versions write it.

    Args:
        settings: the tracker's.
        entries: all checkpoints.
        best: of them by every ranking, the main one first, best first.
        links: names of the links that it made.
    """
    (main, top), *further = best.items()
    newest = max(entries, key=lambda entry: entry.order, default=None)
    own, more = BEST in links, sorted(set(links) - {BEST})
    details = {
        one.metric_name: {"higher_is_better": one.higher_is_better, "best": [entry.path for entry in ranked]}
        for one, ranked in further
    }
    return {
        **written(settings, details),
        "latest": newest and newest.path,
        "owns_link": own,
        **({"links": more} if more else {}),
        "checkpoints": records(top, main),
        "others": [record(entry, main.metric_name) for entry in entries if entry not in top],
    }


def written(settings: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """A tracker's settings as JSON: of one metric without a band, those of older versions.

    Args:
        settings: the tracker's.
        further: what to write of each further metric.
    """
    plain = {name: value for name, value in settings.items() if name not in (_FURTHER, "min_delta") or value}
    return {**plain, _FURTHER: further} if further else plain


def records(ranked: Sequence[Entry], ranking: Ranking) -> list[dict[str, Any]]:
    """Entries as JSON, best first, with their scores; those within the band of the best have it as tie_within."""
    ties = [ranking.tie(ranked[0], entry) if place else None for place, entry in enumerate(ranked)]
    return [
        {**record(entry, ranking.metric_name), **({} if tie is None else {"tie_within": tie})}
        for entry, tie in zip(ranked, ties, strict=True)
    ]


def record(entry: Entry, metric_name: str) -> dict[str, Any]:
    """An entry as JSON."""
    return {**asdict(entry), "score": entry.score(metric_name)}


def _state(content: Mapping[str, Any]) -> TrackerState:
    entries = [_entry(one) for one in [*content["checkpoints"], *content["others"]]]
    newest = {entry.path: entry for entry in sorted(entries, key=lambda entry: entry.order)}
    further = content.get(_FURTHER, {})
    best = {(name, one["higher_is_better"] is True): one["best"][0] for name, one in further.items() if one["best"]}
    if content["checkpoints"]:
        best[content.get("metric_name"), content.get("higher_is_better") is True] = content["checkpoints"][0]["path"]
    links = [*content.get("links", []), *([BEST] if content.get("owns_link") is True else [])]
    for text in (*best.values(), *links):
        if not isinstance(text, str):
            raise TypeError(f"expected text, got {text!r}")
    settings = {name: content.get(name) for name in ("metric_name", "higher_is_better", "save_top_k")}
    settings |= {"keep_every_n_steps": content.get("keep_every_n_steps"), "min_delta": content.get("min_delta", 0.0)}
    return TrackerState(list(newest.values()), best, links, {**settings, _FURTHER: list(further)})


def _entry(value: Mapping[str, Any]) -> Entry:
    metrics, time = value["metrics"], value.get("time")
    kinds = (
        (value["path"], str),
        (value["step"], int),
        (value["epoch"], int),
        (metrics, dict),
        (value["order"], int),
        (time, NoneType if time is None else float),
    )
    for item, kind in kinds:
        if type(item) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {item!r}")
    if not value["path"].isprintable():
        raise ValueError(f"not a path: {value['path']!r}")
    # JSON has no NaN: it was written as null. What was not measured is not there.
    numbers = {name: math.nan if item is None else item for name, item in metrics.items()}
    return Entry(value["path"], value["step"], value["epoch"], numbers, value["order"], time)

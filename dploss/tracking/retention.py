"""Which checkpoints to keep: a pure function of their steps and metrics. Touches no file."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metrics.table import COMPOSITE
from metrics.table import DIRECTIONS as IMAGE_METRICS

# Known metrics, and whether higher is better; of an unknown metric it is.
DIRECTIONS = {
    **IMAGE_METRICS,
    "recall": True,
    "total_loss": False,
    "rank_loss": False,
    "pairdist_loss": False,
}


@dataclass(frozen=True)
class Entry:
    """An evaluated checkpoint.

    Attributes:
        path: of the file or folder, relative to the checkpoints' folder, with forward slashes.
        step: optimizer steps done.
        epoch: finished epochs.
        metrics: values by name, as measured.
        order: of the evaluations, from 0: the larger, the newer.
    """

    path: str
    step: int
    epoch: int
    metrics: Mapping[str, Any]
    order: int

    def score(self, metric_name: str) -> float | None:
        """The value of the tracked metric; None where it was not measured or is not finite."""
        value = self.metrics.get(metric_name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
            return None
        return float(value)

    def comparable(self, other: "Entry", metric_name: str) -> bool:
        """Whether the two scores can be compared: composites can only if they are made of the same parts."""
        return metric_name != COMPOSITE or _parts(self) == _parts(other)


@dataclass(frozen=True)
class Selection:
    """What to do with the checkpoints.

    Attributes:
        best: best first, at most `save_top_k`.
        kept: not among the best, but protected from deletion.
        to_delete: all others.
    """

    best: list[Entry]
    kept: list[Entry]
    to_delete: list[Entry]


def select(
    entries: Sequence[Entry],
    metric_name: str,
    higher_is_better: bool,
    save_top_k: int,
    keep_every_n_steps: int,
    protected: Collection[str] = (),
) -> Selection:
    """Choose the best checkpoints, and those to delete.

    A checkpoint whose score is missing or not finite is never among the best. Of equal scores the newer is better. A
    composite score made of other parts than the newest one's ranks below all that are made of the same parts; among
    themselves, such checkpoints are ranked by age.

    Args:
        entries: all evaluated checkpoints, in any order.
        metric_name: the metric to rank by.
        higher_is_better: its direction.
        save_top_k: number of best checkpoints to keep, at least 1.
        keep_every_n_steps: checkpoints at multiples of it are never deleted; 0: no such rule.
        protected: paths that must not be deleted: the latest, the one that the run was resumed from.
    """
    scores = {entry.path: score for entry in entries if (score := entry.score(metric_name)) is not None}
    scored = [entry for entry in entries if entry.path in scores]
    newest = max(scored, key=lambda entry: entry.order, default=None)

    def rank(entry: Entry) -> tuple[bool, float, int, int]:
        alike = newest is None or entry.comparable(newest, metric_name)
        score = scores[entry.path] * (1 if higher_is_better else -1)
        return alike, score if alike else 0.0, entry.order, entry.step

    best = sorted(scored, key=rank, reverse=True)[:save_top_k]
    names = {entry.path for entry in best}
    others = [entry for entry in entries if entry.path not in names]

    def keep(entry: Entry) -> bool:
        multiple = keep_every_n_steps > 0 and entry.step % keep_every_n_steps == 0
        return multiple or entry.path in protected

    return Selection(best, [one for one in others if keep(one)], [one for one in others if not keep(one)])


def _parts(entry: Entry) -> Any:
    """The parts of a composite score: as recorded in composite_parts, or the finite metrics beside it."""
    named = entry.metrics.get("composite_parts")
    if named is not None:
        return sorted(map(str, named)) if isinstance(named, list | tuple) else named
    return sorted(name for name in entry.metrics if name != COMPOSITE and entry.score(name) is not None)

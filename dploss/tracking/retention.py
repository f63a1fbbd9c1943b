"""Which checkpoints to keep: a pure function of their steps and metrics. Touches no file."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Known metrics and whether more of them is better; of any other it is.
DIRECTIONS = {
    "composite_score": True,
    "clip_score": True,
    "inception_score": True,
    "psnr": True,
    "ssim": True,
    "recall": True,
    "lpips": False,
    "fid": False,
    "total_loss": False,
    "rank_loss": False,
    "pairdist_loss": False,
}
_COMPOSITE = "composite_score"


@dataclass(frozen=True)
class Entry:
    """A judged checkpoint.

    Attributes:
        path: of the file or folder, relative to the checkpoints' folder, with forward slashes.
        step: optimizer steps done.
        epoch: finished epochs.
        metrics: what was measured.
        order: counts the judgements, from 0: the larger, the newer.
    """

    path: str
    step: int
    epoch: int
    metrics: Mapping[str, Any]
    order: int

    def score(self, metric_name: str) -> float | None:
        """The metric that is tracked; None where it was not measured or is not finite."""
        value = self.metrics.get(metric_name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
            return None
        return float(value)

    def comparable(self, other: "Entry", metric_name: str) -> bool:
        """Whether both scores mean the same: a composite is never compared with one made of other parts."""
        return metric_name != _COMPOSITE or _parts(self) == _parts(other)


@dataclass(frozen=True)
class Selection:
    """What becomes of the checkpoints.

    Attributes:
        top: the best, best first; at most `save_top_k`.
        kept: not among the best, but not to be deleted.
        doomed: to be deleted.
    """

    top: list[Entry]
    kept: list[Entry]
    doomed: list[Entry]


def select(
    entries: Sequence[Entry],
    metric_name: str,
    higher_is_better: bool,
    save_top_k: int,
    keep_every_n_steps: int,
    spared: Collection[str] = (),
) -> Selection:
    """Choose the best checkpoints, and those that may go.

    Scores that are missing or not finite have no place among the best. Of equal scores the newer is the better one.
    Where a composite score is made of other parts than the newest one, it ranks below all that are made as the newest
    is, by age alone.

    Args:
        entries: all judged checkpoints, in any order.
        metric_name: what decides.
        higher_is_better: its direction.
        save_top_k: how many to keep, at least 1.
        keep_every_n_steps: steps that are multiples of it are never deleted; 0 spares none.
        spared: paths that are not to be deleted: the latest, the one a run was resumed from.
    """
    scored = [entry for entry in entries if entry.score(metric_name) is not None]
    newest = max(scored, key=lambda entry: entry.order, default=None)

    def rank(entry: Entry) -> tuple[bool, float, int, int]:
        alike = entry.comparable(newest, metric_name)
        score = entry.score(metric_name) * (1 if higher_is_better else -1)
        return alike, score if alike else 0.0, entry.order, entry.step

    top = sorted(scored, key=rank, reverse=True)[:save_top_k]
    names = {entry.path for entry in top}
    others = [entry for entry in entries if entry.path not in names]

    def stays(entry: Entry) -> bool:
        multiple = keep_every_n_steps > 0 and entry.step % keep_every_n_steps == 0
        return multiple or entry.path in spared

    return Selection(top, [one for one in others if stays(one)], [one for one in others if not stays(one)])


def _parts(entry: Entry) -> Any:
    """What a composite was made of: what it says itself, or the finite metrics beside it."""
    named = entry.metrics.get("composite_parts")
    if named is not None:
        return sorted(map(str, named)) if isinstance(named, list | tuple) else named
    return sorted(name for name in entry.metrics if name != _COMPOSITE and entry.score(name) is not None)

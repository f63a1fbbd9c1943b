"""Evaluated checkpoints in the order of one metric. Touches no file."""

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np

from dploss.tracking.directions import direction_of, known_direction
from metrics.resampling import jackknife_error
from metrics.table import COMPOSITE, JACKKNIFE

AUTO: Literal["auto"] = "auto"
_SHOWN = 60

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """An evaluated checkpoint.

    Attributes:
        path: of the file or folder, relative to the checkpoints' folder, with forward slashes.
        step: optimizer steps done.
        epoch: finished epochs.
        metrics: values by name, as measured.
        order: of the evaluations, from 0: the larger, the newer.
        time: of the evaluation, in seconds since 1970; None where an older version recorded it.
    """

    path: str
    step: int
    epoch: int
    metrics: Mapping[str, Any]
    order: int
    time: float | None = None

    def is_measured(self, metric_name: str) -> bool:
        """Whether the metric has a number, NaN and infinity among them."""
        return self._number(metric_name) is not None

    def score(self, metric_name: str) -> float | None:
        """The value of a metric; None where it was not measured or is not finite."""
        value = self._number(metric_name)
        return float(value) if value is not None and abs(value) <= sys.float_info.max else None

    def comparable(self, other: "Entry", metric_name: str) -> bool:
        """Whether the two scores can be compared: composites can only if they are made of the same parts."""
        return metric_name != COMPOSITE or _parts(self) == _parts(other)

    def why_unranked(self, metric_name: str) -> str | None:
        """Why it has no score, in words; None where it has one."""
        if self.score(metric_name) is not None:
            return None
        if self.is_measured(metric_name):
            return f"{metric_name} is {self.metrics[metric_name]}"
        if metric_name in self.metrics:
            return f"{metric_name} is no number but {repr(self.metrics[metric_name])[:_SHOWN]}"
        measured = sorted(name for name in self.metrics if self.is_measured(name))
        close = get_close_matches(metric_name, [name for name in measured if not name.endswith("_se")], n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{metric_name!r} was not measured{meant}; measured: {', '.join(measured) or 'nothing'}"

    def standard_error(self, metric_name: str) -> float | None:
        """That of the metric's value, measured as NAME_se; None where it has none."""
        error = self.score(f"{metric_name}_se")
        return error if error is not None and error >= 0 else None

    def has_error(self, metric_name: str) -> bool:
        """Whether something says how far the metric's value is to be trusted."""
        return self.standard_error(metric_name) is not None or self.jackknife(metric_name) is not None

    def jackknife(self, metric_name: str) -> list[float] | None:
        """The metric's values without each of several groups of samples; None where there are none."""
        of_metrics = self.metrics.get(JACKKNIFE)
        values = of_metrics.get(metric_name) if isinstance(of_metrics, Mapping) else None
        if not isinstance(values, list) or len(values) < 2:
            return None
        return values if all(type(one) is float and math.isfinite(one) for one in values) else None

    def _number(self, metric_name: str) -> int | float | None:
        value = self.metrics.get(metric_name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Ranking:
    """An order of checkpoints by one metric.

    Attributes:
        metric_name: the metric.
        higher_is_better: its direction.
        min_delta: a new best must be better than the best before it by more than this; "auto": than the standard
            error of their difference, see `band`. By 0, an equal score is enough.
    """

    metric_name: str
    higher_is_better: bool
    min_delta: float | Literal["auto"] = 0.0

    def ranked(self, entries: Sequence[Entry], incumbent: str | None = None) -> list[Entry]:
        """The checkpoints with a finite score, best first.

        The first is the incumbent, or who exceeded it later; without one, the first checkpoint is the first incumbent.
        Behind it, the better score comes first, of equal ones the newer. A composite score made of other parts than the
        newest one's ranks below all that are made of the same parts; among themselves, such checkpoints are ranked by
        age.

        Args:
            entries: evaluated checkpoints, in any order.
            incumbent: path of the best one so far, if it is known.
        """
        scored = [one for one in entries if one.score(self.metric_name) is not None]
        if not scored:
            return []
        newest = max(scored, key=_age)
        alike = sorted((one for one in scored if one.comparable(newest, self.metric_name)), key=_age)
        best = self._best(alike, incumbent)
        others = [one for one in alike if one is not best]
        others.sort(key=lambda one: (self._signed(one), *_age(one)), reverse=True)
        of_other_parts = [one for one in scored if not one.comparable(newest, self.metric_name)]
        return [best, *others, *sorted(of_other_parts, key=_age, reverse=True)]

    def band(self, one: Entry, other: Entry) -> float:
        """By how much two scores must differ to be told apart.

        With "auto", the standard error of their difference: by the jackknife values of both, as they come from the same
        samples; or sqrt(se² + se²) of standard errors measured as NAME_se, as if they did not.
        """
        if self.min_delta != AUTO:
            return self.min_delta
        first, second = (entry.jackknife(self.metric_name) for entry in (one, other))
        if first and second and len(first) == len(second):
            return jackknife_error(np.subtract(first, second))
        errors = [entry.standard_error(self.metric_name) for entry in (one, other)]
        known = [error for error in errors if error is not None]
        return math.hypot(*known) if len(known) == len(errors) else 0.0

    def tie(self, best: Entry, other: Entry) -> float | None:
        """The band, if the two are within it; None if they differ, or there is no band."""
        band = self.band(best, other)
        gap = abs(self._signed(best) - self._signed(other))
        return band if band > 0 and gap <= band and best.comparable(other, self.metric_name) else None

    def doubt(self, new: Entry, best: Entry | None) -> str | None:
        """What a person should know of a new checkpoint's score; None if nothing.

        Args:
            new: the checkpoint.
            best: the best one before it.
        """
        why = new.why_unranked(self.metric_name)
        if why is not None:
            return f"{why}; not ranked"
        if best is not None and not new.comparable(best, self.metric_name):
            return f"{self.metric_name} has other parts than before; earlier checkpoints rank below it"
        return None

    def _best(self, entries: Sequence[Entry], incumbent: str | None) -> Entry:
        """The best of comparable checkpoints, oldest first."""
        # Without a band it is the best of all, whatever an earlier run with a band has left as the best.
        known = (place for place, one in enumerate(entries) if self.min_delta and one.path == incumbent)
        start = next(known, 0)
        best = entries[start]
        for one in entries[start + 1 :]:
            gain, band = self._signed(one) - self._signed(best), self.band(one, best)
            if gain > band or gain == band == 0:
                best = one
        return best

    def _signed(self, entry: Entry) -> float:
        """The score, of which higher is better."""
        score = entry.score(self.metric_name)
        assert score is not None
        return score if self.higher_is_better else -score


def make_rankings(
    metric_name: str | Sequence[str],
    higher_is_better: bool | Mapping[str, bool] | None,
    min_delta: float | Literal["auto"],
) -> list[Ranking]:
    """The ranking of every metric, the main one first; a direction that contradicts the known one is a warning.

    Args:
        metric_name: a name, or several.
        higher_is_better: the direction of all of them, or of some by name.
        min_delta: of all of them.

    Raises:
        ValueError: no name, one that is given twice, a direction that is not known, or a min_delta below 0.
    """
    names = [metric_name] if isinstance(metric_name, str) else list(metric_name)
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"metric_name must be a name or several different names, got {metric_name!r}")
    if isinstance(higher_is_better, Mapping) and higher_is_better.keys() - set(names):
        raise ValueError(f"higher_is_better names {', '.join(higher_is_better)}; tracked are {', '.join(names)}")
    if min_delta != AUTO and (isinstance(min_delta, str) or not 0 <= min_delta <= sys.float_info.max):
        raise ValueError(f"min_delta must be a number of at least 0 or {AUTO!r}, got {min_delta!r}")
    delta: float | Literal["auto"] = AUTO if min_delta == AUTO else float(min_delta)
    rankings = [Ranking(name, direction_of(name, higher_is_better), delta) for name in names]
    for one in rankings:
        known = known_direction(one.metric_name)
        if known not in (None, one.higher_is_better):
            _log.warning("%s is better when %s, tracked the other way", one.metric_name, "higher" if known else "lower")
    return rankings


def _age(entry: Entry) -> tuple[int, int]:
    return entry.order, entry.step


def _parts(entry: Entry) -> Any:
    """The parts of a composite score: as recorded in composite_parts, or the finite metrics beside it."""
    named = entry.metrics.get("composite_parts")
    if named is not None:
        return sorted(map(str, named)) if isinstance(named, list | tuple) else named
    return sorted(name for name in entry.metrics if name != COMPOSITE and entry.score(name) is not None)

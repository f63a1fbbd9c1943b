"""Which checkpoints to keep: pure functions of their steps, times and metrics. Touches no file."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dploss.tracking.directions import direction_of
from dploss.tracking.ranking import Entry, Ranking

# From all evaluated checkpoints, oldest evaluation first, to those that are to be kept.
Rule = Callable[[Sequence[Entry]], Iterable[Entry]]


@dataclass(frozen=True)
class BestN:
    """Keeps the n best checkpoints by a metric, and the n newest that it was not measured of.

    Args:
        metric_name: the metric.
        n: at least 1.
        higher_is_better: its direction; None: the known one.

    Raises:
        ValueError: n is below 1, or the direction is not known.
    """

    metric_name: str
    n: int
    higher_is_better: bool | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_n(self)
        object.__setattr__(self, "higher_is_better", direction_of(self.metric_name, self.higher_is_better))

    def __call__(self, entries: Sequence[Entry]) -> list[Entry]:
        """The checkpoints to keep."""
        ranking = Ranking(self.metric_name, bool(self.higher_is_better))
        return [*ranking.ranked(entries)[: self.n], *unmeasured(entries, self.metric_name, self.n)]


@dataclass(frozen=True)
class _OfN:
    n: float

    def __post_init__(self) -> None:
        _check_n(self)


class LatestN(_OfN):
    """Keeps the checkpoints of the n steps that were evaluated last, all of them where a step has several.

    Args:
        n: at least 1.

    Raises:
        ValueError: n is below 1.
    """

    def __call__(self, entries: Sequence[Entry]) -> list[Entry]:
        """The checkpoints to keep."""
        newest_first = dict.fromkeys(entry.step for entry in reversed(entries))
        steps = list(newest_first)[: int(self.n)]
        return [entry for entry in entries if entry.step in steps]


class EveryNSteps(_OfN):
    """Keeps the checkpoints at steps that are multiples of n.

    Args:
        n: at least 1.

    Raises:
        ValueError: n is below 1.
    """

    def __call__(self, entries: Sequence[Entry]) -> list[Entry]:
        """The checkpoints to keep."""
        return [entry for entry in entries if entry.step % self.n == 0]


class EveryNSeconds(_OfN):
    """Keeps the first checkpoint, and then each that was evaluated n seconds or more after the last one it kept.

    Args:
        n: at least 1; a day is 86,400.

    Raises:
        ValueError: n is below 1.
    """

    def __call__(self, entries: Sequence[Entry]) -> list[Entry]:
        """The checkpoints to keep."""
        kept: list[Entry] = []
        last = None
        for entry in entries:
            if entry.time is not None and (last is None or entry.time - last >= self.n):
                kept.append(entry)
                last = entry.time
        return kept


@dataclass(frozen=True)
class Selection:
    """What to do with the checkpoints.

    Attributes:
        best: by every ranking, best first, at most `save_top_k`.
        to_delete: neither among the best, nor wanted by a rule, nor protected.
    """

    best: Mapping[Ranking, list[Entry]]
    to_delete: list[Entry]


def select(
    entries: Sequence[Entry],
    rankings: Sequence[Ranking],
    save_top_k: int,
    rules: Sequence[Rule] = (),
    protected: Collection[str] = (),
    incumbents: Mapping[str, str] | None = None,
) -> Selection:
    """Choose the best checkpoints, and those to delete.

    A checkpoint whose score is not finite is never among the best. Of a metric that was not measured of a checkpoint
    nobody knows how good it is: the `save_top_k` newest of these are kept.

    Args:
        entries: all evaluated checkpoints, in any order.
        rankings: one for every metric.
        save_top_k: number of best checkpoints to keep by each metric, at least 1.
        rules: what any of them wants is kept too.
        protected: paths that must not be deleted, such as the one that the run was resumed from.
        incumbents: paths of the best ones so far, by metric.
    """
    by_age = sorted(entries, key=lambda entry: entry.order)
    known = incumbents or {}
    best = {one: one.ranked(entries, known.get(one.metric_name))[:save_top_k] for one in rankings}
    wanted = {entry.path for ranked in best.values() for entry in ranked} | set(protected)
    wanted |= {entry.path for rule in rules for entry in rule(by_age)}
    wanted |= {entry.path for one in rankings for entry in unmeasured(by_age, one.metric_name, save_top_k)}
    return Selection(best, [entry for entry in entries if entry.path not in wanted])


def unmeasured(entries: Sequence[Entry], metric_name: str, n: int) -> list[Entry]:
    """The n newest checkpoints that have no number of a metric; of NaN and infinity they have one."""
    without = [entry for entry in entries if not entry.is_measured(metric_name)]
    return sorted(without, key=lambda entry: entry.order)[-n:]


def _check_n(rule: BestN | _OfN) -> None:
    if not rule.n >= 1:
        raise ValueError(f"{type(rule).__name__}: n must be at least 1, got {rule.n}")

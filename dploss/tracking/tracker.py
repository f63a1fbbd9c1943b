"""BestCheckpointTracker: keeps the best checkpoints of a training, and a link best.pt to the best of them.

It serves any training loop that saves checkpoints, files or folders, and evaluates them. In a training of several
processes, only one of them may use it.
"""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dploss.arguments import whole_number
from dploss.files.atomic import write_json
from dploss.files.given import expanded
from dploss.text import terminal_width
from dploss.tracking.best_links import BestLinks
from dploss.tracking.folder import CheckpointFolder
from dploss.tracking.ranking import AUTO, Entry, Ranking, make_rankings
from dploss.tracking.results import BEST_RESULTS, results, summary
from dploss.tracking.retention import EveryNSteps, LatestN, Rule, Selection, select
from dploss.tracking.state import StateFile, TrackerState, state_content
from dploss.tracking.values import plain_metrics

_log = logging.getLogger(__name__)


class BestCheckpointTracker:
    """Keeps the `save_top_k` best checkpoints by one metric, or by each of several.

    The folder then holds best.pt, a relative link to the best checkpoint (a copy where links cannot be made), and
    best_<metric>.pt for every further metric, with the suffix .safetensors where the checkpoint has it;
    best_checkpoints.json, the state, from which a new tracker on the folder continues; and, after `export_results`,
    best_checkpoint_results.json. If the process is killed at any instant, the folder has a complete best and latest
    checkpoint, and best.pt points to an existing one: the state is written before best.pt is replaced, and best.pt is
    replaced before anything is deleted.

    A folder has one tracker at a time. A new run in the folder of an old one, whose first step is below the old one's
    last, is kept apart: the old state is set aside, its checkpoints are neither ranked nor deleted any more.

    Args:
        checkpoint_dir: folder of the checkpoints; created if missing.
        metric_name: the metric to rank by, or several; the first is the main one, which best.pt follows.
        higher_is_better: the direction, of several metrics also by name; None: the known one, see
            `directions.known_direction`.
        save_top_k: number of best checkpoints to keep by each metric, at least 1.
        keep_every_n_steps: checkpoints at steps that are multiples of it are never deleted; 0: no such rule.
        min_delta: a new best must exceed the present one by more than this, at least 0; "auto": by more than the
            standard error of their difference, see `ranking.Ranking.band`. Else it is a tie, and the present one stays
            the best. By 0 an equal score is enough.
        keep: further rules of what to keep, such as `retention.BestN`, `EveryNSeconds`, or a function of your own.
        prune: whether checkpoints that no rule wants are deleted. Only those given to `update` ever are, and never
            those of the latest step, nor the one that the run was resumed from.
        resumed_from: the checkpoint that the run was resumed from.

    Raises:
        ValueError: an argument outside its range, or a metric whose direction is not known.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        metric_name: str | Sequence[str] = "composite_score",
        higher_is_better: bool | Mapping[str, bool] | None = None,
        save_top_k: int = 3,
        keep_every_n_steps: int = 10_000,
        *,
        min_delta: float | Literal["auto"] = 0.0,
        keep: Sequence[Rule] = (),
        prune: bool = True,
        resumed_from: str | Path | None = None,
    ) -> None:
        # The process may change its folder later.
        self.checkpoint_dir = expanded(checkpoint_dir).absolute()
        self.rankings = make_rankings(metric_name, higher_is_better, min_delta)
        self.save_top_k = whole_number("save_top_k", save_top_k, 1)
        self.keep_every_n_steps = whole_number("keep_every_n_steps", keep_every_n_steps, 0)
        self.prune = prune
        every = [EveryNSteps(self.keep_every_n_steps)] if self.keep_every_n_steps else []
        self._rules: list[Rule] = [LatestN(1), *every, *keep]
        self._resumed_from = Path(resumed_from).resolve() if resumed_from is not None else None
        self._entries: list[Entry] = []
        self._best: dict[str, str] = {}
        self._restored_step: int | None = None
        self._without_error: set[str] = set()
        self._links = BestLinks(self.checkpoint_dir, [one.metric_name for one in self.rankings])
        self._state = StateFile(self.checkpoint_dir)
        self._folder = CheckpointFolder(self.checkpoint_dir, self._links)
        state = self._state.read()
        if state is not None:
            self._restore(state)

    @property
    def metric_name(self) -> str:
        """The main metric."""
        return self.rankings[0].metric_name

    @property
    def higher_is_better(self) -> bool:
        """The direction of the main metric."""
        return self.rankings[0].higher_is_better

    @property
    def top(self) -> list[Entry]:
        """The best checkpoints by the main metric, best first."""
        return self.top_by(self.metric_name)

    @property
    def best(self) -> Entry | None:
        """The best checkpoint by the main metric; None before the first finite score."""
        return next(iter(self.top), None)

    def top_by(self, metric_name: str) -> list[Entry]:
        """The best checkpoints by one of the metrics, best first.

        Raises:
            KeyError: a metric that is not tracked.
        """
        return {ranking.metric_name: top for ranking, top in self._tops().items()}[metric_name]

    def update(self, step: int, epoch: int, checkpoint_path: str | Path, metrics: Mapping[str, Any]) -> bool:
        """Track a checkpoint that was saved and evaluated.

        Args:
            step: optimizer steps done.
            epoch: finished epochs.
            checkpoint_path: its file or folder, in checkpoint_dir. Several of one step, such as the trained and the
                averaged weights, are each a checkpoint.
            metrics: measured values by name, of any kind: see `values.plain_metrics`. None is not measured.

        Returns:
            Whether it is the new best by the main metric.

        Raises:
            ValueError: the path is not in checkpoint_dir, or is a link.
            FileNotFoundError: no such checkpoint.
            TrackerConflictError: another tracker has written in the folder; nothing was changed.
            OSError: the state cannot be written; the old state is kept, and the checkpoint is not tracked.
        """
        name = self._folder.name(Path(checkpoint_path))
        self._state.check_writer()
        self._begin_anew(int(step), name)
        order = 1 + max((entry.order for entry in self._entries), default=-1)
        with_band = [one.metric_name for one in self.rankings if one.min_delta == AUTO]
        new = Entry(name, int(step), int(epoch), plain_metrics(metrics, with_band), order, time.time())
        self._warn_of(new)
        entries = [*(entry for entry in self._folder.present(self._entries) if entry.path != name), new]
        incumbents = {metric_name: path for metric_name, path in self._best.items() if path != name}
        selection = self._select(entries, incumbents)
        best = _firsts(selection.best)
        self._links.take_over(best)
        self._save(entries, selection.best)
        self._entries, self._best, self._restored_step = entries, best, None
        self._links.point(best)
        self._delete(selection.to_delete)
        return best.get(self.metric_name) == name

    def summary(self, width: int | None = None) -> str:
        """The best checkpoints by every metric as text, best first.

        Args:
            width: columns at which lines of many metrics break; None: they do not.
        """
        return summary(self._tops(), self.save_top_k, width)

    def print_summary(self) -> None:
        """Print the best checkpoints, in lines that fit where stdout is a terminal."""
        print(self.summary(terminal_width(sys.stdout)))

    def export_results(self) -> Path:
        """Write best_checkpoint_results.json, the summary as JSON.

        Returns:
            Its path.
        """
        path = self.checkpoint_dir / BEST_RESULTS
        write_json(path, results(self._tops(), self._settings))
        return path

    @property
    def _settings(self) -> dict[str, Any]:
        main, *further = self.rankings
        return {
            "metric_name": main.metric_name,
            "higher_is_better": main.higher_is_better,
            "save_top_k": self.save_top_k,
            "keep_every_n_steps": self.keep_every_n_steps,
            "min_delta": main.min_delta,
            "further_metrics": [one.metric_name for one in further],
        }

    def _tops(self) -> Mapping[Ranking, list[Entry]]:
        best = self._best
        return {one: one.ranked(self._entries, best.get(one.metric_name))[: self.save_top_k] for one in self.rankings}

    def _select(self, entries: list[Entry], incumbents: Mapping[str, str]) -> Selection:
        protected = {
            entry.path for entry in entries if self._resumed_from == (self.checkpoint_dir / entry.path).resolve()
        }
        return select(entries, self.rankings, self.save_top_k, self._rules, protected, incumbents)

    def _warn_of(self, new: Entry) -> None:
        for ranking, top in self._tops().items():
            doubt, metric_name = ranking.doubt(new, top[0] if top else None), ranking.metric_name
            if doubt is not None:
                _log.warning("step %d: %s", new.step, doubt)
            elif ranking.min_delta == AUTO and not new.has_error(metric_name):
                if metric_name not in self._without_error:
                    _log.warning("%s_se was not measured: compared without a noise band", metric_name)
                self._without_error.add(metric_name)

    def _begin_anew(self, step: int, name: str) -> None:
        """Keep the run whose state was restored apart, if a first checkpoint is not of it."""
        last = self._restored_step
        if last is not None and step < last and all(entry.path != name for entry in self._entries):
            self._state.copy_aside(step, last)
            self._entries, self._best, self._restored_step = [], {}, None

    def _save(self, entries: list[Entry], best: Mapping[Ranking, list[Entry]]) -> None:
        self._state.write(state_content(self._settings, entries, best, self._links.owned))

    def _delete(self, entries: list[Entry]) -> None:
        gone = self._folder.delete(entry.path for entry in entries) if self.prune else set()
        if gone:
            self._entries = [entry for entry in self._entries if entry.path not in gone]
            self._save(self._entries, self._tops())

    def _restore(self, state: TrackerState) -> None:
        """Continue from the state in the folder; what disagrees with the files is logged, and links are repaired."""
        changed = [name for name, value in self._settings.items() if state.settings[name] != value]
        for name in changed:
            _log.warning("%s was %s, now %s", name, state.settings[name], self._settings[name])
        self._links.own(state.links)
        self._entries = self._folder.present(state.entries)
        self._best = {
            one.metric_name: path
            for one in self.rankings
            if (path := state.best.get((one.metric_name, one.higher_is_better))) is not None
        }
        if self._resumed_from is None:
            self._restored_step = max((entry.step for entry in self._entries), default=None)
        best = _firsts(self._tops())
        # With other settings the links follow at the first update: until then the folder may be another tracker's.
        if not changed:
            astray = self._links.astray(best)
            for name, path in astray.items():
                _log.warning("%s did not point to the best checkpoint; it now points to %s again", name, path)
            self._links.take_over(best if astray else {})
            self._links.point(best)


def _firsts(best: Mapping[Ranking, list[Entry]]) -> dict[str, str]:
    """The path of the best checkpoint by each metric that has one."""
    return {ranking.metric_name: top[0].path for ranking, top in best.items() if top}

"""BestCheckpointTracker: keeps the best checkpoints of a training, and a link best.pt to the best of them.

It serves any training loop that saves checkpoints, files or folders, and evaluates them. In a training of several
processes, only one of them may use it.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dploss.files.atomic import remove, write_json
from dploss.files.links import point_to, points_to, set_aside
from dploss.text import metrics_text
from dploss.tracking.retention import DIRECTIONS, Entry, Selection, select
from dploss.tracking.state import BEST, BEST_RESULTS, BEST_STATE, read_state, record, write_state

_log = logging.getLogger(__name__)
_SETTINGS = ("metric_name", "higher_is_better", "save_top_k", "keep_every_n_steps")
_DELETED = ".deleted.tmp"
# The last two are written by train.py.
_NO_CHECKPOINTS = (BEST, BEST_STATE, BEST_RESULTS, "config.json", "train_history.json")


class BestCheckpointTracker:
    """Keeps the `save_top_k` best checkpoints by one metric.

    The folder then holds best.pt, a relative link to the best checkpoint (a copy where links cannot be made);
    best_checkpoints.json, the state, from which a new tracker on the folder continues; and, after `export_results`,
    best_checkpoint_results.json. If the process is killed at any instant, the folder has a complete best and latest
    checkpoint, and best.pt points to an existing one: the state is written before best.pt is replaced, and best.pt is
    replaced before anything is deleted.

    Args:
        checkpoint_dir: folder of the checkpoints; created if missing.
        metric_name: the metric to rank by.
        higher_is_better: its direction; None: the known one of a metric in `retention.DIRECTIONS`, True for others.
        save_top_k: number of best checkpoints to keep, at least 1.
        keep_every_n_steps: checkpoints at steps that are multiples of it are never deleted; 0: no such rule.
        prune: whether checkpoints that are no longer among the best are deleted. Only those given to `update` ever are,
            and never the latest of them, nor the one that the run was resumed from.
        resumed_from: the checkpoint that the run was resumed from.

    Raises:
        ValueError: an argument outside its range.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        metric_name: str = "composite_score",
        higher_is_better: bool | None = None,
        save_top_k: int = 3,
        keep_every_n_steps: int = 10_000,
        *,
        prune: bool = True,
        resumed_from: str | Path | None = None,
    ) -> None:
        if save_top_k < 1:
            raise ValueError(f"save_top_k must be at least 1, got {save_top_k}")
        if keep_every_n_steps < 0:
            raise ValueError(f"keep_every_n_steps must be at least 0, got {keep_every_n_steps}")
        known = DIRECTIONS.get(metric_name)
        if higher_is_better is not None and known not in (None, higher_is_better):
            _log.warning("%s is better when %s, tracked the other way", metric_name, "higher" if known else "lower")
        self.checkpoint_dir = Path(checkpoint_dir)
        self.metric_name = metric_name
        self.higher_is_better = higher_is_better if higher_is_better is not None else known in (None, True)
        self.save_top_k = save_top_k
        self.keep_every_n_steps = keep_every_n_steps
        self.prune = prune
        self._resumed_from = Path(resumed_from).resolve() if resumed_from is not None else None
        self._entries: list[Entry] = []
        self._latest: str | None = None
        self._owns_link = False
        self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        self._restore()

    @property
    def top(self) -> list[Entry]:
        """The best checkpoints, best first."""
        return self._select(self._entries, self._latest).best

    @property
    def best(self) -> Entry | None:
        """The best checkpoint; None before the first finite score."""
        return next(iter(self.top), None)

    def update(self, step: int, epoch: int, checkpoint_path: str | Path, metrics: Mapping[str, Any]) -> bool:
        """Track a checkpoint that was saved and evaluated.

        Args:
            step: optimizer steps done.
            epoch: finished epochs.
            checkpoint_path: its file or folder, in checkpoint_dir.
            metrics: measured values by name, serialisable as JSON; NumPy and torch scalars too.

        Returns:
            Whether it is the new best.

        Raises:
            ValueError: the path is not in checkpoint_dir, or is a link.
            FileNotFoundError: no such checkpoint.
            OSError: the state cannot be written; the old state is kept, and the checkpoint is not tracked.
        """
        name = self._name(Path(checkpoint_path))
        order = 1 + max((entry.order for entry in self._entries), default=-1)
        # NumPy and torch scalars become Python's.
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in metrics.items()}
        new = Entry(name, int(step), int(epoch), plain, order)
        if new.score(self.metric_name) is None:
            _log.warning("step %d: %s was not measured or is not finite; not ranked", step, self.metric_name)
        elif self.best is not None and not new.comparable(self.best, self.metric_name):
            _log.warning(
                "step %d: %s has other parts than before; earlier checkpoints rank below it", step, self.metric_name
            )
        entries = [*(entry for entry in self._present(self._entries) if entry.path != name), new]
        selection = self._select(entries, name)
        if selection.best:
            self._take_over_link()
        self._save(entries, name)
        self._entries, self._latest = entries, name
        self._point()
        self._delete(selection.to_delete)
        return bool(selection.best) and selection.best[0] is new

    def summary(self) -> str:
        """The best checkpoints as text, best first."""
        lines = [
            "=== Best Checkpoint Summary ===",
            f"Tracking metric: {self.metric_name}",
            f"Saved checkpoints: {len(self.top)}/{self.save_top_k}",
        ]
        for place, entry in enumerate(self.top, start=1):
            lines += [
                f"  #{place}: Step {entry.step}, Epoch {entry.epoch}",
                f"      Path: {entry.path}",
                f"      Metrics: {metrics_text(entry.metrics)}",
            ]
        return "\n".join([*lines, "=" * 32])

    def print_summary(self) -> None:
        """Print the best checkpoints."""
        print(self.summary())

    def export_results(self) -> Path:
        """Write best_checkpoint_results.json, the summary as JSON.

        Returns:
            Its path.
        """
        path = self.checkpoint_dir / BEST_RESULTS
        best = self.best
        write_json(
            path,
            {
                **self._settings,
                "best": best and record(best, self.metric_name),
                "checkpoints": [record(entry, self.metric_name) for entry in self.top],
            },
        )
        return path

    @property
    def _settings(self) -> Mapping[str, Any]:
        return {name: getattr(self, name) for name in _SETTINGS}

    def _select(self, entries: list[Entry], latest: str | None) -> Selection:
        protected = {latest} if latest else set()
        protected |= {
            entry.path for entry in entries if self._resumed_from == (self.checkpoint_dir / entry.path).resolve()
        }
        return select(
            entries, self.metric_name, self.higher_is_better, self.save_top_k, self.keep_every_n_steps, protected
        )

    def _name(self, path: Path) -> str:
        folder = self.checkpoint_dir.resolve()
        place = path.parent.resolve() / path.name
        if not place.is_relative_to(folder) or place == folder or place.name in _NO_CHECKPOINTS:
            raise ValueError(f"{path} is not a checkpoint in {self.checkpoint_dir}")
        if place.is_symlink():
            raise ValueError(f"{path} is a link; give the checkpoint itself")
        if not place.exists():
            raise FileNotFoundError(f"{path}: no such checkpoint")
        return place.relative_to(folder).as_posix()

    def _save(self, entries: list[Entry], latest: str | None) -> None:
        selection = self._select(entries, latest)
        write_state(self.checkpoint_dir / BEST_STATE, selection, latest, self._owns_link, self._settings)

    def _present(self, entries: list[Entry]) -> list[Entry]:
        """Entries whose checkpoint still exists; the others are logged."""
        gone = [entry for entry in entries if not (self.checkpoint_dir / entry.path).exists()]
        for entry in gone:
            _log.warning("%s no longer exists; not tracked any more", entry.path)
        return [entry for entry in entries if entry not in gone]

    def _point(self) -> None:
        """Make best.pt point to the best checkpoint."""
        best = self.best
        if best is not None and not points_to(self.checkpoint_dir / BEST, best.path):
            point_to(self.checkpoint_dir / BEST, best.path)

    def _take_over_link(self) -> None:
        """Move aside a best.pt that this tracker did not make, unless it is a symlink."""
        link = self.checkpoint_dir / BEST
        if not self._owns_link and link.exists() and not link.is_symlink():
            _log.warning("%s was not made by this tracker; renamed to %s", link, set_aside(link).name)
        self._owns_link = True

    def _delete(self, entries: list[Entry]) -> None:
        gone = []
        for entry in entries if self.prune else []:
            path = self.checkpoint_dir / entry.path
            # Renamed first: a folder is deleted file by file, and must not be taken for a checkpoint meanwhile.
            aside = self.checkpoint_dir / f".{entry.path.replace('/', '_')}{_DELETED}"
            try:
                os.replace(path, aside)
                gone.append(entry)
                remove(aside)
            except OSError as error:
                _log.warning("%s cannot be deleted: %s", path, error)
        if gone:
            self._entries = [entry for entry in self._entries if entry not in gone]
            self._save(self._entries, self._latest)

    def _restore(self) -> None:
        """Continue from the state in the folder; what disagrees with the files is repaired and logged."""
        for pattern in (f".*{_DELETED}", f".{BEST}.*.tmp", f".{BEST_STATE}.*.tmp", f".{BEST_RESULTS}.*.tmp"):
            for stale in self.checkpoint_dir.glob(pattern):
                remove(stale)
        state = read_state(self.checkpoint_dir / BEST_STATE)
        if state is None:
            return
        for name in _SETTINGS:
            if state.settings.get(name) != getattr(self, name):
                _log.warning("%s was %s, now %s", name, state.settings.get(name), getattr(self, name))
        self._owns_link = state.owns_link
        inside = [entry for entry in state.entries if self._is_inside(entry)]
        self._entries = self._present(inside)
        names = {entry.path for entry in self._entries}
        self._latest = state.latest if state.latest in names else None
        if len(self._entries) < len(state.entries):
            self._save(self._entries, self._latest)
        best = self.best
        if best is not None and not points_to(self.checkpoint_dir / BEST, best.path):
            _log.warning("%s did not point to the best checkpoint; it now points to %s again", BEST, best.path)
            self._take_over_link()
            self._point()

    def _is_inside(self, entry: Entry) -> bool:
        try:
            return self._name(self.checkpoint_dir / entry.path) == entry.path
        except FileNotFoundError:
            return True
        except (OSError, ValueError) as error:
            _log.warning("%s: %s; no longer tracked", BEST_STATE, error)
            return False

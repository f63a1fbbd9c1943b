"""BestCheckpointTracker: keeps the best checkpoints of a training, and best.pt leading to the best of them.

It serves any training loop that saves checkpoints, files or folders, and judges them. In a training of several
processes, only one of them may use it.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dploss.files.atomic import remove, write_json
from dploss.files.links import leads_to, point_to, set_aside
from dploss.text import metrics_text
from dploss.tracking.retention import DIRECTIONS, Entry, Selection, select
from dploss.tracking.state import BEST, BEST_RESULTS, BEST_STATE, read_state, record, write_state

_log = logging.getLogger(__name__)
_SETTINGS = ("metric_name", "higher_is_better", "save_top_k", "keep_every_n_steps")
_DELETED = ".deleted.tmp"
# The last two are train.py's.
_NO_CHECKPOINTS = (BEST, BEST_STATE, BEST_RESULTS, "config.json", "train_history.json")


class BestCheckpointTracker:
    """Keeps the `save_top_k` best checkpoints by one metric.

    The folder then holds best.pt, a relative link to the best checkpoint (a copy where links cannot be made);
    best_checkpoints.json, the state, from which a tracker made anew on the folder goes on; and, after
    `export_results`, best_checkpoint_results.json. Killed at any instant, the folder has a best and a latest checkpoint
    that are whole, and best.pt leads to a checkpoint that is there: new state is written before best.pt moves, and
    best.pt moves before anything is deleted.

    Args:
        checkpoint_dir: where the checkpoints are; made if need be.
        metric_name: the metric that decides.
        higher_is_better: its direction; None: a known metric brings its own, and of any other more is better.
        save_top_k: how many to keep, at least 1.
        keep_every_n_steps: checkpoints of steps that are its multiples are never deleted; 0 spares none.
        prune: whether what falls out of the best is deleted. Only checkpoints given to `update` ever are, and never
            the latest of them, nor the one the run was resumed from.
        resumed_from: the checkpoint that this run started from.

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
        return self._select(self._entries, self._latest).top

    @property
    def best(self) -> Entry | None:
        """The best checkpoint; None before a finite score was seen."""
        return next(iter(self.top), None)

    def update(self, step: int, epoch: int, checkpoint_path: str | Path, metrics: Mapping[str, Any]) -> bool:
        """Take note of a checkpoint that was saved and judged.

        Args:
            step: optimizer steps done.
            epoch: finished epochs.
            checkpoint_path: its file or folder, in checkpoint_dir.
            metrics: what was measured, by name; plain values, ready for JSON.

        Returns:
            Whether it is the new best.

        Raises:
            ValueError: the path is not in checkpoint_dir, or is a link.
            FileNotFoundError: nothing is there.
            OSError: the state cannot be written; nothing is lost, and the checkpoint is not tracked.
        """
        name = self._name(Path(checkpoint_path))
        order = 1 + max((entry.order for entry in self._entries), default=-1)
        # NumPy's and torch's numbers have item(), JSON has numbers.
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in metrics.items()}
        new = Entry(name, int(step), int(epoch), plain, order)
        if new.score(self.metric_name) is None:
            _log.warning("step %d: %s was not measured or is not finite; not ranked", step, self.metric_name)
        elif self.best is not None and not new.comparable(self.best, self.metric_name):
            _log.warning(
                "step %d: %s is made of other parts than before; earlier ones rank below", step, self.metric_name
            )
        entries = [*(entry for entry in self._present(self._entries) if entry.path != name), new]
        selection = self._select(entries, name)
        if selection.top:
            self._take_over_link()
        self._save(entries, name)
        self._entries, self._latest = entries, name
        self._point()
        self._delete(selection.doomed)
        return bool(selection.top) and selection.top[0] is new

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
        """Write best_checkpoint_results.json, the summary for other programs.

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
    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SETTINGS}

    def _select(self, entries: list[Entry], latest: str | None) -> Selection:
        spared = {latest} if latest else set()
        spared |= {
            entry.path for entry in entries if self._resumed_from == (self.checkpoint_dir / entry.path).resolve()
        }
        return select(
            entries, self.metric_name, self.higher_is_better, self.save_top_k, self.keep_every_n_steps, spared
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
        """Those whose checkpoint is still there; the others are said."""
        gone = [entry for entry in entries if not (self.checkpoint_dir / entry.path).exists()]
        for entry in gone:
            _log.warning("%s is recorded but gone; no longer tracked", entry.path)
        return [entry for entry in entries if entry not in gone]

    def _point(self) -> None:
        """Make best.pt lead to the best checkpoint."""
        best = self.best
        if best is not None and not leads_to(self.checkpoint_dir / BEST, best.path):
            point_to(self.checkpoint_dir / BEST, best.path)

    def _take_over_link(self) -> None:
        """Move a best.pt that somebody else made out of the way, unless it is but a link."""
        link = self.checkpoint_dir / BEST
        if not self._owns_link and link.exists() and not link.is_symlink():
            _log.warning("%s was no link of this tracker; it is now %s", link, set_aside(link).name)
        self._owns_link = True

    def _delete(self, doomed: list[Entry]) -> None:
        gone = []
        for entry in doomed if self.prune else []:
            path = self.checkpoint_dir / entry.path
            # Renamed first: a folder is deleted file by file, and must not look like a checkpoint meanwhile.
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
        """Go on from what the folder holds, repair what disagrees with it, and say so."""
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
        if best is not None and not leads_to(self.checkpoint_dir / BEST, best.path):
            _log.warning("%s did not lead to the best checkpoint; it leads to %s again", BEST, best.path)
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

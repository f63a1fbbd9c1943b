"""The folder of a tracker: which checkpoints are in it, and their deletion."""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from dploss.files.atomic import remove
from dploss.tracking.best_links import BestLinks
from dploss.tracking.ranking import Entry
from dploss.tracking.results import BEST_RESULTS
from dploss.tracking.state import BEST_STATE

# The last two are written by train.py.
_NO_CHECKPOINTS = (BEST_STATE, BEST_RESULTS, "config.json", "train_history.json")
_DELETED = ".deleted.tmp"
# What a killed tracker leaves of a deletion, of a link, of best_checkpoints.json and best_checkpoint_results.json.
_STALE = (f".*{_DELETED}", ".best*.tmp")

_log = logging.getLogger(__name__)


class CheckpointFolder:
    """A folder of checkpoints; created if missing, and cleared of what a killed tracker has left half done.

    Args:
        path: of the folder.
        links: to its best checkpoints.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, links: BestLinks) -> None:
        self.path, self.links = path, links
        path.mkdir(parents=True, exist_ok=True)
        for pattern in _STALE:
            for stale in path.glob(pattern):
                remove(stale)

    def name(self, path: Path) -> str:
        """The path of a checkpoint relative to the folder, with forward slashes.

        Raises:
            ValueError: it is not in the folder, or is a link.
            FileNotFoundError: no such checkpoint.
        """
        folder = self.path.resolve()
        place = path.parent.resolve() / path.name
        reserved = place.name in _NO_CHECKPOINTS or self.links.is_link(place.name)
        if not place.is_relative_to(folder) or place == folder or reserved:
            raise ValueError(f"{path} is not a checkpoint in {self.path}")
        if place.is_symlink():
            raise ValueError(f"{path} is a link; give the checkpoint itself")
        if not place.exists():
            raise FileNotFoundError(f"{path}: no such checkpoint")
        return place.relative_to(folder).as_posix()

    def present(self, entries: Sequence[Entry]) -> list[Entry]:
        """Entries whose checkpoint exists, in the folder; the others are logged."""
        return [entry for entry in entries if self._is_present(entry)]

    def _is_present(self, entry: Entry) -> bool:
        try:
            return self.name(self.path / entry.path) == entry.path
        except FileNotFoundError:
            _log.warning("%s no longer exists; not tracked any more", entry.path)
        except (OSError, ValueError) as error:
            _log.warning("%s: %s; no longer tracked", BEST_STATE, error)
        return False

    def delete(self, paths: Iterable[str]) -> set[str]:
        """Delete checkpoints.

        Args:
            paths: relative to the folder.

        Returns:
            The paths of those that are gone; why another could not be deleted is logged.
        """
        gone = set()
        for path in paths:
            # Renamed first: a folder is deleted file by file, and must not be taken for a checkpoint meanwhile.
            aside = self.path / f".{path.replace('/', '_')}{_DELETED}"
            try:
                os.replace(self.path / path, aside)
                gone.add(path)
                remove(aside)
            except OSError as error:
                _log.warning("%s cannot be deleted: %s", self.path / path, error)
        return gone

"""best.pt and best_<metric>.pt, links to the best checkpoint by each metric."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dploss.files.atomic import remove
from dploss.files.links import point_to, points_to, set_aside

_STEM = "best"
_PT, _SAFETENSORS = ".pt", ".safetensors"
BEST = _STEM + _PT
# With the suffix, at most the 255 bytes of a file name, whatever the script.
_LONGEST_NAME = 40
_LINK = re.compile(rf"{_STEM}(_[\w.-]{{1,{_LONGEST_NAME}}})?({re.escape(_PT)}|{re.escape(_SAFETENSORS)})")

_log = logging.getLogger(__name__)


class BestLinks:
    """The links of a folder.

    The link of the first metric is best.pt, that of any other best_<metric>.pt; to a checkpoint with the suffix
    .safetensors they have that suffix, by which loaders choose the format.

    Args:
        folder: of the checkpoints.
        metric_names: the metrics.

    Attributes:
        owned: names of the links that the tracker made.

    Raises:
        ValueError: two metrics whose links would have the same name.
    """

    def __init__(self, folder: Path, metric_names: Sequence[str]) -> None:
        self.folder = folder
        self.stems = dict(zip(metric_names, (_STEM, *map(_stem, metric_names[1:])), strict=True))
        # Some file systems do not tell upper from lower case.
        if len({stem.casefold() for stem in self.stems.values()}) < len(self.stems):
            raise ValueError(f"the links of the metrics {', '.join(metric_names)} would share a name")
        self.owned: set[str] = set()

    def own(self, names: Iterable[str]) -> None:
        """Take names of links from a tracker's state; any others are not taken."""
        self.owned |= {name for name in names if _LINK.fullmatch(name)}

    def is_link(self, name: str) -> bool:
        """Whether a name in the folder is one of the links'."""
        return name in {stem + suffix for stem in self.stems.values() for suffix in (_PT, _SAFETENSORS)}

    def take_over(self, best: Mapping[str, str]) -> None:
        """Move aside what the tracker did not make, unless it is a symlink.

        Args:
            best: path of the best checkpoint by each metric that has one.
        """
        for name in self._names(best):
            link = self.folder / name
            if name not in self.owned and link.exists() and not link.is_symlink():
                _log.warning("%s was not made by this tracker; renamed to %s", link, set_aside(link).name)
            self.owned.add(name)

    def astray(self, best: Mapping[str, str]) -> dict[str, str]:
        """The links that do not point to the best checkpoints, and the paths that they should point to."""
        names = self._names(best)
        return {name: path for name, path in names.items() if not points_to(self.folder / name, path)}

    def point(self, best: Mapping[str, str]) -> None:
        """Make the links point to the best checkpoints, and remove what the tracker made for others before."""
        for name, path in self.astray(best).items():
            point_to(self.folder / name, path)
        waiting = {self.stems[metric_name] for metric_name in self.stems.keys() - best.keys()}
        for name in self.owned - self._names(best).keys():
            if Path(name).stem not in waiting:
                remove(self.folder / name)
                self.owned.discard(name)

    def _names(self, best: Mapping[str, str]) -> dict[str, str]:
        """Paths by the names of their links."""
        return {
            self.stems[metric_name] + (_SAFETENSORS if path.endswith(_SAFETENSORS) else _PT): path
            for metric_name, path in best.items()
        }


def _stem(metric_name: str) -> str:
    return f"{_STEM}_" + re.sub(r"[^\w.-]+", "_", metric_name)[:_LONGEST_NAME]

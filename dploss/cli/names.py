"""What the commands are called: `dploss train` where that was typed, train.py where the script was run."""

import re
import shlex
import sys
from pathlib import Path

from dploss.config import TrainConfig
from dploss.experiments.catalog import short_id

COMMANDS = {
    "train": "train.py",
    "test": "test.py",
    "encode": "encode.py",
    "share": "share.py",
    "plot": "quick_plot.py",
    "visualize": "visualize_training.py",
}
_NAMES = {script: f"dploss {command}" for command, script in COMMANDS.items()}
# Not a part of a path.
_SCRIPT = re.compile(rf"(?<![\w./\\-])({'|'.join(map(re.escape, _NAMES))})\b(?![/\\])")


def as_started(text: str) -> str:
    """Text that names scripts, with the names that the person uses: theirs, or those of the installed command."""
    return _SCRIPT.sub(lambda found: _NAMES[found[1]], text) if _is_installed_command() else text


def command_line(script: str) -> str:
    """What a person types to run a script, without its flags."""
    return as_started(script) if _is_installed_command() else f"uv run python {script}"


def resume_line(folder: Path) -> str:
    """What a person types to resume the experiment in a folder, from where they are."""
    line = f"{command_line('train.py')} --resume {short_id(folder)}"
    home = folder.parent
    return line if home == Path(TrainConfig.checkpoints_dir) else f"{line} --checkpoints-dir {shlex.quote(str(home))}"


def _is_installed_command() -> bool:
    started = Path(sys.argv[0])
    # The second is `python -m dploss`.
    return started.stem == "dploss" or (started.name == "__main__.py" and started.parent.name == "dploss")

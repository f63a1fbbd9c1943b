"""Which code made an experiment, and when."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

import dploss
from dploss.experiments.record import Origin


def origin_of(experiment_id: str) -> Origin:
    """The origin of a new experiment: this code, now."""
    return Origin(
        experiment_id,
        # Trainings without epochs may start within a second; the newest is the default of many flags.
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        versions={
            "dploss": dploss.__version__,
            "python": platform.python_version(),
            # A plain str: torch's own class of it would not load under weights_only=True.
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        git_commit=git_commit(),
    )


def git_commit() -> str | None:
    """The commit of the checkout this package runs from; None where it is installed without one, or git is missing."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        top, commit = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.split(
            "\n"
        )[:2]
    except (OSError, subprocess.SubprocessError):
        return None
    return commit if Path(top) == root else None

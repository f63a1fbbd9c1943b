"""What several tests need: real rows, the scripts as a person runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from dploss.vectors import open_vectors

ROOT = Path(__file__).resolve().parents[1]

# No test asserts on seconds, and a run repeats itself.
settings.register_profile("dploss", deadline=None, derandomize=True)
settings.load_profile("dploss")

# Where this is set, every process would compile torch anew: 9 s to start instead of 3.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def builtin() -> np.ndarray:
    """The first 600 built-in rows, (600, 768) float32."""
    return open_vectors(limit=600).rows


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script of the root in an empty folder: run("train.py", "--epochs", 1)."""

    def run_script(script: str, *flags: object) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / script), *map(str, flags)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run_script

"""Seconds that the scripts take to list, plot and compare many long trainings, started from the command line.

The experiments are synthetic: histories of falling losses, configs that differ in tau and latent_dim.
"""

import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from timing import parser, report

from dploss.config import TrainConfig
from dploss.experiments.history import TrainHistory
from dploss.experiments.layout import CONFIG, HISTORY
from dploss.files.atomic import write_json

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("visualize_training.py --list", "quick_plot.py", "visualize_training.py --compare --no-recall")


def make_experiments(folder: Path, count: int, epochs: int) -> None:
    """Write configs and histories as train.py does."""
    random = np.random.default_rng(0)
    for index in range(count):
        experiment = folder / str(uuid.uuid4())
        experiment.mkdir(parents=True)
        config = TrainConfig(tau=(1 + index) / 10, latent_dim=32 + index, epochs=epochs).as_dict()
        created = f"2026-01-{1 + index % 28:02d}T00:00:00+00:00"
        write_json(experiment / CONFIG, {**config, "data": {"path": "builtin"}, "created": created, "input_dim": 768})
        history = TrainHistory(
            recall_k=5, recall_rows=3000, pca_recall=0.5, pca_renormalised_recall=0.55, status="completed"
        )
        for epoch in range(epochs):
            rank = float(np.exp(-epoch / 200) + random.uniform(0, 0.01))
            history.add_epoch(rank + 0.3 * rank**2, rank, rank**2, 1e-3, 0.9)
            if (epoch + 1) % 10 == 0:
                history.add_recall(0.9 - 0.3 * rank)
        history.save(experiment / HISTORY)


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--experiments", type=int, default=50)
    flags.add_argument("--epochs", type=int, default=1000)
    flags.add_argument("--repeat", type=int, default=3)
    args = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_experiments(Path(folder, "checkpoints"), args.experiments, args.epochs)
        rows = []
        for command in COMMANDS:
            script, *given = command.split()
            times = []
            for _ in range(args.repeat):
                start = time.perf_counter()
                subprocess.run([sys.executable, ROOT / script, *given], cwd=folder, check=True, capture_output=True)
                times.append(time.perf_counter() - start)
            rows.append(
                {
                    "command": command,
                    "experiments": args.experiments,
                    "epochs": args.epochs,
                    "seconds": float(np.median(times)),
                }
            )
    report(rows, args.json)


if __name__ == "__main__":
    main()

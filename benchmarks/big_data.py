"""Time and memory with large files: reading parquet, training from the disk in blocks, encoding from file to file.

Each part makes its own files in a temporary folder (TMPDIR):

  big_data.py read       100,000 x 1,024 float32 from parquet, relative to a raw read of as many bytes; memory
  big_data.py train      1,000,000 x 768 float32 from a .npy file: memory while it trains
  big_data.py shuffle    recall where similar rows are adjacent in the file, shuffled whole and in blocks
  big_data.py encode     encode.py, relative to its matrix products plus a raw read and a raw write
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from timing import report

from dploss.config import TrainConfig
from dploss.data import batches as loading
from dploss.data import open_vectors
from dploss.data.formats.parquet import read_parquet
from dploss.encoding.job import EncodeJob
from dploss.models.build import load_encoder
from dploss.training.launch import new_experiment


class PeakMemory:
    """Peak memory of this process while the block runs, in bytes, and its memory before.

    Args:
        mapped: whether to also count pages of mapped files, which are the system's cache: it reclaims them on demand.
    """

    def __init__(self, mapped: bool = False) -> None:
        self.kinds = ("RssAnon", "RssShmem", *(["RssFile"] if mapped else []))

    def __enter__(self) -> "PeakMemory":
        self.before = self.peak = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, self._now())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(self.kinds))


def seconds(action: Callable[[], object], repeat: int) -> float:
    """Median time of `repeat` runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def raw_read(path: Path, size: int) -> np.ndarray:
    """The first `size` bytes of a file."""
    return np.fromfile(path, np.uint8, size)


def read(folder: Path) -> list[dict[str, Any]]:
    """Parquet against a raw read."""
    rows = np.random.default_rng(0).normal(size=(100_000, 1024)).astype(np.float32)
    raw, table = folder / "rows.bin", folder / "rows.parquet"
    rows.tofile(raw)
    size = rows.nbytes
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 1024)
    pq.write_table(pa.table({"embedding": lists.cast(pa.list_(pa.float32()))}), table, row_group_size=10_000)
    del rows, lists
    both = {"raw read": lambda: raw_read(raw, size), "parquet": lambda: read_parquet([table], None, None)}
    table_rows = []
    for action in both.values():
        action()
    for name, action in both.items():
        took = seconds(action, 5)
        with PeakMemory(mapped=True) as memory:
            action()
        table_rows.append({"": name, "seconds": took, "memory / array": (memory.peak - memory.before) / size})
    for row in table_rows:
        row["ratio"] = row["seconds"] / table_rows[0]["seconds"]
    return table_rows


def make(path: Path, rows: int, dim: int) -> None:
    """Write clustered vectors, one cluster after the other, to a .npy file, 10,000 rows at a time."""
    generator = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dim))
    basis = generator.normal(size=(64, dim)).astype(np.float32)
    for start in range(0, rows, 10_000):
        count = min(10_000, rows - start)
        parts = generator.normal(size=(count, 64)) + 2 * generator.normal(size=64)
        noise = generator.normal(size=(count, dim))
        block = parts.astype(np.float32) @ basis + noise.astype(np.float32)
        out[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()


def train(folder: Path) -> list[dict[str, Any]]:
    """Memory of a training from the disk."""
    path = folder / "rows.npy"
    make(path, 1_000_000, 768)
    config = TrainConfig(
        data=str(path), latent_dim=128, epochs=1, checkpoints_dir=str(folder / "checkpoints"), no_tensorboard=True
    )
    start = time.perf_counter()
    with PeakMemory() as memory:
        history = new_experiment(config).run()
    return [
        {
            "rows": 1_000_000,
            "dim": 768,
            "array, GB": path.stat().st_size / 1e9,
            "memory, GB": memory.peak / 1e9,
            "before, GB": memory.before / 1e9,
            "seconds": time.perf_counter() - start,
            "of the epoch": history.epoch_times[0],
            "recall": history.recall_history[-1],
            "PCA": history.pca_recall,
        }
    ]


def shuffle(folder: Path) -> list[dict[str, Any]]:
    """The built-in vectors sorted along their first component, shuffled whole and in blocks."""
    rows = open_vectors().rows
    order = np.lexsort((rows @ np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][0],))
    path = folder / "sorted.npy"
    np.save(path, rows[order])
    table = []
    for name, block, window in (("whole", 1, 1), ("blocks of 16, 32 a window", 16, 32)):
        for seed in (0, 1, 2):
            config = TrainConfig(
                data=str(path),
                latent_dim=64,
                epochs=20,
                k=10,
                seed=seed,
                save_interval=20,
                checkpoints_dir=str(folder / "checkpoints"),
                no_tensorboard=True,
                quiet=True,
            )
            loading.WINDOW_BLOCKS = window
            run = new_experiment(config)
            run.trainer.block = block
            history = run.run()
            table.append({"shuffled": name, "seed": seed, "recall@10": history.recall_history[-1]})
    return table


def encode(folder: Path) -> list[dict[str, Any]]:
    """Encoding from file to file, relative to its parts."""
    rows, dim, size = 200_000, 768, 128
    source, output = folder / "rows.npy", folder / "short.npy"
    make(source, rows, dim)
    checkpoints = folder / "checkpoints"
    config = TrainConfig(limit=2000, latent_dim=size, epochs=1, checkpoints_dir=str(checkpoints), quiet=True)
    run = new_experiment(config)
    run.run()
    path = run.folder / "latest_model.pth"
    encoder = load_encoder(path)

    def job() -> None:
        EncodeJob(encoder, str(source), output, checkpoint=path, experiment_id=run.record.origin.experiment_id).run()

    hidden = config.hidden_dims[0]
    batch = torch.randn(8192, dim)
    matrices = [torch.randn(dim, size), torch.randn(dim, hidden), torch.randn(hidden, size)]
    middle = torch.randn(8192, hidden)

    def products() -> None:
        for _ in range(round(rows / 8192)):
            batch @ matrices[0]
            batch @ matrices[1]
            middle @ matrices[2]

    latents = np.zeros((rows, size), np.float32)

    def write() -> None:
        with open(folder / "raw.bin", "wb") as file:
            file.write(latents.data)
            file.flush()
            os.fsync(file.fileno())

    parts = {"matrix products": products, "raw read": lambda: raw_read(source, 4 * rows * dim), "raw write": write}
    job()
    times = {name: seconds(action, 5) for name, action in {**parts, "encode.py": job}.items()}
    floor = sum(times[name] for name in parts)
    return [{"": name, "seconds": took, "ratio to the parts": took / floor} for name, took in times.items()]


PARTS = {"read": read, "train": train, "shuffle": shuffle, "encode": encode}


def main() -> None:
    """Print the table of one part."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("part", choices=PARTS)
    flags.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    flags.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        report(PARTS[args.part](Path(folder)), args.json)


if __name__ == "__main__":
    main()

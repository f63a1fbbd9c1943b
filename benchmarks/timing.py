"""Shared by the benchmarks: median times of interleaved calls, the machine's description, tables and JSON."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dploss.data import open_vectors


def parser(description: str) -> argparse.ArgumentParser:
    """Flags common to the benchmarks."""
    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--json", type=Path, metavar="PATH", help="also write the table there as JSON")
    flags.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="torch threads (default: all cores)"
    )
    return flags


def builtin_rows(count: int) -> torch.Tensor:
    """(count, 768) of the built-in vectors, drawn at random."""
    rows = torch.from_numpy(open_vectors().rows)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:count]].contiguous()


def milliseconds(calls: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Median time of each call; calls are interleaved, so that changes of the machine's speed affect all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> str:
    """The processor, its cores and torch's threads."""
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    name = models[0].split(":", 1)[1].strip() if models else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def report(rows: list[dict[str, Any]], path: Path | None) -> None:
    """Print rows as a Markdown table under the machine's name, and write them to `path`."""
    print(f"{machine()}\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(_formatted(value) for value in row.values()) + " |")
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


def _formatted(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"

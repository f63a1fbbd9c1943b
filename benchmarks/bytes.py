"""What a byte buys: recall@10 of stored forms at equal bytes, dploss's codes beside what FAISS and others have.

Queries are floats, all bytes of a stored row are counted, and neither queries nor stored rows were trained on: 1,000
held-out rows among themselves, as in quality.py; of sets of 50,000 rows and more 55,000 are stored and 5,000 are
queries. "limit" is what an ideal code for squared error would keep of Gaussian rows of that covariance. Results are
written one by one: after Ctrl-C the same command continues. turbovec and rabitqlib are left out where they are not
installed, and a method where its bytes are too few for it.

Examples:
  bytes.py --quick                             the built-in vectors, without trainings, OPQ and RQ: minutes
  bytes.py --data builtin my.parquet           all methods: hours
  bytes.py --methods trellis OPQ --bytes 64
  bytes.py --report                            tables and figure of what was measured
"""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bytes_methods import METHODS, SLOW
from bytes_report import LIMIT, RERANK, figure, tables, write_into
from bytes_search import K, share_found, true_neighbours
from timing import machine

from dploss.cli.main import Parser, run
from dploss.codes.build import CODES
from dploss.data import open_vectors, split_rows
from dploss.files.atomic import write_json
from dploss.plots import save

DOCS = Path(__file__).resolve().parents[1] / "docs" / "BYTES.md"
OUT = DOCS.with_name("bytes.json")
_BYTES, _QUICK = (16, 32, 64, 128, 256), (16, 64)
_LARGE, _TRAIN, _QUERIES = 50_000, 40_000, 5_000


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("bytes.py", __doc__)
    flags.add_argument("--data", nargs="+", default=["builtin"], metavar="FILE", help="(default: builtin)")
    flags.add_argument("--bytes", type=int, nargs="+", metavar="N", help=f"(default: {_BYTES}; with --quick {_QUICK})")
    flags.add_argument("--methods", nargs="+", choices=(*METHODS, LIMIT), metavar="NAME", help="(default: all)")
    flags.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="(default: 0)")
    flags.add_argument("--quick", action="store_true", help="leave out " + ", ".join(SLOW))
    flags.add_argument("--report", action="store_true", help="measure nothing")
    flags.add_argument("--out", type=Path, default=OUT, metavar="JSON", help="results (default: docs/bytes.json)")
    return flags


def split(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Training rows, stored rows, and queries; None: the stored rows themselves, each without itself."""
    if len(rows) >= _LARGE:
        order = np.random.RandomState(seed).permutation(len(rows))
        return rows[order[:_TRAIN]], rows[order[_TRAIN:-_QUERIES]], rows[order[-_QUERIES:]]
    train, held_out = split_rows(len(rows), 0.1, seed)
    return rows[train], rows[held_out], None


def evaluated(name: str, n_bytes: int, rows: np.ndarray, seed: int) -> dict[str, Any]:
    """Recall, re-ranked recall, times and sizes of a method."""
    train, stored, queries = split(rows, seed)
    true = true_neighbours(stored, queries)
    if name == LIMIT:
        return {"recall": gaussian_limit(train, stored, queries, true, n_bytes)}
    if name in CODES:
        # Compiled before it is timed.
        METHODS[name](train[:1000], n_bytes)
    started = time.perf_counter()
    method = METHODS[name](train, n_bytes)
    fitted = time.perf_counter()
    codes = method.encode(stored)
    encoded = time.perf_counter()
    own = queries is None
    found = method.search(codes, stored if own else queries, K * RERANK + own)
    searched = time.perf_counter()
    if own:
        # Without the row itself, wherever it was found; where it was not, without the last.
        is_self = found == np.arange(len(found))[:, None]
        is_self[~is_self.any(axis=1), -1] = True
        found = found[~is_self].reshape(len(found), -1)
    return {
        "recall": share_found(true, found[:, :K]),
        "reranked": share_found(true, found),
        "fit_seconds": fitted - started,
        "rows_per_second": len(stored) / (encoded - fitted),
        "queries_per_second": len(found) / (searched - encoded),
        "model_bytes": method.model_bytes,
    }


def gaussian_limit(
    train: np.ndarray, stored: np.ndarray, queries: np.ndarray | None, true: np.ndarray, n_bytes: int
) -> float:
    """Recall of reverse water-filling (Cover & Thomas, section 10.3.3): a y + noise along each principal axis."""
    mean = train.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov((train - mean).T.astype(np.float64), bias=True))
    variances = variances.clip(1e-12)
    low, high = 0.0, float(variances.max())
    for _ in range(100):
        level = (low + high) / 2
        bits = 0.5 * np.log2(variances / np.minimum(level, variances)).sum()
        low, high = (level, high) if bits > 8 * n_bytes else (low, level)
    distortion = np.minimum(high, variances)
    kept = 1 - distortion / variances
    coordinates = (stored - mean) @ axes
    noise = np.random.RandomState(0).standard_normal(coordinates.shape)
    points = kept * coordinates + np.sqrt(distortion * kept) * noise
    asked = coordinates if queries is None else (queries - mean) @ axes
    scores = np.square(coordinates).sum(axis=1) - 2 * asked @ points.T
    if queries is None:
        np.fill_diagonal(scores, np.inf)
    return share_found(true, np.argpartition(scores, K - 1, axis=1)[:, :K])


def measure(args: Namespace) -> int:
    """Measure what the results file lacks, then print the tables and draw the figure."""
    results = json.loads(args.out.read_text()) if args.out.exists() else {"machine": machine(), "entries": []}
    keys = ("data", "method", "bytes", "seed")
    done = {tuple(entry[key] for key in keys) for entry in results["entries"]}
    chosen = args.methods or [name for name in (*METHODS, LIMIT) if not (args.quick and name in SLOW)]
    sizes = args.bytes or (_QUICK if args.quick else _BYTES)
    for source in [] if args.report else args.data:
        rows = np.asarray(open_vectors(source).rows, np.float32)
        for seed, n_bytes, name in ((s, b, m) for s in args.seeds for b in sizes for m in chosen):
            case = dict(zip(keys, (Path(source).stem, name, n_bytes, seed), strict=True))
            if tuple(case.values()) in done:
                continue
            try:
                values = evaluated(name, n_bytes, rows, seed)
            except (ImportError, ValueError) as error:
                print(f"{case['data']}, {name}, {n_bytes} bytes: left out, {error}", file=sys.stderr, flush=True)
                continue
            found = case | {key: round(value, 4 if value < 10 else 1) for key, value in values.items()}
            results["entries"].append(found)
            write_json(args.out, results)
            print(found, file=sys.stderr, flush=True)
    lines = tables(results["entries"])
    print("\n".join(lines))
    if args.out == OUT:
        write_into(DOCS, lines)
    save(figure(results["entries"]), args.out.with_suffix(".png"))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(measure, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())

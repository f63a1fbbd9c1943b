"""Recall on held-out rows: the losses of dploss against other methods of dimensionality reduction, at the same sizes.

All methods are fitted to the training rows of the same splits, and evaluated on the same held-out rows, as neighbours
of each other. Ours is evaluated after the last epoch, so held-out rows select nothing. Every result is written at once:
after Ctrl-C the same command continues with the missing ones.

Examples:
  quality.py --quick                        a first look, in a few minutes
  quality.py --jobs 2                       all of it, on the built-in vectors: hours
  quality.py --jobs 2 --data my.parquet     also on your own vectors
  quality.py --methods PCA DPLossV2 --sizes 64 --seeds 0 --out build/one.json
  quality.py --again DPLossV2               after a change of that loss
  quality.py --table-only --measure NDCG@10
"""

import os
import sys
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import product
from multiprocessing import active_children, get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Any, TypeVar

import numpy as np
import torch
from quality_methods import METHODS, PACKAGES, Case
from quality_report import MEASURES, draw_figure, measure, tables
from quality_results import described, opened, our_settings, read, version_of, versions
from timing import machine

from dploss.cli.main import INTERRUPTED, Parser, run
from dploss.config import TrainConfig
from dploss.data import BUILTIN, open_vectors, split_rows
from dploss.errors import InputError
from dploss.files.atomic import write_json
from dploss.plots.style import figure_path, save

ROOT = Path(__file__).resolve().parents[1]
FULL = {
    "sizes": (32, 64, 128, 256, 512),
    "seeds": (0, 1, 2),
    "epochs": TrainConfig().epochs,
    "out": ROOT / "docs" / "quality.json",
}
QUICK = {"sizes": (64, 256), "seeds": (0,), "epochs": 4, "out": ROOT / "build" / "quality-quick.json"}
_Case = TypeVar("_Case")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("quality.py", __doc__)
    number = whole_number(1)
    flags.add_argument("--data", nargs="+", default=[], metavar="FILE", help="vectors beside the built-in ones")
    flags.add_argument("--limit", type=number, default=10_000, metavar="N", help="rows of each (default: %(default)s)")
    flags.add_argument(
        "--sizes", type=number, nargs="+", metavar="D", help="latent dimensions (default: 32 64 128 256 512)"
    )
    flags.add_argument(
        "--seeds", type=whole_number(0), nargs="+", metavar="N", help="of split and initialisation (default: 0 1 2)"
    )
    flags.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
        metavar="METHOD",
        help=f"some of: {', '.join(map(repr, METHODS))} (default: all)",
    )
    flags.add_argument("--epochs", type=number, metavar="N", help="of our trainings (default: train.py's)")
    flags.add_argument(
        "--quick",
        action="store_true",
        help="other defaults: sizes 64 and 256, seed 0, 4 epochs, results in build/quality-quick.json; "
        "and fewer epochs of the slow baselines",
    )
    flags.add_argument(
        "--jobs",
        type=number,
        default=1,
        metavar="N",
        help="measure N cases at once, each in a process with one thread; 1: in this process (default: %(default)s)",
    )
    flags.add_argument("--out", type=Path, metavar="JSON", help="results file (default: docs/quality.json)")
    flags.add_argument(
        "--again", nargs="*", choices=METHODS, metavar="METHOD", help="measure these again; all, if none is named"
    )
    flags.add_argument("--table-only", action="store_true", help="measure nothing; show the existing results")
    flags.add_argument("--measure", choices=MEASURES, default="recall@10", help="to show (default: %(default)s)")
    flags.add_argument("--picture", metavar="PATH", help="a .png, .pdf or .svg (default: beside the results)")
    return flags


def whole_number(least: int) -> Callable[[str], int]:
    """A parser of whole numbers for flags."""

    def read_number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"must be a whole number, at least {least}, got {text!r}")
        return int(text)

    return read_number


def compare(args: Namespace) -> int:
    """Measure what is missing, then show all results."""
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    path = figure_path(args.picture or args.out.with_suffix(".png"))
    try:
        results = read(args.out) if args.table_only else measured(args)
    except KeyboardInterrupt:
        print(
            f"interrupted; {args.out} has what is finished; the same flags without --again continue",
            file=sys.stderr,
        )
        return INTERRUPTED
    except BrokenProcessPool:
        print(f"a worker was killed, perhaps out of memory; {args.out} has the finished results", file=sys.stderr)
        return 1
    print("\n".join(tables(results, args.measure)))
    save(draw_figure(results, args.measure), path)
    print(f"\n{path}")
    return 0


def measured(args: Namespace) -> dict[str, Any]:
    """Measure what the results file lacks; every result is written to it at once."""
    for method, package in PACKAGES.items():
        if method in args.methods and version_of(package) is None:
            print(f"{method} is skipped: {package} is not installed", file=sys.stderr)
            args.methods.remove(method)
    sources = {Path(source).stem: source for source in (BUILTIN, *args.data)}
    if len(sources) <= len(args.data):
        raise InputError("--data: two of the files have the same name")
    facts = {"quick": args.quick, "ours": our_settings(args.epochs)}
    data = [described(name, source, args.limit) for name, source in sources.items()]
    results = opened(args.out, facts, data, METHODS if args.again == [] else args.again or ())
    missing = list(missing_cases(args, sources, results))
    if not missing and not results["entries"]:
        raise InputError("nothing to measure: give --sizes below the vectors' dimensions, and installed --methods")
    if args.jobs > 1:
        # As in each worker, for the machine's description.
        torch.set_num_threads(1)
    if missing:
        results |= {"machine": machine(), "versions": versions()}
    for number, (case, outcome) in enumerate(outcomes(evaluate, missing, args.jobs), start=1):
        about = {"data": case.name, "size": case.size, "seed": case.seed, "method": case.method}
        results["entries"].append(about | outcome)
        write_json(args.out, results)
        result = outcome.get("error") or f"{args.measure} {outcome[args.measure]:.4f} in {outcome['seconds']:.1f} s"
        where = f"{case.name} -> {case.size}, seed {case.seed}"
        print(f"{number}/{len(missing)}  {where}, {case.method}: {result}", file=sys.stderr)
    return results


def missing_cases(args: Namespace, sources: Mapping[str, str], results: Mapping[str, Any]) -> Iterator[Case]:
    """The cases still to be measured, seed by seed, so that every method has a first result early."""
    done = {(one["data"], one["size"], one["seed"], one["method"]) for one in results["entries"]}
    dims = {one["name"]: one["dim"] for one in results["data"]}
    for seed, (name, source), size, method in product(args.seeds, sources.items(), args.sizes, args.methods):
        if size < dims[name] and (name, size, seed, method) not in done:
            yield Case(name, source, args.limit, seed, size, method, args.epochs, args.quick)


def outcomes(
    evaluate: Callable[[_Case], dict[str, Any]], cases: Sequence[_Case], jobs: int
) -> Iterator[tuple[_Case, dict[str, Any]]]:
    """Evaluate cases, `jobs` at once; yields each with its result, in the order in which they finish.

    Raises:
        BrokenProcessPool: a worker was killed.
    """
    if jobs == 1:
        yield from ((case, evaluate(case)) for case in cases)
        return
    # Set for the workers before they load the libraries that read it.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=start_worker) as workers:
        try:
            futures = {workers.submit(evaluate, case): case for case in cases}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            # A case may take minutes: do not wait for it.
            for worker in active_children():
                worker.terminate()
            raise


def write_outcomes(
    evaluate: Callable[[_Case], dict[str, Any]],
    cases: Sequence[_Case],
    jobs: int,
    entries: list[dict[str, Any]],
    path: Path,
) -> None:
    """Evaluate cases, add each result to the entries, and write them all to a results file at once."""
    for count, (_, found) in enumerate(outcomes(evaluate, cases, jobs), start=1):
        entries.append(found)
        write_json(path, {"machine": machine(), "entries": entries})
        print(f"{count}/{len(cases)}  {found}", file=sys.stderr)


def start_worker() -> None:
    """Leave Ctrl-C to the parent process, and use one thread."""
    signal(SIGINT, SIG_IGN)
    torch.set_num_threads(1)


def evaluate(case: Case) -> dict[str, Any]:
    """Fit a method to the training rows, and measure it on the held-out rows; or return its error, on one line."""
    rows = rows_of(case.source, case.limit)
    training, held_out = (rows[part] for part in split_rows(len(rows), TrainConfig.val_fraction, case.seed))
    threads, start = torch.get_num_threads(), time.perf_counter()
    try:
        encode = METHODS[case.method](training, case)
        seconds = time.perf_counter() - start
        found = measure(held_out, encode(held_out))
    except Exception as error:
        seconds = time.perf_counter() - start
        found = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    # UMAP's numba changes it to all cores.
    torch.set_num_threads(threads)
    return found | {"seconds": seconds, "threads": threads}


@cache
def rows_of(source: str, limit: int) -> np.ndarray:
    """(N, D) rows of a data set, read once per process."""
    return open_vectors(source, limit=limit).rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(compare, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())

"""Makes dploss/codes/trellis_tables.npz: the values of the trellis code's states for a unit Gaussian, 1 to 8 bits.

Lloyd iterations along the cheapest paths of Gaussian samples. They begin with the quantiles of a Gaussian, dealt out to
the states by a multiplication modulo 256, whose factor is searched: neighbouring states get values far apart.

Examples:
  make_trellis_tables.py                    some minutes; prints the mean squared errors beside
                                            Lloyd-Max cells' and the limit 4^-bits
  make_trellis_tables.py --out tables.npz
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numba
import numpy as np
from scipy.stats import norm

from dploss.cli.main import Parser, run
from dploss.codes.scalar import lloyd_max
from dploss.codes.trellis_kernels import STATES, encode_paths
from dploss.files.atomic import atomic_write

OUT = Path(__file__).resolve().parents[1] / "dploss" / "codes" / "trellis_tables.npz"
_DIMS, _SEAM_BITS = 64, 48
# Rows and iterations of the search for the factor, and of the tables themselves.
_SHORT, _LONG = (256, 8), (4096, 150)
_FINALISTS = 5
# How many samples the former value of a state counts for.
_INERTIA = 4


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("make_trellis_tables.py", __doc__)
    flags.add_argument("--out", type=Path, default=OUT, metavar="NPZ", help="(default: where the package has them)")
    return flags


def lloyd(table: np.ndarray, bits: int, rows: int, iterations: int) -> tuple[np.ndarray, float]:
    """Refine (256,) values of the states; returns them with the mean squared error of the last iterations."""
    random = np.random.RandomState(bits)
    all_bits, weights = np.full(_DIMS, bits, np.int64), np.ones(_DIMS, np.float32)
    seam, errors = min(_DIMS, -(-_SEAM_BITS // bits)), []
    for _ in range(iterations):
        values = random.standard_normal((rows, _DIMS)).astype(np.float32)
        tables = np.ascontiguousarray(np.broadcast_to(table, (_DIMS, STATES)))
        states = encode_paths(values, tables, all_bits, weights, seam, numba.get_num_threads())
        errors.append(float(np.mean((values - table[states]) ** 2, dtype=np.float64)))
        counts = np.bincount(states.ravel(), minlength=STATES)
        sums = np.bincount(states.ravel(), values.ravel(), minlength=STATES)
        table = ((sums + _INERTIA * table) / (counts + _INERTIA)).astype(np.float32)
    return table, float(np.mean(errors[-5:]))


def best_table(bits: int) -> tuple[np.ndarray, float]:
    """The (256,) values for `bits` bits a dimension, and their mean squared error."""
    quantiles = norm.ppf((np.arange(STATES) + 0.5) / STATES).astype(np.float32)
    # With 8 bits nothing is shared between states: Lloyd-Max cells.
    factors = [1] if bits == 8 else range(3, STATES, 2)
    starts = {factor: quantiles[np.arange(STATES) * factor % STATES] for factor in factors}
    ranked = sorted(factors, key=lambda factor: lloyd(starts[factor], bits, *_SHORT)[1])
    return min((lloyd(starts[factor], bits, *_LONG) for factor in ranked[:_FINALISTS]), key=lambda found: found[1])


def make(args: Namespace) -> int:
    """Make the tables, print their errors, and write them."""
    tables, errors = [], [1.0]
    for bits in range(1, 9):
        table, error = best_table(bits)
        tables.append(table)
        errors.append(error)
        print(
            f"{bits} bits  mean squared error {error:.5f}  Lloyd-Max {lloyd_max(bits)[1]:.5f}  limit {4.0**-bits:.5f}",
            flush=True,
        )
    with atomic_write(args.out) as file:
        np.savez(file, tables=np.stack(tables), errors=np.array(errors))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(make, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())

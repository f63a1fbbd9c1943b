"""What training makes of a code: recall@10 of the closed form and of the trained code, on rows that neither saw.

Of sets of 50,000 rows and more 10,000 rows are held out, of others a tenth; they are searched among themselves, by
float queries and, as databases do, by what is stored of the queries: Hamming distances of bits, Euclidean distances of
numbers. Both codes store the start of `train.py --bytes`, renormalised PCA.
"""

import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from bytes_search import K, least, share_found, true_neighbours
from timing import parser, report

from dploss.codes.binary import BinaryCode
from dploss.codes.build import TRAINED, fit_code
from dploss.codes.code import Code
from dploss.codes.elementwise import ElementwiseCode
from dploss.data import open_vectors, split_rows
from dploss.evaluation.peers import closed_form
from dploss.losses import DPLossV3

_LARGE, _HELD_OUT = 50_000, 10_000


def kept(code: Code, latents: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Share of the true neighbours that searches among the stored rows find, by the kind of search."""
    codes = code.encode(latents)
    scores = {"recall": code.score(latents, codes)}
    if isinstance(code, BinaryCode):
        scores["Hamming"] = code.hamming(codes, codes).astype(np.float32)
    elif isinstance(code, ElementwiseCode):
        numbers = code.elements(codes)
        scores["stored queries"] = np.square(numbers).sum(axis=1) - 2 * numbers @ numbers.T
    for one in scores.values():
        np.fill_diagonal(one, np.inf)
    return {name: share_found(true, least(one, K)) for name, one in scores.items()}


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", nargs="+", default=["builtin"], metavar="FILE", help="(default: builtin)")
    flags.add_argument("--code", default="trellis", choices=sorted(TRAINED), help="(default: trellis)")
    flags.add_argument("--bytes", type=int, nargs="+", default=[16, 32, 64, 128], metavar="N")
    flags.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="of the split (default: 0)")
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    table = []
    for source in args.data:
        rows = np.asarray(open_vectors(source).rows, np.float32)
        share = _HELD_OUT / len(rows) if len(rows) >= _LARGE else 0.1
        for n_bytes, seed in product(args.bytes, args.seeds):
            train, held_out = (rows[index] for index in split_rows(len(rows), share, seed))
            start, true = closed_form(args.code, train, n_bytes), true_neighbours(held_out, None)
            # closed_form's own code is of fewer rows.
            latents = start.latents(train)
            closed, begun = fit_code(args.code, latents, n_bytes), time.perf_counter()
            code = fit_code(args.code, latents, n_bytes, DPLossV3())
            seconds = time.perf_counter() - begun
            before, after = (kept(one, start.latents(held_out), true) for one in (closed, code))
            case = {"data": Path(source).stem, "rows": len(train), "bytes": n_bytes, "seed": seed}
            gains = {f"{name}, gain": after[name] - before[name] for name in before}
            table.append(case | {"code": code.name} | after | gains | {"s to fit": seconds})
    report(table, args.json)


if __name__ == "__main__":
    main()

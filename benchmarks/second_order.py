"""What a decoder of second order adds to the trellis code: recall@10 of 1,000 held-out rows among themselves.

A code's own decoder is linear in the coordinates that it stored. Along principal axes they are uncorrelated, but rows
of embeddings are no Gaussian: products of two coordinates predict a part of what the code lost, also along the axes
that have no bits (dploss/codes/second_order.py). Here for several numbers of axes whose products are taken.
"""

import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bytes_search import K, least, share_found, true_neighbours
from timing import parser, report

from dploss.codes.row_scale import RowScale
from dploss.codes.second_order import SecondOrder
from dploss.codes.transform_code import TransformCode
from dploss.data import open_vectors, split_rows
from dploss.evaluation.peers import closed_form


def measured(train: np.ndarray, held_out: np.ndarray, n_bytes: int, sizes: list[int]) -> list[dict[str, Any]]:
    """A row of the table for the code itself, and for each number of axes."""
    peer = closed_form("trellis", train, n_bytes)
    code = peer.code
    assert isinstance(code, TransformCode)
    rows, decoded = [], []
    for latents in (peer.latents(train), peer.latents(held_out)):
        rows.append(code.rotation.centre(latents))
        decoded.append(code.unscaled(code.encode(latents))[0])
    true = true_neighbours(held_out, None)
    linear = [code.rotation.from_axes(one) for one in decoded]
    table = []
    for axes in (0, *(size for size in sizes if size <= decoded[0].shape[1])):
        start = time.perf_counter()
        points = linear
        if axes:
            fitted = SecondOrder.fit(decoded[0], rows[0] - linear[0], axes)
            points = [one + fitted.predict(own) for one, own in zip(linear, decoded, strict=True)]
        seconds = time.perf_counter() - start
        error = float(np.square(rows[1] - points[1]).sum() / np.square(rows[1] - linear[1]).sum())
        recall = kept(rows, points, true)
        table.append(
            {
                "bytes": n_bytes,
                "axes": axes,
                "squared error": error,
                "recall": recall,
                "s to fit": seconds if axes else 0,
            }
        )
    return table


def kept(rows: list[np.ndarray], points: list[np.ndarray], true: np.ndarray) -> float:
    """Share of the true neighbours among the nearest points, norms restored; both lists: training, held-out."""
    scale = RowScale.fit(rows[0], rows[0], points[0])
    scales = scale.read(scale.byte(rows[1], np.square(rows[1]).sum(axis=1), points[1]))
    biases = scale.biases(scales, np.square(points[1]).sum(axis=1))
    scores = biases - 2 * rows[1] @ (points[1] * scales[:, None] ** np.float32(scale.power)).T
    np.fill_diagonal(scores, np.inf)
    return share_found(true, least(scores, K))


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", nargs="+", default=["builtin"], metavar="FILE", help="(default: builtin)")
    flags.add_argument("--bytes", type=int, nargs="+", default=[16, 32, 64, 128], metavar="N")
    flags.add_argument("--axes", type=int, nargs="+", default=[40, 70, 92], metavar="K", help="(default: 40 70 92)")
    flags.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="of the split (default: 0)")
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    table = []
    for source in args.data:
        rows = np.asarray(open_vectors(source).rows, np.float32)
        for seed, n_bytes in product(args.seeds, args.bytes):
            train, held_out = split_rows(len(rows), 0.1, seed)
            case = {"data": Path(source).stem, "seed": seed}
            table += [case | row for row in measured(rows[train], rows[held_out], n_bytes, args.axes)]
    report(table, args.json)


if __name__ == "__main__":
    main()

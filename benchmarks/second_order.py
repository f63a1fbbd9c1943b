"""What a decoder of second order adds to the trellis code: recall@10 of 1,000 held-out rows among themselves.

A code's own decoder is linear in the coordinates that it stored. Along principal axes they are uncorrelated, but rows
of embeddings are no Gaussian: products of two coordinates predict a part of what the code lost, also along the axes
that have no bits. Here that part is fitted to training rows by ridge regression, its strength chosen on a tenth of
them; the bytes of a row stay the same, but for the one of its norm.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bytes_search import K, least, share_found, true_neighbours
from timing import parser, report

from dploss.codes.row_scale import RowScale
from dploss.codes.transform_code import TransformCode
from dploss.data import open_vectors, split_rows
from dploss.evaluation.peers import closed_form

_RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
_CHUNK = 4000


class SecondOrder:
    """Residuals of rows from the products of their decoded coordinates.

    Args:
        decoded: (n, p) float32, from the codes of training rows.
        residuals: (n, q) float32, what was lost.
        axes: of the p, those of most variance, whose products are taken.
    """

    def __init__(self, decoded: np.ndarray, residuals: np.ndarray, axes: int) -> None:
        variances = decoded.var(axis=0)
        self.axes = np.argsort(-variances)[:axes]
        self.unit = np.sqrt(variances.max())
        own, other = np.triu_indices(len(self.axes))
        self.pairs = own, other
        size = len(own) + 1
        # Of nine tenths of the rows, and of the tenth that chooses.
        squares, products = np.zeros((2, size, size), np.float32), np.zeros((2, size, residuals.shape[1]), np.float32)
        for start in range(0, len(decoded), _CHUNK):
            features, lost = self._features(decoded[start : start + _CHUNK]), residuals[start : start + _CHUNK]
            choosing = np.arange(start, start + len(lost)) % 10 == 0
            for part, rows in enumerate((~choosing, choosing)):
                squares[part] += features[rows].T @ features[rows]
                products[part] += features[rows].T @ lost[rows]
        unit = np.eye(size, dtype=np.float32) * squares[0].trace() / size

        def error(ridge: float) -> float:
            weights = np.linalg.solve(squares[0] + ridge * unit, products[0])
            return float(np.sum(weights * (squares[1] @ weights - 2 * products[1])))

        self.weights = np.linalg.solve(squares.sum(axis=0) + min(_RIDGES, key=error) * unit, products.sum(axis=0))

    def _features(self, decoded: np.ndarray) -> np.ndarray:
        own = decoded[:, self.axes] / self.unit
        return np.column_stack([own[:, self.pairs[0]] * own[:, self.pairs[1]], np.ones(len(own), np.float32)])

    def residuals(self, decoded: np.ndarray) -> np.ndarray:
        """(n, p) float32 -> (n, q) float32."""
        starts = range(0, len(decoded), _CHUNK)
        return np.concatenate([self._features(decoded[start : start + _CHUNK]) @ self.weights for start in starts])


def measured(train: np.ndarray, held_out: np.ndarray, n_bytes: int, sizes: list[int]) -> list[dict[str, Any]]:
    """A row of the table for the code itself, and for each number of axes."""
    peer = closed_form("trellis", train, n_bytes)
    code = peer.code
    assert isinstance(code, TransformCode)
    rest = np.linalg.svd(code.rotation.axes)[0][:, code.rotation.axes.shape[1] :]
    basis = np.column_stack([code.rotation.axes, rest])
    rows, decoded = [], []
    for latents in (peer.latents(train), peer.latents(held_out)):
        codes = code.encode(latents)
        assert code.row_scale is not None
        factors = code.row_scale.read(codes[:, -1]) ** np.float32(code.row_scale.power)
        rows.append(code.rotation.centre(latents) @ basis)
        decoded.append(code.points(codes)[0] / factors[:, None])
    true = true_neighbours(held_out, None)
    linear = [np.pad(one, ((0, 0), (0, rest.shape[1]))) for one in decoded]
    table = []
    for axes in (0, *(size for size in sizes if size <= decoded[0].shape[1])):
        start = time.perf_counter()
        points = linear
        if axes:
            fitted = SecondOrder(decoded[0], rows[0] - linear[0], axes)
            points = [one + fitted.residuals(own) for one, own in zip(linear, decoded, strict=True)]
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
    flags.add_argument("--axes", type=int, nargs="+", default=[40, 70], metavar="K", help="(default: 40 70)")
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    table = []
    for source in args.data:
        rows = np.asarray(open_vectors(source).rows, np.float32)
        train, held_out = split_rows(len(rows), 0.1, 0)
        for n_bytes in args.bytes:
            name = Path(source).stem
            table += [{"data": name} | row for row in measured(rows[train], rows[held_out], n_bytes, args.axes)]
    report(table, args.json)


if __name__ == "__main__":
    main()

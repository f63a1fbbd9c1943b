"""ASH (Tepper et al., arXiv:2606.07870): a learned projection to few dimensions, and levels that keep the direction.

Written from descriptions of it, with one centroid: x - mean is projected by W, and its direction is coded by the levels
+-1/2, +-3/2, ... of largest cosine with it. W is principal axes and a rotation, fitted to codes by Procrustes steps.
A stored row is levels and a scale |x - mean| / |levels|, in 2 bytes here; with one centroid L2 needs no more.
"""

from collections.abc import Callable

import numpy as np

from dploss.codes.code import StoredForm
from dploss.evaluation.peers import Peer

_ITERATIONS, _BLOCK, _SCALE_BYTES = 20, 512, 2


class Ash(StoredForm):
    """Levels of `bits` bits a dimension, here a byte each, and a float16 scale.

    Args:
        rows: (N, D) float32, training rows.
        n_bytes: of a stored row, with the levels packed.
        bits: a dimension.

    Raises:
        ValueError: too few bytes.
    """

    def __init__(self, rows: np.ndarray, n_bytes: int, bits: int) -> None:
        dim = min(8 * (n_bytes - _SCALE_BYTES) // bits, rows.shape[1])
        if dim < 1:
            raise ValueError("too few bytes")
        self.bits, self.bytes_per_vector, self.mean = bits, n_bytes, rows.mean(axis=0)
        centred = rows - self.mean
        unit = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
        axes = np.linalg.eigh(unit.T @ unit)[1][:, ::-1][:, :dim]
        projected = unit @ axes
        rotation = nearest_rotation(np.random.RandomState(0).standard_normal((dim, dim)).astype(np.float32))
        for _ in range(_ITERATIONS):
            levels = levels_of(projected @ rotation, bits)
            rotation = nearest_rotation(projected.T @ (levels / np.linalg.norm(levels, axis=1, keepdims=True)))
        self.axes = axes @ rotation

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """See `StoredForm.encode`."""
        centred = latents - self.mean
        levels = levels_of(centred @ self.axes, self.bits)
        scales = np.linalg.norm(centred, axis=1) / np.linalg.norm(levels, axis=1)
        raised = (levels + 2 ** (self.bits - 1) - 0.5).astype(np.uint8)
        return np.column_stack([raised, scales.astype(np.float16)[:, None].view(np.uint8)])

    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `StoredForm.points`."""
        levels = codes[:, :-_SCALE_BYTES].astype(np.float32) - 2 ** (self.bits - 1) + 0.5
        points = levels * np.ascontiguousarray(codes[:, -_SCALE_BYTES:]).view(np.float16).astype(np.float32)
        return points, np.square(points).sum(axis=1)

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `StoredForm.project`."""
        return (queries - self.mean) @ self.axes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `StoredForm.decode`."""
        return self.points(codes)[0] @ self.axes.T + self.mean

    @property
    def model_bytes(self) -> int:
        """See `StoredForm.model_bytes`."""
        return self.mean.nbytes + self.axes.nbytes


def levels_of(rows: np.ndarray, bits: int) -> np.ndarray:
    """(n, d) rows -> (n, d) levels +-1/2, +-3/2, ... of `bits` bits whose cosine with the row is the largest.

    They are 1/2 + min(floor(t |row|), most) for some t: every t at which a level rises is tried.
    """
    steps = np.arange(1, 2 ** (bits - 1))
    if not len(steps):
        return np.copysign(np.float32(0.5), rows)
    levels = np.empty_like(rows)
    for start in range(0, len(rows), _BLOCK):
        sizes = np.abs(rows[start : start + _BLOCK]).astype(np.float64).clip(1e-30)
        times = (steps / sizes[:, :, None]).reshape(len(sizes), -1)
        order = np.argsort(times, axis=1)
        products = np.take_along_axis(np.repeat(sizes, len(steps), axis=1), order, axis=1).cumsum(axis=1)
        squares = np.tile(2.0 * steps, sizes.shape[1])[order].cumsum(axis=1)
        products += sizes.sum(axis=1, keepdims=True) / 2
        best = (products / np.sqrt(squares + sizes.shape[1] / 4)).argmax(axis=1)
        reached = np.take_along_axis(order, best[:, None], axis=1)
        limit = np.take_along_axis(times, reached, axis=1) * (1 + 1e-12)
        raised = np.minimum(np.floor(limit * sizes), len(steps)) + 0.5
        levels[start : start + _BLOCK] = np.copysign(raised, rows[start : start + _BLOCK])
    return levels


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The orthonormal matrix nearest to a square one (Procrustes)."""
    left, _, right = np.linalg.svd(matrix)
    return left @ right


def ash(bits: int) -> Callable[[np.ndarray, int], Peer]:
    """ASH of 1 to 4 bits a dimension."""
    return lambda rows, n_bytes: Peer(lambda some: some, Ash(rows, n_bytes, bits))

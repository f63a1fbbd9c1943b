"""The binary code as training makes it: axes, thresholds and the side of the queries moved by a loss of the family.

The loss sees Hamming distances, and products of float queries with stored bits; the gradient of a bit is that of a
hyperbolic tangent. Axes that are not at right angles leave a choice: those bits of a row are stored
whose products come nearest, found by flipping one after the other.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dploss.codes.binary import BinaryCode
from dploss.codes.by_loss import minimise, minimise_for_queries, of_float_queries, trained_or_start
from dploss.codes.code import check_latents, checked, in_blocks
from dploss.codes.rotation import Rotation
from dploss.losses.distance_preserving import DPLoss, without_diagonal

# Measured: more favour float queries, and cost Hamming distances.
_FLIPPED = 1 / 32
_STEEPNESS = 1.5


class TrainedBinaryCode(BinaryCode):
    """Bits after axes that need not be at right angles, read by a map of the queries.

    A row's score is -2 <project(q), b> for its bits b, -1 or 1: a product that databases of bits have. Its point is
    b, and `query_axes` b times `length` what is nearest to the row, whose inner product the score is of.

    Args:
        rotation: to p = 8 * n_bytes axes.
        thresholds: (p,) float32, above which a coordinate is a 1 before bits are flipped.
        query_axes: (d, p) float32, of `project`.
        query_offsets: (p,) float32, added by it; 0 for inner products.
        error_axes: (d, p) float32, query_axes times length, an error along each principal axis counting for as much as
            the deviation along it; for inner products as much as any.
        length: above 0.
        bias: of all rows: with it scores are squared distances, but for the query's norm.
    """

    name: ClassVar[str] = "trained binary"

    def __init__(
        self,
        rotation: Rotation,
        thresholds: np.ndarray,
        query_axes: np.ndarray,
        query_offsets: np.ndarray,
        error_axes: np.ndarray,
        length: float,
        bias: float,
    ) -> None:
        self.rotation, self.thresholds = rotation, thresholds
        self.query_axes, self.query_offsets, self.error_axes = query_axes, query_offsets, error_axes
        self.length, self.bias = length, bias
        self.dim, self.bytes_per_vector = len(rotation.mean), len(thresholds) // 8

    @classmethod
    def fit(
        cls,
        latents: np.ndarray,
        n_bytes: int,
        metric: str = "euclidean",
        queries: np.ndarray | None = None,
        loss: DPLoss | None = None,
    ) -> BinaryCode:
        """Train from a BinaryCode on, in a quarter of a minute.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row, at least 1.
            metric: see `Code`.
            queries: see `Code.fit`.
            loss: None: DPLossV3.

        Returns:
            The code; or its start, see `trained_or_start`.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        queries = latents if metric == "ip" and queries is None else queries
        return trained_or_start(
            latents, lambda rows: BinaryCode.fit(rows, n_bytes, metric), _trained, _scores, loss, queries
        )

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes.

        Raises:
            ValueError: latents of another shape, or not finite.
        """
        check_latents(latents, self.dim)
        return np.packbits(self._nearest_bits(self.rotation.centre(latents)) > 0, axis=1)

    def _points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A point has -1 or 1 for each bit."""
        points = np.where(self._bits(codes), np.float32(1), np.float32(-1))
        return points, np.full(len(points), self.bias, np.float32)

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `Code.project`."""
        projected = self.rotation.centre_queries(queries) @ self.query_axes + self.query_offsets
        # A distance has been trained, a product is that of what `decode` gives.
        return projected if self.metric == "euclidean" else projected * np.float32(self.length)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `Code.decode`."""
        rows = in_blocks(self.points(codes)[0], self.query_axes.T * np.float32(self.length))
        return rows * np.float32(self.unit) + self.rotation.mean

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        return {
            **self.rotation.arrays(),
            "thresholds": self.thresholds,
            "query_axes": self.query_axes,
            "query_offsets": self.query_offsets,
            "error_axes": self.error_axes,
            "length": np.array(self.length),
            "bias": np.array(self.bias),
        }

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> "TrainedBinaryCode":
        """See `Code.from_arrays`."""
        rotation = Rotation.from_arrays(arrays)
        dim, bits = rotation.axes.shape
        if bits != 8 * n_bytes:
            raise ValueError(f"{bits} axes for {n_bytes} bytes")
        thresholds, offsets = (checked(arrays, name, (bits,), np.float32) for name in ("thresholds", "query_offsets"))
        query_axes, error_axes = (
            checked(arrays, name, (dim, bits), np.float32) for name in ("query_axes", "error_axes")
        )
        length, bias = (float(checked(arrays, name, (), np.float64)) for name in ("length", "bias"))
        if not length > 0:
            raise ValueError(f"length is {length}")
        return cls(rotation, thresholds, query_axes, offsets, error_axes, length, bias)

    @property
    def most_flips(self) -> int:
        """Bits of a row that may be flipped."""
        return round(_FLIPPED * len(self.thresholds))

    @cached_property
    def squares(self) -> np.ndarray:
        """(p, p) float32, by which the error changes with pairs of bits."""
        return (self.query_axes.T @ self.error_axes) * np.float32(self.length)

    def _nearest_bits(self, centred: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, p) float32, -1 or 1: those above the thresholds, but for the flips that gain most."""
        bits = np.where(self.rotation.rotate(centred) > self.thresholds, np.float32(1), np.float32(-1))
        wanted = in_blocks(centred, self.error_axes) - in_blocks(bits, self.squares)
        own, rows = self.squares.diagonal(), np.arange(len(bits))
        for _ in range(self.most_flips):
            # A quarter of what each flip changes the squared error by.
            changes = bits * wanted + own
            columns = changes.argmin(axis=1)
            flipped = np.flatnonzero(changes[rows, columns] < 0)
            columns = columns[flipped]
            before = bits[flipped, columns]
            bits[flipped, columns] = -before
            wanted[flipped] += 2 * before[:, None] * self.squares[columns]
        return bits


def _scores(code: BinaryCode, rows: np.ndarray, ask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes = code.encode(rows)
    return code.score(rows[ask], codes), code.hamming(codes[ask], codes).astype(np.float32)


def _trained(
    start: BinaryCode, latents: np.ndarray, loss: DPLoss, queries: np.ndarray | None = None
) -> TrainedBinaryCode:
    rows = start.rotation.centre(latents)
    x = torch.from_numpy(rows)
    n_bits = start.rotation.axes.shape[1]
    low, high = torch.from_numpy(start.values)
    axes = torch.from_numpy(start.rotation.axes.copy()).requires_grad_()
    thresholds = torch.zeros(n_bits, requires_grad=True)
    query_axes = (axes.detach() * (high - low) / 2).requires_grad_()
    offsets = ((low + high) * (low - high) / 4 if queries is None else torch.zeros(n_bits)).requires_grad_()
    parameters = [axes, thresholds, query_axes, offsets]
    # The logarithm of what a bit adds to a squared Hamming distance, in units of the mean one.
    per_bit = torch.zeros((), requires_grad=True)
    with torch.no_grad():
        spread = float((x @ axes).std())

    def stored(batch: Tensor) -> Tensor:
        soft = torch.tanh(_STEEPNESS / spread * (batch @ axes - thresholds))
        return soft + (torch.where(soft > 0, 1.0, -1.0) - soft).detach()

    def squared_distances(batch: Tensor, mean: Tensor) -> Iterator[Tensor]:
        bits = stored(batch)
        yield without_diagonal(n_bits - bits @ bits.T) * (mean / n_bits * per_bit.exp())
        yield of_float_queries(batch, -2 * (batch @ query_axes + offsets) @ bits.T, mean)

    if queries is None:
        minimise(loss, x, parameters, per_bit, squared_distances)
    else:
        q = torch.from_numpy(start.rotation.centre_queries(queries))
        minimise_for_queries(loss, x, q, parameters[:3], lambda q, batch: q @ query_axes @ stored(batch).T)
    turned, above, asked, added = (one.detach().numpy() for one in parameters)
    signs = np.where(rows @ turned > above, np.float32(1), np.float32(-1))
    points = signs @ asked.T
    length = float((rows * points).sum() / np.square(points).sum())
    error_axes = length * asked
    if queries is None:
        variances, principal = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
        weights = np.sqrt(variances.clip(min=0) / variances.max())
        error_axes = ((principal * weights) @ (principal.T @ error_axes)).astype(np.float32)
    # The mean product of a query and a row, for squared distances that are right in the mean.
    product = (rows.mean(axis=0) @ asked + added) @ signs.mean(axis=0)
    bias = float(np.square(rows).sum(axis=1).mean() + 2 * product)
    rotation = start.rotation.turned(turned)
    return TrainedBinaryCode(rotation, above, asked, added, error_axes, length, bias)

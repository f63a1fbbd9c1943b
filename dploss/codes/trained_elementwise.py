"""The codes of numbers as training makes them: one map for rows, another for queries, moved by a loss of the family.

The loss sees both distances that databases compute: those of float queries, and those among stored rows.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from dploss.codes.by_loss import minimise, minimise_for_queries, of_float_queries, trained_or_start
from dploss.codes.code import checked, in_blocks
from dploss.codes.elementwise import ElementwiseCode, Float16Code, Int4Code, Int8Code
from dploss.codes.rotation import Rotation
from dploss.losses.distance_preserving import DPLoss, pairwise_distances, without_diagonal

_LEAST_SQUARE, _TINY = 1e-6, 1e-30


class TrainedElementwiseCode(ElementwiseCode):
    """Numbers along axes that need not be at right angles, and a map of the queries.

    Rows are scaled, completed and rounded as by the code that training began with. A database searches the numbers, by
    Euclidean distance, for project(queries) / step, or for the numbers of queries that are stored, too.

    Args:
        start: the code that it is trained from, but for its rotation.
        rotation: to p numbers.
        query_axes: (d, p) float32, of `project`.
        query_offsets: (p,) float32, added by it; 0 for inner products.
        bias: of all rows: with it scores are squared distances, but for the query's norm.
    """

    start_type: ClassVar[type[ElementwiseCode]]

    def __init__(
        self,
        start: ElementwiseCode,
        rotation: Rotation,
        query_axes: np.ndarray,
        query_offsets: np.ndarray,
        bias: float = 0.0,
    ) -> None:
        super().__init__(rotation, start.power, start.length_axis, start.least, start.step)
        self.query_axes, self.query_offsets, self.bias = query_axes, query_offsets, bias

    @classmethod
    def fit(  # type: ignore[override]  # the start, where training gains nothing
        cls,
        latents: np.ndarray,
        n_bytes: int,
        metric: str = "euclidean",
        queries: np.ndarray | None = None,
        loss: DPLoss | None = None,
    ) -> ElementwiseCode:
        """Train from the closed form on, in seconds.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row; see `ElementwiseCode.fit`.
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
            latents,
            lambda rows: cls.start_type.fit(rows, n_bytes, metric, queries),
            cls._trained,
            _scores,
            loss,
            queries,
        )

    @classmethod
    def _trained(
        cls, start: ElementwiseCode, latents: np.ndarray, loss: DPLoss, queries: np.ndarray | None = None
    ) -> Self:
        rows = start.rotation.centre(latents)
        axes = torch.from_numpy(start.rotation.axes.copy()).requires_grad_()
        query_axes = axes.detach().clone().requires_grad_()
        offsets = torch.zeros(axes.shape[1], requires_grad=True)
        # The logarithm of what distances among stored rows are multiplied by.
        scale = torch.zeros((), requires_grad=True)
        length_axis = torch.from_numpy(start.length_axis)

        def stored(batch: Tensor) -> Tensor:
            numbers = unrounded(batch, axes, start.power, start.least, length_axis, _LEAST_SQUARE)
            rounded = start.elements(start._codes(numbers.detach().numpy() / start.step)) * np.float32(start.step)
            return numbers + (torch.from_numpy(rounded) - numbers).detach()

        def squared_distances(batch: Tensor, mean: Tensor) -> Iterator[Tensor]:
            numbers = stored(batch)
            products = (batch @ query_axes + offsets) @ numbers.T
            yield of_float_queries(batch, numbers.square().sum(dim=1) - 2 * products, mean)
            yield without_diagonal(pairwise_distances(numbers)).square() * (scale.exp() / batch.shape[1])

        x = torch.from_numpy(rows)
        if queries is None:
            minimise(loss, x, [axes, query_axes, offsets], scale, squared_distances)
        else:
            q = torch.from_numpy(start.rotation.centre_queries(queries))
            minimise_for_queries(loss, x, q, [axes, query_axes], lambda q, batch: q @ query_axes @ stored(batch).T)
        turned, asked, added = (one.detach().numpy() for one in (axes, query_axes, offsets))
        code = cls(start, start.rotation.turned(turned), asked, added)
        code._fit_step(latents, latents if queries is None else queries)
        numbers = code.points(code.encode(latents))[0]
        # So that squared distances are right in the mean.
        product = (rows.mean(axis=0) @ asked + added) @ numbers.mean(axis=0)
        code.bias = float(np.square(rows).sum(axis=1).mean() - np.square(numbers).sum(axis=1).mean() + 2 * product)
        return code

    def _points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A point has a coordinate for each number."""
        points, squares = super()._points(codes)
        return points, squares + np.float32(self.bias - self.least)

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `Code.project`."""
        return self.rotation.centre_queries(queries) @ self.query_axes + self.query_offsets

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `Code.decode`."""
        return in_blocks(self.points(codes)[0], self.query_axes.T) * np.float32(self.unit) + self.rotation.mean

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        own = {"query_axes": self.query_axes, "query_offsets": self.query_offsets, "bias": np.array(self.bias)}
        return super().arrays() | own

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Code.from_arrays`."""
        start = cls.start_type.from_arrays(n_bytes, arrays)
        query_axes = checked(arrays, "query_axes", start.rotation.axes.shape, np.float32)
        offsets = checked(arrays, "query_offsets", (query_axes.shape[1],), np.float32)
        return cls(start, start.rotation, query_axes, offsets, float(checked(arrays, "bias", (), np.float64)))


class TrainedFloat16Code(TrainedElementwiseCode, Float16Code):
    """See `Float16Code`."""

    name: ClassVar[str] = "trained float16"
    start_type = Float16Code


class TrainedInt8Code(TrainedElementwiseCode, Int8Code):
    """See `Int8Code`."""

    name: ClassVar[str] = "trained int8"
    start_type = Int8Code


class TrainedInt4Code(TrainedElementwiseCode, Int4Code):
    """See `Int4Code`."""

    name: ClassVar[str] = "trained int4"
    start_type = Int4Code


def unrounded(
    centred: Tensor, axes: Tensor, power: float, least: float, length_axis: Tensor, least_square: float = 0.0
) -> Tensor:
    """What `ElementwiseCode` stores of rows before it is rounded, by torch.

    Args:
        centred: (n, d) float32.
        axes: (d, p) float32.
        power: see `ElementwiseCode`.
        least: see `ElementwiseCode`.
        length_axis: (p,) float32; see `ElementwiseCode`.
        least_square: what the length is completed by at least, squared: the square root has no gradient at 0.
    """
    rows = centred @ axes
    whole, kept = (part.square().sum(dim=1, keepdim=True) for part in (centred, rows))
    rows = rows * (whole / kept.clamp(min=_TINY)) ** (power / 2)
    lacking = whole - rows.square().sum(dim=1, keepdim=True)
    return rows + (lacking.clamp(min=0) - least).clamp(min=least_square).sqrt() * length_axis


def _scores(code: ElementwiseCode, rows: np.ndarray, ask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes = code.encode(rows)
    numbers = code.points(codes)[0]
    return code.score(rows[ask], codes), np.square(numbers).sum(axis=1) - 2 * numbers[ask] @ numbers.T

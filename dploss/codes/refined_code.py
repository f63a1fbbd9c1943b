"""The codes that training gives: the bytes of a TransformCode, of which a decoder of second order restores more."""

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from dploss.codes.code import Code, check_codes, check_latents
from dploss.codes.row_scale import RowScale
from dploss.codes.scalar import ScalarCode
from dploss.codes.second_order import SecondOrder
from dploss.codes.transform_code import TransformCode
from dploss.codes.trellis import TrellisCode
from dploss.data.split import evenly_spaced

_FITTED_ROWS = 50_000


class RefinedCode(Code):
    """A code whose points are those of another code and what that lost, as far as it can be predicted.

    Its points have all d dimensions, for along axes without bits something is predicted, too. The byte of the norm is
    that of these points. They cost more than a search of all rows can spend: see `coarse`.

    Args:
        linear: of the same codes, its row scale fitted to these bytes.
        second_order: what it lost.
        row_scale: of the points.
    """

    linear_type: ClassVar[type[TransformCode]]

    def __init__(self, linear: TransformCode, second_order: SecondOrder, row_scale: RowScale) -> None:
        self.linear, self.second_order, self.row_scale = linear, second_order, row_scale
        self.dim, self.bytes_per_vector = linear.dim, linear.bytes_per_vector

    @classmethod
    def fit(cls, latents: np.ndarray, n_bytes: int) -> Self:
        """Fit to latents of training rows, in seconds.

        Args:
            latents: (n, d) float32; of more than 50,000 an evenly spaced sample is refined.
            n_bytes: stored for each row, 2 to d + 1.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        linear = cls.linear_type.fit(latents, n_bytes)
        latents = latents[evenly_spaced(len(latents), _FITTED_ROWS)]
        centred = linear.rotation.centre(latents)
        values = linear.rotation.rotate(centred)
        decoded, _ = linear.unscaled(linear.without_norm(values))
        plain = linear.rotation.from_axes(decoded)
        second_order = SecondOrder.fit(decoded, centred - plain)
        points = plain + second_order.predict(decoded)
        row_scale = RowScale.fit(centred, centred, points)
        scales = row_scale.read(row_scale.byte(centred, np.square(centred).sum(axis=1), points))
        linear.row_scale = row_scale.with_scales(scales, centred, values, decoded)
        return cls(linear, second_order, row_scale)

    @property
    def coarse(self) -> Code:
        """See `Code.coarse`: without the second order."""
        return self.linear

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes.

        Raises:
            ValueError: latents of another shape, or not finite.
        """
        check_latents(latents, self.dim)
        centred = self.linear.rotation.centre(latents)
        codes = self.linear.without_norm(self.linear.rotation.rotate(centred))
        codes[:, -1] = self.row_scale.byte(centred, np.square(centred).sum(axis=1), self._unscaled(codes))
        return codes

    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Code.points`; a point has d coordinates, centred and in units of the scale."""
        check_codes(codes, self.bytes_per_vector)
        # Not filled up: the candidates of a single query would take the time of a block.
        points = self._unscaled(codes, filled=False)
        biases = self.row_scale.biases(self.row_scale.read(codes[:, -1]), np.square(points).sum(axis=1))
        return points * self._factors(codes), biases

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `Code.project`."""
        return self.linear.rotation.centre(queries)

    def squared_norms(self, queries: np.ndarray) -> np.ndarray:
        """See `Code.squared_norms`."""
        return self.linear.squared_norms(queries)

    @property
    def unit(self) -> float:
        """See `Code.unit`."""
        return self.linear.unit

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `Code.decode`."""
        check_codes(codes, self.bytes_per_vector)
        return self._unscaled(codes) * self._factors(codes) * np.float32(self.unit) + self.linear.rotation.mean

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        own = {f"refined_{name}": array for name, array in self.row_scale.arrays().items()}
        return {**self.linear.arrays(), **self.second_order.arrays(), **own}

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Code.from_arrays`."""
        linear = cls.linear_type.from_arrays(n_bytes, arrays)
        second_order = SecondOrder.from_arrays(arrays, len(linear.bits), linear.dim)
        own = {name.removeprefix("refined_"): array for name, array in arrays.items() if name.startswith("refined_")}
        return cls(linear, second_order, RowScale.from_arrays(own))

    def _unscaled(self, codes: np.ndarray, filled: bool = True) -> np.ndarray:
        """(n, bytes_per_vector) codes -> (n, d) float32 points, before the byte of the norm scales them."""
        decoded, _ = self.linear.unscaled(codes)
        return self.linear.rotation.from_axes(decoded, filled) + self.second_order.predict(decoded, filled)

    def _factors(self, codes: np.ndarray) -> np.ndarray:
        """(n, 1) float32, what the byte of the norm multiplies points by."""
        return (self.row_scale.read(codes[:, -1]) ** np.float32(self.row_scale.power))[:, None]


class RefinedTrellisCode(RefinedCode):
    """See `TrellisCode`."""

    name: ClassVar[str] = "refined trellis"
    linear_type: ClassVar[type[TransformCode]] = TrellisCode


class RefinedScalarCode(RefinedCode):
    """See `ScalarCode`."""

    name: ClassVar[str] = "refined scalar"
    linear_type: ClassVar[type[TransformCode]] = ScalarCode

"""Codes that vector databases read: rows of float16, int8 or int4 numbers, whose distances are those of the latents."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from dploss.codes.code import check_codes, check_latents, checked
from dploss.codes.rotation import RotatedCode, Rotation
from dploss.data.split import evenly_spaced

_FITTED_ROWS = 2_000
# Of the largest number that occurs: where the clipping of the integers is looked for.
_CLIPPINGS = np.linspace(0.1, 1, 46)


class ElementwiseCode(RotatedCode):
    """A number for each of the first principal axes, one step for all: the numbers are as far apart as the latents.

    A row is stored as long as it is with the axes that are left out, so that its squared length is right; a query is
    not made longer (measured best). A database searches the numbers for project(queries) / step.

    Args:
        rotation: to the axes that are stored.
        step: what a number counts in, in units of the rotation.
    """

    axes_per_byte: ClassVar[float]

    def __init__(self, rotation: Rotation, step: float) -> None:
        self.rotation, self.step = rotation, step
        self.dim = len(rotation.mean)
        self.bytes_per_vector = round(rotation.axes.shape[1] / self.axes_per_byte)

    @classmethod
    @abstractmethod
    def _fit_elements(cls, rotation: Rotation, latents: np.ndarray) -> Self:
        """The code for principal axes, and latents to fit it to."""

    @abstractmethod
    def elements(self, codes: np.ndarray) -> np.ndarray:
        """(n, bytes_per_vector) uint8 codes -> the (n, p) float32 numbers in them."""

    @abstractmethod
    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        """(n, p) float32 numbers, not rounded -> (n, bytes_per_vector) uint8 codes."""

    @classmethod
    def fit(cls, latents: np.ndarray, n_bytes: int) -> Self:
        """Fit to latents of training rows.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row; they hold whole numbers, of d axes at most.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        check_latents(latents, latents.shape[-1])
        axes = n_bytes * cls.axes_per_byte
        if not 1 <= axes <= latents.shape[1] or axes != int(axes):
            raise ValueError(f"{n_bytes} bytes of {cls.name} are {axes:g} numbers, of {latents.shape[1]} dimensions")
        rotation = Rotation.fit(latents)[0].keep(np.arange(int(axes)))
        return cls._fit_elements(rotation, latents[evenly_spaced(len(latents), _FITTED_ROWS)])

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes.

        Raises:
            ValueError: latents of another shape, or not finite.
        """
        check_latents(latents, self.dim)
        return self._codes(_whole_length(self.rotation, latents) / np.float32(self.step))

    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Code.points`; a point has a coordinate for each number."""
        check_codes(codes, self.bytes_per_vector)
        points = self.elements(codes) * np.float32(self.step)
        return points, np.square(points).sum(axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        return {**self.rotation.arrays(), "step": np.array(self.step)}

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Code.from_arrays`."""
        rotation, step = Rotation.from_arrays(arrays), float(checked(arrays, "step", (), np.float64))
        if rotation.axes.shape[1] != n_bytes * cls.axes_per_byte or not 1e-30 < step < 1e30:
            raise ValueError(f"{rotation.axes.shape[1]} axes in {n_bytes} bytes, step is {step}")
        return cls(rotation, step)


class Float16Code(ElementwiseCode):
    """float16, little-endian: code.view("<f2")."""

    name: ClassVar[str] = "float16"
    axes_per_byte: ClassVar[float] = 0.5

    @classmethod
    def _fit_elements(cls, rotation: Rotation, latents: np.ndarray) -> Self:
        return cls(rotation, 1.0)

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        most = np.finfo(np.float16).max
        return numbers.clip(-most, most).astype("<f2").view(np.uint8)

    def elements(self, codes: np.ndarray) -> np.ndarray:
        """See `ElementwiseCode.elements`; NaN and infinite codes, which `encode` does not make, are 0."""
        return np.nan_to_num(np.ascontiguousarray(codes).view("<f2").astype(np.float32), posinf=0, neginf=0)


class _IntegersCode(ElementwiseCode):
    """Integers from -most - 1 to most, along the kept axes after a random rotation: all then have like variances.

    The step is the one with the least squared error, which clips the largest numbers.
    """

    most: ClassVar[int]

    @classmethod
    def _fit_elements(cls, rotation: Rotation, latents: np.ndarray) -> Self:
        n_axes = rotation.axes.shape[1]
        turn = np.linalg.qr(np.random.RandomState(0).standard_normal((n_axes, n_axes)))[0]
        rotation = Rotation(rotation.mean, (rotation.axes @ turn).astype(np.float32), rotation.scale)
        rows = _whole_length(rotation, latents)
        steps = (float(np.abs(rows).max()) or 1.0) / cls.most * _CLIPPINGS
        return cls(rotation, min(steps.tolist(), key=lambda step: cls._squared_error(rows, step)))

    @classmethod
    def _squared_error(cls, rows: np.ndarray, step: float) -> float:
        return float(np.square(cls._rounded(rows / np.float32(step)) * np.float32(step) - rows).mean())

    @classmethod
    def _rounded(cls, numbers: np.ndarray) -> np.ndarray:
        return np.rint(numbers).clip(-cls.most - 1, cls.most)


class Int8Code(_IntegersCode):
    """int8, two's complement: code.view(np.int8)."""

    name: ClassVar[str] = "int8"
    axes_per_byte: ClassVar[float] = 1
    most: ClassVar[int] = 127

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        return self._rounded(numbers).astype(np.int8).view(np.uint8)

    def elements(self, codes: np.ndarray) -> np.ndarray:
        """See `ElementwiseCode.elements`."""
        return codes.view(np.int8).astype(np.float32)


class Int4Code(_IntegersCode):
    """int4, two's complement, two in a byte: the first in its low half (as ONNX has them)."""

    name: ClassVar[str] = "int4"
    axes_per_byte: ClassVar[float] = 2
    most: ClassVar[int] = 7

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        halves = self._rounded(numbers).astype(np.int8).view(np.uint8) & 15
        return halves[:, ::2] | (halves[:, 1::2] << 4)

    def elements(self, codes: np.ndarray) -> np.ndarray:
        """See `ElementwiseCode.elements`."""
        halves = np.stack([codes << 4, codes & 0xF0], axis=2).reshape(len(codes), 2 * codes.shape[1])
        return (halves.view(np.int8) >> 4).astype(np.float32)


def _whole_length(rotation: Rotation, latents: np.ndarray) -> np.ndarray:
    """(n, d) latents -> (n, p) float32 along the axes, scaled to the length of all d dimensions; 0 stays 0."""
    centred = rotation.centre(latents)
    rows = rotation.rotate(centred)
    lengths, kept = (np.sqrt(np.square(part).sum(axis=1)) for part in (centred, rows))
    return rows * np.divide(lengths, kept, out=np.ones_like(kept), where=kept > 0)[:, None]

"""The codes that training gives: the bytes of a TransformCode, chosen for a decoder of second order.

That decoder restores more from the same bytes (dploss/codes/second_order.py), and it is not linear: the bytes whose
linear point is nearest are not those whose refined point is. An encoder looks for these by a few steps along the
gradient, as in iterative inference for learned compression (Yang, Bamler & Mandt, arXiv:2006.04240), each of which ends
in whole codes; and the decoder is fitted to the codes that this gives.
"""

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from dploss.codes.code import Code, check_codes, check_latents, checked
from dploss.codes.neighbours import K, shares_kept
from dploss.codes.rotation import RotatedCode, Rotation
from dploss.codes.row_scale import RowScale
from dploss.codes.scalar import ScalarCode
from dploss.codes.second_order import Fitted, SecondOrder, folds_of
from dploss.codes.transform_code import TransformCode
from dploss.codes.trellis import TrellisCode
from dploss.data.split import evenly_spaced

# Coded at once, which bounds the memory.
_ENCODED_ROWS = 8192
# Rows whose neighbours choose, and those of them that ask.
_CHOOSING, _ASKING = 50_000, 2000
# Measured: more gain little, and each costs as much as the encoding before it several times over.
_STEPS = (0.5, 0.3, 0.2)


class RefinedCode(RotatedCode):
    """A code whose points are those of another code and what that lost, as far as it can be predicted.

    Its points have all d dimensions, for along axes without bits something is predicted, too. The byte of the norm is
    that of these points. They cost more than a search of all rows can spend: see `coarse`.

    Args:
        linear: of the same codes, its row scale fitted to these bytes.
        rotation: to d axes, the first p those of `linear`.
        deviations: (d,) float32 above 0, standard deviation along each axis; an error along it counts for as much. 1
            for inner products, whose queries are sphered.
        second_order: what `linear` lost along these axes.
        row_scale: of the points; None until it is fitted.
    """

    linear_type: ClassVar[type[TransformCode]]

    def __init__(
        self,
        linear: TransformCode,
        rotation: Rotation,
        deviations: np.ndarray,
        second_order: SecondOrder,
        row_scale: RowScale | None = None,
    ) -> None:
        self.linear, self.rotation, self.deviations = linear, rotation, deviations
        self.second_order, self.row_scale = second_order, row_scale
        self.dim, self.bytes_per_vector = linear.dim, linear.bytes_per_vector

    @classmethod
    def fit(
        cls, latents: np.ndarray, n_bytes: int, metric: str = "euclidean", queries: np.ndarray | None = None
    ) -> Code:
        """Fit to latents of training rows, in half a minute for 10,000.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row, 2 to d + 1.
            metric: see `Code`.
            queries: see `Code.fit`.

        Returns:
            The code; or that without the second order, where the neighbours that it keeps of training rows, or of
            queries, are hardly more. These rows are coded and decoded by what others taught.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        linear = cls.linear_type.fit(latents, n_bytes, metric)
        rotation = _completed(linear, latents)
        rows = rotation.rotate(rotation.centre(latents))
        deviations = rows.std(axis=0) if metric == "euclidean" else np.ones(rows.shape[1])
        deviations = np.maximum(deviations, 1e-6 * deviations.max() + 1e-12).astype(np.float32)
        codes = linear.without_norm(rows[:, : len(linear.bits)])

        def fitted(ridge: float | None = None) -> Fitted:
            decoded, _ = linear.unscaled(codes)
            lost = rows.copy()
            lost[:, : len(linear.bits)] -= decoded
            return SecondOrder.fit(decoded, lost, ridge)

        folds, first = folds_of(len(rows)), fitted()
        for own, of_others in zip(folds, first.of_others, strict=True):
            codes[own] = cls(linear, rotation, deviations, of_others)._nearest_codes(rows[own])
        second = fitted(first.ridge)
        code, points = cls(linear, rotation, deviations, second.whole), np.empty_like(rows)
        for own, of_others in zip(folds, second.of_others, strict=True):
            points[own] = cls(linear, rotation, deviations, of_others)._unscaled(codes[own])
        kept = evenly_spaced(len(rows), _CHOOSING)
        latents, rows, points, codes = latents[kept], rows[kept], points[kept], codes[kept]
        # To the points that it was fitted to, which keeps more than to the others': measured.
        code.row_scale = RowScale.fit(rows, rows, code._unscaled(codes), metric)
        codes[:, -1] = code.row_scale.byte(rows, np.square(rows).sum(axis=1), points)
        points, biases = code._scaled(points, codes)
        if metric == "euclidean":
            ask = evenly_spaced(len(rows), _ASKING)
            asked, projected = latents[ask], rows[ask]
        else:
            queries, ask, biases = latents if queries is None else queries, None, np.zeros_like(biases)
            asked = queries[evenly_spaced(len(queries), _ASKING)]
            projected = code.project(asked)
        scores = biases - 2 * projected @ points.T, linear.score(asked, linear.encode(latents))
        refined, alone = shares_kept(rows, projected, scores, ask)
        # Recall of this many neighbours differs by as much by chance: not worth what the decoder costs.
        if refined < alone + (0.5 / (K * len(asked))) ** 0.5:
            return linear
        values, (decoded, _) = rows[:, : len(linear.bits)], linear.unscaled(codes)
        linear.row_scale = code.row_scale.with_scales(code.row_scale.read(codes[:, -1]), rows, values, decoded, metric)
        return code

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
        codes = np.empty((len(latents), self.bytes_per_vector), np.uint8)
        for start in range(0, len(latents), _ENCODED_ROWS):
            block = slice(start, start + _ENCODED_ROWS)
            rows = self.rotation.rotate(self.rotation.centre(latents[block]))
            codes[block] = self._nearest_codes(rows)
            codes[block, -1] = self._scale.byte(rows, np.square(rows).sum(axis=1), self._unscaled(codes[block]))
        return codes

    def _points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A point has d coordinates."""
        # Not filled up: the candidates of a single query would take the time of a block.
        return self._scaled(self._unscaled(codes, filled=False), codes)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `Code.decode`."""
        check_codes(codes, self.bytes_per_vector)
        return self.rotation.back(self._scaled(self._unscaled(codes), codes)[0])

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        own = {f"refined_{name}": array for name, array in self._scale.arrays().items()}
        other_axes = np.ascontiguousarray(self.rotation.axes[:, len(self.linear.bits) :])
        axes = {"other_axes": other_axes, "all_deviations": self.deviations}
        return {**self.linear.arrays(), **axes, **self.second_order.arrays(), **own}

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Code.from_arrays`."""
        linear = cls.linear_type.from_arrays(n_bytes, arrays)
        dim, own = linear.dim, len(linear.bits)
        other_axes = checked(arrays, "other_axes", (dim, dim - own), np.float32)
        deviations = checked(arrays, "all_deviations", (dim,), np.float32)
        if not deviations.min() > 0:
            raise ValueError(f"all_deviations are at least {deviations.min()}")
        rotation = linear.rotation.turned(np.hstack([linear.rotation.axes, other_axes]))
        second_order = SecondOrder.from_arrays(arrays, own, dim)
        scale = {name.removeprefix("refined_"): array for name, array in arrays.items() if name.startswith("refined_")}
        return cls(linear, rotation, deviations, second_order, RowScale.from_arrays(scale))

    @property
    def _scale(self) -> RowScale:
        assert self.row_scale is not None
        return self.row_scale

    def _nearest_codes(self, rows: np.ndarray) -> np.ndarray:
        """(n, d) coordinates -> (n, bytes_per_vector) codes whose byte of the norm is 0, and whose points are near."""
        used = len(self.linear.bits)
        targets = values = np.ascontiguousarray(rows[:, :used])
        codes = self.linear.without_norm(targets)
        points = self._unscaled(codes)
        for step in _STEPS:
            decoded, _ = self.linear.unscaled(codes)
            weighted = (rows - points) * self.deviations
            pull = weighted[:, :used] + self.second_order.gradient(decoded, weighted)
            tried_targets = targets + np.float32(step) * (pull / self.deviations[:used] - (values - decoded))
            tried = self.linear.without_norm(tried_targets)
            tried_points = self._unscaled(tried)
            nearer = (self._errors(rows, tried_points) < self._errors(rows, points))[:, None]
            codes, points = np.where(nearer, tried, codes), np.where(nearer, tried_points, points)
            targets = np.where(nearer, tried_targets, targets)
        return codes

    def _errors(self, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(n,) squared errors, weighed by the deviation along each axis."""
        return (np.square(rows - points) * self.deviations).sum(axis=1)

    def _unscaled(self, codes: np.ndarray, filled: bool = True) -> np.ndarray:
        """(n, bytes_per_vector) codes -> (n, d) float32 points, before the byte of the norm scales them."""
        decoded, _ = self.linear.unscaled(codes)
        points = self.second_order.predict(decoded, filled)
        points[:, : decoded.shape[1]] += decoded
        return points

    def _scaled(self, points: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unscaled points as the byte of the norm scales them, and their biases."""
        scales = self._scale.read(codes[:, -1])
        biases = self._scale.biases(scales, np.square(points).sum(axis=1))
        return points * (scales ** np.float32(self._scale.power))[:, None], biases


class RefinedTrellisCode(RefinedCode):
    """See `TrellisCode`."""

    name: ClassVar[str] = "refined trellis"
    linear_type: ClassVar[type[TransformCode]] = TrellisCode


class RefinedScalarCode(RefinedCode):
    """See `ScalarCode`."""

    name: ClassVar[str] = "refined scalar"
    linear_type: ClassVar[type[TransformCode]] = ScalarCode


def _completed(linear: TransformCode, latents: np.ndarray) -> Rotation:
    """Its rotation to all d axes, the others the principal ones of what is left."""
    rotation = linear.rotation
    others = np.linalg.qr(rotation.axes.astype(np.float64), mode="complete")[0][:, rotation.axes.shape[1] :]
    rest = rotation.centre(latents) @ others.astype(np.float32)
    others = others @ np.linalg.eigh(rest.T.astype(np.float64) @ rest)[1][:, ::-1]
    return rotation.turned(np.hstack([rotation.axes, others.astype(np.float32)]))

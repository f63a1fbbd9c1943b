"""turbovec and rabitqlib for benchmarks/bytes.py, where they are installed: no extra of dploss has them.

Both are given renormalised PCA. Bytes are those of their files, a row, less rabitqlib's 4 bytes for its number.
"""

from collections.abc import Callable

import numpy as np
from bytes_search import Method

from dploss.evaluation.peers import contiguous
from dploss.models.pca import PCA

_NORM, _FACTORS, _MORE_FACTORS = 4, 12, 8


class TurboVec(Method):
    """turbovec, calibrated; it ranks by inner products, so a dimension holds what they lack to distances.

    Raises:
        ImportError: it is not installed.
        ValueError: too few bytes.
    """

    def __init__(self, rows: np.ndarray, n_bytes: int, bits: int) -> None:
        from turbovec import TurboQuantIndex

        dim = _multiple(8, 8 * (n_bytes - _NORM) // bits, rows.shape[1])
        self.pca, self.made = PCA.fit(rows, dim - 1), lambda: TurboQuantIndex(dim=dim, bit_width=bits)
        self.train, self.model_bytes = rows, self.pca.components.nbytes + self.pca.mean.nbytes
        self.norm = float(np.square(self.pca.encode_renormalised(rows)).sum(axis=1).mean())

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        self.index = self.made()
        self.index.calibrate(self._stored(self.train))
        self.index.add(self._stored(rows))
        return np.empty((len(rows), 0))

    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Method.search`: of the rows that were encoded last."""
        asked = self.pca.encode_renormalised(queries)
        return self.index.search(contiguous(np.column_stack([asked, np.ones(len(asked))])), count)[1].astype(np.int64)

    def _stored(self, rows: np.ndarray) -> np.ndarray:
        latents = self.pca.encode_renormalised(rows)
        return contiguous(np.column_stack([latents, (self.norm - np.square(latents).sum(axis=1)) / 2]))


class RaBitQLib(Method):
    """The library of RaBitQ's authors, all rows in one cluster; it wants a multiple of 64 dimensions.

    Raises:
        ImportError: it is not installed.
        ValueError: too few bytes.
    """

    def __init__(self, rows: np.ndarray, n_bytes: int, bits: int) -> None:
        from rabitqlib import IvfIndex

        room = n_bytes - _FACTORS - (_MORE_FACTORS if bits > 1 else 0)
        dim = _multiple(64, 8 * room // bits, rows.shape[1])
        self.pca, self.made = PCA.fit(rows, dim), lambda count: IvfIndex(dim, count, 1, bits, "l2")
        self.centre = self.pca.encode_renormalised(rows).mean(axis=0, keepdims=True)
        self.model_bytes = self.pca.components.nbytes + self.pca.mean.nbytes

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        self.index = self.made(len(rows))
        self.index.build(contiguous(self.pca.encode_renormalised(rows)), self.centre, np.zeros(len(rows), np.uint32))
        return np.empty((len(rows), 0))

    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Method.search`: of the rows that were encoded last."""
        asked = contiguous(self.pca.encode_renormalised(queries))
        return self.index.search(asked, count, 1, high_accuracy=True)[0].astype(np.int64)


def _multiple(step: int, room: int, most: int) -> int:
    dim = min(room, most) // step * step
    if dim < step:
        raise ValueError("too few bytes")
    return dim


OTHERS: dict[str, Callable[[np.ndarray, int], Method]] = {
    **{f"turbovec, PCA, {bits} bits": lambda rows, n, bits=bits: TurboVec(rows, n, bits) for bits in (2, 4)},  # type: ignore[misc]
    **{
        f"rabitqlib, PCA, {bits} bit{'s' * (bits > 1)}": lambda rows, n, bits=bits: RaBitQLib(rows, n, bits)  # type: ignore[misc]
        for bits in (1, 2, 4)
    },
}

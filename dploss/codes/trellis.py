"""The trellis code: trellis-coded quantisation along the principal axes, bits by use, the norm restored.

Marcellin & Fischer, Trellis coded quantization of memoryless and Gauss-Markov sources, 1990; the state as the last bits
of the code (bitshift trellis) and the tail-biting search as in QTIP, arXiv:2406.11235.
"""

from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from dploss.codes.transform_code import TransformCode

_TABLES = Path(__file__).with_name("trellis_tables.npz")
# Paths of the search have met after as many bits, a few times those of a state.
_SEAM_BITS = 48
# Errors count for as much as the standard deviation of their axis: measured best (docs/BYTES.md). For inner products,
# whose queries are sphered, all count alike.
_WEIGHT_POWERS = {"euclidean": 0.5, "ip": 0.0}


@cache
def gaussian_tables() -> tuple[np.ndarray, np.ndarray]:
    """See `TransformCode.unit_tables`; benchmarks/make_trellis_tables.py makes them."""
    with np.load(_TABLES) as stored:
        return stored["tables"], stored["errors"]


class TrellisCode(TransformCode):
    """The dense code: neighbouring axes share bits, and the cheapest path through their states is stored."""

    name: ClassVar[str] = "trellis"
    unit_tables = staticmethod(gaussian_tables)

    def _states(self, values: np.ndarray) -> np.ndarray:
        # Imported late: numba takes a second to import.
        import numba

        from dploss.codes.trellis_kernels import encode_paths

        ends, starts = np.cumsum(self.bits, dtype=np.int64), np.cumsum(self.bits[::-1], dtype=np.int64)
        least = int(max(np.searchsorted(ends, _SEAM_BITS), np.searchsorted(starts, _SEAM_BITS)))
        seam = min(least + 1, len(self.bits))
        weights = (self.deviations / self.deviations.max()) ** (2 * _WEIGHT_POWERS[self.metric])
        bits, threads = self.bits.astype(np.int64), numba.get_num_threads()
        return encode_paths(values, self._axis_tables, bits, weights.astype(np.float32), seam, threads)

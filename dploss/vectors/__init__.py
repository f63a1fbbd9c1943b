"""Any vector file -> float32 rows, checked once; the built-in vectors; the split into training and held-out rows."""

from dploss.vectors.opening import BUILTIN, Vectors, open_vectors
from dploss.vectors.split import split_rows

__all__ = ["BUILTIN", "Vectors", "open_vectors", "split_rows"]

"""Any vector file -> float32 rows, checked once; the built-in vectors; the split; the texts beside them."""

from dploss.vectors.mapped import MappedRows, select
from dploss.vectors.opening import BUILTIN, Vectors, as_vectors, open_vectors
from dploss.vectors.split import split_rows
from dploss.vectors.texts import read_texts

__all__ = ["BUILTIN", "MappedRows", "Vectors", "as_vectors", "open_vectors", "read_texts", "select", "split_rows"]

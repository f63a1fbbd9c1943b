"""Any vector file -> float32 rows, checked once; the built-in vectors; the split; the texts beside them."""

from dploss.data.memmap import MappedRows, select
from dploss.data.split import split_rows
from dploss.data.texts import read_texts
from dploss.data.vectors import BUILTIN, Vectors, as_vectors, open_vectors

__all__ = ["BUILTIN", "MappedRows", "Vectors", "as_vectors", "open_vectors", "read_texts", "select", "split_rows"]

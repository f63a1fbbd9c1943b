"""The name that dploss.data had in 0.1, kept for one release."""

from dploss.data import (
    BUILTIN,
    MappedRows,
    Vectors,
    as_vectors,
    open_vectors,
    read_texts,
    select,
    split_rows,
)

__all__ = ["BUILTIN", "MappedRows", "Vectors", "as_vectors", "open_vectors", "read_texts", "select", "split_rows"]

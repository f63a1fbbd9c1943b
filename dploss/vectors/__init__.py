"""The name of dploss.data before 0.2, kept for one release."""

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

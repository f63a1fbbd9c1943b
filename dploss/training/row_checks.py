"""Whether rows are what a training can learn from: not all equal, not too small, and none far away from all others."""

import numpy as np

from dploss.data import MappedRows, select
from dploss.data.row_hashes import occur_in
from dploss.data.split import evenly_spaced
from dploss.errors import InputError

_MEDIAN_ROWS = 1000
_CHUNK_ROWS = 4096
_FAR = 1000
_NOTABLE_SHARE = 0.01
# Where values differ by less, float32 stores their difference with fewer digits than it has.
_LEAST_SCALE = float(np.finfo(np.float32).tiny / np.finfo(np.float32).eps)


def distances_from_median(rows: np.ndarray | MappedRows) -> np.ndarray:
    """How far each row is from the median row, which a few rows far away do not move.

    Args:
        rows: (N, D) float32, in memory or on the disk. The median of each dimension is taken over at most 1,000 rows.

    Returns:
        (N,) float64 Euclidean distances.
    """
    median = np.median(rows[evenly_spaced(len(rows), _MEDIAN_ROWS)], axis=0).astype(np.float64)
    starts = range(0, len(rows), _CHUNK_ROWS)
    return np.concatenate([np.linalg.norm(rows[start : start + _CHUNK_ROWS] - median, axis=1) for start in starts])


def check_differ(source: str, distances: np.ndarray) -> None:
    """Refuse rows that are all equal.

    Args:
        source: where they are from, for messages.
        distances: what `distances_from_median` returned.

    Raises:
        InputError: they are.
    """
    if not distances.any():
        raise InputError(f"{source}: all {len(distances):,} rows are equal, there is nothing to learn from them")


def check_scale(scale: float) -> None:
    """Refuse rows that differ by less than float32 has digits for.

    Args:
        scale: standard deviation of their centred coordinates.

    Raises:
        InputError: they do.
    """
    if scale < _LEAST_SCALE:
        raise InputError(
            f"the vectors' values differ by about {scale:.1g}, of which float32 stores few digits: multiply all rows "
            "by a number"
        )


def far_rows(source: str, distances: np.ndarray, kept: np.ndarray | None = None) -> str | None:
    """A warning where rows are over 1,000 times as far from the median row as most are; None where no row is.

    Args:
        source: where the rows are from.
        distances: what `distances_from_median` returned.
        kept: (N,) indices of the rows in the source; None where they are all of its rows.
    """
    usual = np.median(distances)
    far = np.flatnonzero(distances > _FAR * usual)
    if not usual or not len(far):
        return None
    more = f" (and {len(far) - 1:,} more)" if len(far) > 1 else ""
    row = far[0] if kept is None else kept[far[0]]
    return (
        f"{source}: row {row}{more} is far from all others: its norm is {distances[far[0]]:.3g}, the median norm "
        f"{usual:.3g}, from the median row; such rows dominate PCA and the loss: remove them if they are mistakes"
    )


def trained_twins(
    rows: np.ndarray | MappedRows, distances: np.ndarray, train_index: np.ndarray, held_out_index: np.ndarray
) -> str | None:
    """A warning where over a hundredth of the held-out rows are among the training rows, too; None where fewer are.

    Args:
        rows: (N, D) float32, all rows.
        distances: what `distances_from_median` returned of them.
        train_index: indices of those that are trained on.
        held_out_index: indices of those that recall is measured on; may be empty.
    """
    # Rows that are equal are equally far: few others need to be compared.
    near = train_index[np.isin(distances[train_index], distances[held_out_index])]
    if not len(near):
        return None
    twins, n_held_out = int(occur_in(rows[held_out_index], select(rows, near)).sum()), len(held_out_index)
    if twins <= _NOTABLE_SHARE * n_held_out:
        return None
    return (
        f"{twins:,} of {n_held_out:,} held-out rows are identical to a training row: recall on them says little of new "
        "rows; remove the duplicates"
    )

"""Code: the interface of all stored forms: latents -> bytes -> latents, and how near a query is to a stored row."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

# Rows of one matrix product: always as many, so that a row's code does not depend on the rows beside it.
BLOCK = 1024
# Points that are decoded at once for a product with queries.
_POINTS = 4096
_COLUMNS = 64


class StoredForm(ABC):
    """Rows of `bytes_per_vector` bytes each, all of them counted, that float queries search (asymmetric search).

    A stored row is a point and a bias: it is as far from a query q as bias - 2 <project(q), point>, up to what is the
    same for all rows of a query.

    Attributes:
        bytes_per_vector: stored for each row.
    """

    bytes_per_vector: int

    @abstractmethod
    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes."""

    @abstractmethod
    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, bytes_per_vector) uint8 codes -> (n, p) float32 points and (n,) float32 biases."""

    @abstractmethod
    def project(self, queries: np.ndarray) -> np.ndarray:
        """(m, d) latents of queries -> (m, p) float32, in the space and unit of the points."""

    @abstractmethod
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(n, bytes_per_vector) uint8 codes -> (n, d) float32 latents, as near to the given ones as it keeps.

        A row gives the same latent in any batch.
        """

    @property
    @abstractmethod
    def model_bytes(self) -> int:
        """Bytes that are stored once, for all rows."""

    def score(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """How far stored rows are from queries: estimates of squared distances, less what is constant for a query.

        Args:
            queries: (m, d) latents.
            codes: (n, bytes_per_vector) uint8.

        Returns:
            (m, n) float32; the least is the nearest. It is in units of the code: comparable along a row alone.
        """
        points, biases = self.points(codes)
        return biases - 2 * self.project(queries) @ points.T


class Code(StoredForm):
    """How the latents of an encoder are stored: fitted to them, and saved in its checkpoint.

    A score with constants(query) added, times unit^2, is an estimate of the squared distance of the latents; for inner
    products of -2 times these, and exactly that of the query with the latent that `decode` gives. Biases are 0 then.

    Attributes:
        name: what --code calls it.
        dim: d, dimensions of a latent.
    """

    name: ClassVar[str]
    dim: int

    @classmethod
    @abstractmethod
    def fit(
        cls, latents: np.ndarray, n_bytes: int, metric: str = "euclidean", queries: np.ndarray | None = None
    ) -> "Code":
        """Fit to latents of training rows.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row.
            metric: see `metric`.
            queries: (m, d) float32 latents of training queries, whose neighbours settings are chosen by for inner
                products; None: the rows'.

        Raises:
            ValueError: a number of bytes that the code cannot have with d dimensions.
        """

    @property
    @abstractmethod
    def metric(self) -> str:
        """How queries are compared with rows: "euclidean", or "ip", by the inner product of their latents."""

    @classmethod
    def byte_range(cls, dim: int) -> range:
        """The numbers of bytes that it can have with d dimensions: a byte of the norm, and 8 bits of each at most."""
        return range(2, dim + 2)

    @abstractmethod
    def constants(self, queries: np.ndarray) -> np.ndarray:
        """(m, d) latents of queries -> (m,) float64, what their scores lack that is the same for all rows.

        It is their squared norm in the unit of the points, of all d dimensions; for inner products -2 times that with
        the mean of the rows.
        """

    @property
    @abstractmethod
    def unit(self) -> float:
        """The unit of the points, in that of the latents; above 0."""

    @property
    def coarse(self) -> "Code":
        """A code of the same bytes whose points are cheaper and less true, by which a search finds candidates.

        It is this code itself where there is none.
        """
        return self

    def products(self, projected: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Inner products of stored rows and queries, without all points in memory at once.

        Args:
            projected: (m, p) float32, from `project`.
            codes: (n, bytes_per_vector) uint8.

        Returns:
            (n, m) float32, <point, query>. Equal codes have equal products with a query.
        """
        products = np.empty((len(codes), len(projected)), np.float32)
        columns = torch.from_numpy(projected).T
        for start in range(0, len(codes), _POINTS):
            block = codes[start : start + _POINTS]
            # What is left over at the end of a matrix may be summed in another order.
            filled = np.concatenate([block, np.zeros((-len(block) % _COLUMNS, codes.shape[1]), np.uint8)])
            # By torch: NumPy's threads would contend with those of the compiled loops.
            products[start : start + _POINTS] = (torch.from_numpy(self.points(filled)[0]) @ columns)[: len(block)]
        return products

    def visited_products(self, projected: np.ndarray, codes: np.ndarray, visits: np.ndarray) -> np.ndarray:
        """Inner products of queries with some of the stored rows each.

        Args:
            projected: (m, p) float32, from `project`.
            codes: (N, bytes_per_vector) uint8.
            visits: (v, 3) int64: a query, and the bounds of its rows among the N; ordered by these, none without rows.

        Returns:
            (sum of the visits' rows,) float32, one visit after the other.
        """
        queries = torch.from_numpy(projected)
        products = []
        for visited in np.split(visits, np.flatnonzero(np.diff(visits[:, 1])) + 1):
            points = torch.from_numpy(self.points(codes[visited[0, 1] : visited[0, 2]])[0])
            products.append((queries[torch.from_numpy(visited[:, 0])] @ points.T).ravel())
        return torch.cat(products).numpy()

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """What the code was fitted to, by name; with the name and `bytes_per_vector` all that it is made of."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> "Code":
        """The code that `arrays` was called on.

        Raises:
            KeyError, ValueError: arrays that are missing, or of other shapes or values than a code's.
        """

    @property
    def model_bytes(self) -> int:
        """Bytes that are stored once, for all rows."""
        return sum(array.nbytes for array in self.arrays().values())

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for a checkpoint."""
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in self.arrays().items()}
        return {"name": self.name, "bytes": self.bytes_per_vector, "arrays": tensors}


def search_form(code: StoredForm, codes: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stored rows and queries whose squared Euclidean distances are their scores, up to a constant of each query.

    One more dimension has what a point's own squared norm lacks to its bias; queries are 0 there.

    Args:
        code: of the codes.
        codes: (n, bytes_per_vector) uint8.
        queries: (m, d) latents.

    Returns:
        (n, p + 1) and (m, p + 1) float64.
    """
    points, biases = (one.astype(np.float64) for one in code.points(codes))
    lacking = biases - np.square(points).sum(axis=1)
    lacking = np.sqrt(lacking - lacking.min(initial=0))
    projected = code.project(queries).astype(np.float64)
    return np.column_stack([points, lacking]), np.column_stack([projected, np.zeros(len(queries))])


def arrays_of(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The tensors of `Code.state_dict` as arrays.

    Raises:
        TypeError: something else is among them.
    """
    if not isinstance(tensors, dict) or not all(isinstance(one, Tensor) for one in tensors.values()):
        raise TypeError("a code's arrays must be tensors")
    return {name: one.numpy(force=True) for name, one in tensors.items()}


def checked(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...], dtype: type) -> np.ndarray:
    """An array of a code, once it is known to be usable.

    Args:
        arrays: all of them.
        name: of this one.
        shape: None stands for any size.
        dtype: of its values, which must be finite.

    Raises:
        KeyError: it is missing.
        ValueError: another shape, dtype, or a value that is not finite.
    """
    array = arrays[name]
    fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype or not np.isfinite(array).all():
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, or not finite")
    return array


def in_blocks(rows: np.ndarray, matrix: np.ndarray, filled: bool = True) -> np.ndarray:
    """(n, d) @ (d, p) by products of BLOCK rows each, the last one filled up: a row gives the same in any batch.

    By torch: NumPy's products give a row other last digits in another place, on some processors.

    Args:
        rows: (n, d) float32.
        matrix: (d, p) float32.
        filled: without it few rows take less time, and may give other last digits than many.
    """
    product, factor = np.empty((len(rows), matrix.shape[1]), np.float32), torch.from_numpy(matrix)
    for start in range(0, len(rows), BLOCK):
        block = np.zeros((BLOCK if filled else min(BLOCK, len(rows) - start), rows.shape[1]), np.float32)
        block[: len(rows) - start] = rows[start : start + BLOCK]
        product[start : start + BLOCK] = (torch.from_numpy(block) @ factor)[: len(rows) - start].numpy()
    return product


def check_codes(codes: np.ndarray, width: int) -> None:
    """Refuse what are no codes of `width` bytes.

    Raises:
        ValueError: another dtype or shape.
    """
    if not isinstance(codes, np.ndarray):
        raise ValueError(f"codes must be uint8 of shape (rows, {width}), got a {type(codes).__name__}")
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != width:
        raise ValueError(f"codes must be uint8 of shape (rows, {width}), got {codes.dtype} of shape {codes.shape}")


def check_latents(latents: np.ndarray, dim: int) -> None:
    """Refuse what are no latents of `dim` dimensions.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    if latents.ndim != 2 or latents.shape[1] != dim:
        raise ValueError(f"latents must have shape (rows, {dim}), got {latents.shape}")
    if not np.isfinite(latents).all():
        raise ValueError("latents must be finite")

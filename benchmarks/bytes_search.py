"""How benchmarks/bytes.py stores rows and ranks them for float queries."""

from abc import ABC, abstractmethod

import numpy as np

from dploss.evaluation.peers import Peer

K = 10
_QUERIES = 256


class Method(ABC):
    """A stored form, fitted."""

    model_bytes: int

    @abstractmethod
    def encode(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) rows -> their codes."""

    @abstractmethod
    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """(m, count) row numbers, nearest first, for (m, D) queries."""


class Scored(Method):
    """Codes that are ranked by their scores, all of them at once."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.model_bytes = peer, peer.model_bytes

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        return self.peer.code.encode(self.peer.latents(rows))

    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Method.search`."""
        points, biases = self.peer.code.points(codes)
        found = []
        for start in range(0, len(queries), _QUERIES):
            asked = self.peer.code.project(self.peer.latents(queries[start : start + _QUERIES]))
            found.append(least(biases - 2 * asked @ points.T, count))
        return np.concatenate(found)


def least(scores: np.ndarray, count: int) -> np.ndarray:
    """(m, count) columns of the least of (m, n) scores, the least first."""
    near = np.argpartition(scores, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(scores, near, axis=1).argsort(axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1)


def true_neighbours(stored: np.ndarray, queries: np.ndarray | None) -> np.ndarray:
    """(m, 10) row numbers by exact distances."""
    asked = stored if queries is None else queries
    norms = np.square(stored, dtype=np.float64).sum(axis=1)
    found = []
    for start in range(0, len(asked), 500):
        scores = norms - 2 * (asked[start : start + 500].astype(np.float64) @ stored.T.astype(np.float64))
        if queries is None:
            scores[np.arange(len(scores)), start + np.arange(len(scores))] = np.inf
        found.append(np.argsort(scores, axis=1)[:, :K])
    return np.concatenate(found)


def share_found(true: np.ndarray, found: np.ndarray) -> float:
    """Mean share of each row's true neighbours that are among those found."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(true, found, strict=True)]))

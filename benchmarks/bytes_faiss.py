"""FAISS's quantisers for benchmarks/bytes.py, after renormalised PCA to as many dimensions as the bytes allow.

EDEN (Vargaftik et al. 2022) and TurboQuant (Zandieh et al. 2025) are scalar quantisers of randomly rotated rows: "mse"
is TurboQuant's Algorithm 1, "prod" its Algorithm 2, which spends a bit a dimension on unbiased inner products.
"""

from collections.abc import Callable

import faiss
import numpy as np
from bytes_search import Method

from dploss.evaluation.peer_forms import FaissForm
from dploss.evaluation.peers import Peer, contiguous, widened
from dploss.models.pca import PCA

Fit = Callable[[np.ndarray, int], Method]


class Faiss(Method):
    """A trained index of FAISS, searched by FAISS."""

    def __init__(self, peer: Peer) -> None:
        assert isinstance(peer.code, FaissForm)
        self.index, self.latents, self.model_bytes = peer.code.index, peer.latents, peer.model_bytes

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        self.index.reset()
        self.index.add(contiguous(self.latents(rows)))
        return np.empty((len(rows), 0))

    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Method.search`: of the rows that were encoded last."""
        return self.index.search(contiguous(self.latents(queries)), count)[1]


def after_pca(made: Callable[[int], faiss.Index], rotated: bool = False) -> Fit:
    """An index of the most dimensions of renormalised PCA whose codes take no more than the bytes of a row.

    Args:
        made: an index, from its dimensions.
        rotated: put a random rotation before it.
    """

    def fitted(rows: np.ndarray, n_bytes: int) -> Method:
        fitting = [dim for dim in range(1, min(8 * n_bytes, rows.shape[1]) + 1) if made(dim).sa_code_size() <= n_bytes]
        if not fitting:
            raise ValueError("too few bytes")
        dim = fitting[-1]
        pca, index = PCA.fit(rows, dim), made(dim)
        if rotated:
            rotation = faiss.RandomRotationMatrix(dim, dim)
            rotation.init(0)
            index = faiss.IndexPreTransform(rotation, index)
        index.train(contiguous(pca.encode_renormalised(rows)))
        return Faiss(Peer(pca.encode_renormalised, FaissForm(index), pca.components.nbytes + pca.mean.nbytes))

    return fitted


def scalar(kind: str) -> Callable[[int], faiss.Index]:
    """A scalar quantiser by the name that FAISS has for it."""
    return lambda dim: faiss.IndexScalarQuantizer(dim, getattr(faiss.ScalarQuantizer, kind), faiss.METRIC_L2)


def eden(bits: int) -> Callable[[int], faiss.Index]:
    """EDEN with the scale that makes inner products unbiased; its two floats are counted."""
    return lambda dim: faiss.IndexEDEN(dim, faiss.METRIC_L2, bits)


def rabitq(bits: int) -> Callable[[int], faiss.Index]:
    """RaBitQ of 2 bits and more (Gao et al. 2024); its five floats are counted, and queries stay floats."""

    def made(dim: int) -> faiss.Index:
        index = faiss.IndexRaBitQ(dim, faiss.METRIC_L2, bits)
        index.qb = 0
        return index

    return made


def residual(rows: np.ndarray, n_bytes: int) -> Method:
    """FAISS's residual quantiser of renormalised PCA with a dimension for every bit, a byte a stage."""
    dim = min(8 * n_bytes, rows.shape[1])
    pca = PCA.fit(rows, dim)
    index = faiss.IndexResidualQuantizer(dim, n_bytes, 8)
    index.train(contiguous(pca.encode_renormalised(rows)))
    return Faiss(Peer(pca.encode_renormalised, FaissForm(index), pca.components.nbytes + pca.mean.nbytes))


def product(rows: np.ndarray, n_bytes: int) -> Method:
    """PQ (Jégou et al. 2011); dimensions that the sub-quantisers do not divide are filled up with 0."""
    dim = widened(rows.shape[1], n_bytes)

    def filled(some: np.ndarray) -> np.ndarray:
        return contiguous(np.pad(some, ((0, 0), (0, dim - some.shape[1]))))

    index = faiss.IndexPQ(dim, n_bytes, 8)
    index.train(filled(rows))
    return Faiss(Peer(filled, FaissForm(index)))


FAISS: dict[str, Fit] = {
    "RQ, PCA": residual,
    "PQ": product,
    **{f"RaBitQ, PCA, {bits} bits": after_pca(rabitq(bits), rotated=True) for bits in (2, 3, 4)},
    **{f"EDEN, PCA, {bits} bits": after_pca(eden(bits), rotated=True) for bits in (2, 3, 4)},
    **{f"TurboQuant mse, PCA, {b} bits": after_pca(scalar(f"QT_{b}bit_tqmse"), rotated=True) for b in (2, 3, 4)},
    **{f"TurboQuant prod, PCA, {b} bits": after_pca(scalar(f"QT_{b}bit_tq"), rotated=True) for b in (2, 3, 4)},
    **{f"PCA, {bits} bits": after_pca(scalar(f"QT_{bits}bit")) for bits in (4, 6, 8)},
}

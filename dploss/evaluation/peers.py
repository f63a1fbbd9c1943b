"""Peers of a code: what people store in as many bytes without dploss, and its own `pq`, fitted to training rows.

PCA renormalised as int8; and by FAISS, RaBitQ (Gao & Long 2024), OPQ (Ge et al. 2013) and OPQ with the norm restored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dploss.codes.build import fit_code
from dploss.codes.code import StoredForm
from dploss.codes.pq import ProductCode
from dploss.codes.quantizer import Quantizer
from dploss.config import TrainConfig
from dploss.data import MappedRows
from dploss.data.split import evenly_spaced
from dploss.evaluation.peer_forms import RABITQ_FACTORS, FaissForm, Int8, NormRestored, RaBitQ, contiguous, import_faiss
from dploss.evaluation.stored import StoredScores, score_stored
from dploss.experiments.history import PCA_INT8, PCA_PQ
from dploss.models.pca import PCA

if TYPE_CHECKING:
    import faiss

# Of more training rows an evenly spaced sample is fitted to: OPQ takes minutes for these.
MOST_ROWS = 20_000
_CENTROIDS, _OPQ_ITERATIONS, _CODED_ROWS = 256, 25, 50_000


@dataclass(frozen=True)
class Peer:
    """A stored form of rows, without a trained encoder.

    Attributes:
        latents: (n, D) rows -> (n, d) float32, what is stored of them.
        code: of these.
        encoder_bytes: what `latents` takes, once for all rows.
    """

    latents: Callable[[np.ndarray], np.ndarray]
    code: StoredForm
    encoder_bytes: int = 0

    @property
    def model_bytes(self) -> int:
        """Bytes that are stored once, for all rows."""
        return self.code.model_bytes + self.encoder_bytes


def pca_int8(rows: np.ndarray | MappedRows, n_bytes: int, pca: PCA | None = None, metric: str = "euclidean") -> Peer:
    """Renormalised PCA of as many dimensions as there are bytes, or of all there are, a byte each.

    Args:
        rows: (N, D) float32, training rows.
        n_bytes: of a stored row.
        pca: of these rows, where there is one already.
        metric: how latents of queries are compared with them, "euclidean" or "ip".
    """
    pca = pca or PCA.fit(rows, min(n_bytes, rows.shape[1]))
    dim = min(n_bytes, len(pca.components))

    def latents(some: np.ndarray) -> np.ndarray:
        return pca.encode_renormalised(some, dim)

    quantizer = Quantizer.fit("int8", latents(rows[evenly_spaced(len(rows), _CODED_ROWS)]))
    return Peer(latents, Int8(quantizer, metric), pca.components[:dim].nbytes + pca.mean.nbytes)


def closed_form(
    code: str, rows: np.ndarray | MappedRows, n_bytes: int, pca: PCA | None = None, metric: str = "euclidean"
) -> Peer:
    """The start of `train.py --bytes --code`: a code of renormalised PCA. That of pq is PQ along principal axes.

    Args:
        code: a key of CODES.
        rows: (N, D) float32, training rows.
        n_bytes: of a stored row.
        pca: of these rows, where there is one already; None: of as many dimensions as a training has by default.
        metric: how latents of queries are compared with them, "euclidean" or "ip".

    Raises:
        ValueError: a number of bytes that the code cannot have.
    """
    if pca is None:
        settings = TrainConfig(bytes=n_bytes, code=code)  # type: ignore[arg-type]  # its choices
        pca = PCA.fit(rows, settings.fitted_to(*rows.shape).latent_dim)
    latents = pca.encode_renormalised(rows[evenly_spaced(len(rows), _CODED_ROWS)])
    fitted = fit_code(code, latents, n_bytes, metric=metric)
    return Peer(pca.encode_renormalised, fitted, pca.components.nbytes + pca.mean.nbytes)


def opq(rows: np.ndarray, n_bytes: int) -> Peer:
    """OPQ, trained, of one byte a sub-quantiser.

    Raises:
        ValueError: too few rows.
    """
    return Peer(contiguous, FaissForm(_trained_opq(rows, n_bytes)))


def opq_norm_restored(rows: np.ndarray, n_bytes: int) -> Peer:
    """OPQ of all bytes but one, and in that one the norm.

    Raises:
        ValueError: too few rows or bytes.
    """
    if n_bytes < 2:
        raise ValueError("at least 2 bytes, one of them for the norm")
    mean = rows.mean(axis=0)
    return Peer(contiguous, NormRestored(_trained_opq(rows - mean, n_bytes - 1), mean, rows))


def rabitq(rows: np.ndarray, n_bytes: int) -> Peer:
    """RaBitQ of a bit a dimension after renormalised PCA and a random rotation, its two floats counted.

    Raises:
        ValueError: too few bytes.
    """
    room = n_bytes - RABITQ_FACTORS.itemsize
    if room < 1:
        raise ValueError(f"at least {RABITQ_FACTORS.itemsize + 1} bytes, {RABITQ_FACTORS.itemsize} of them floats")
    faiss, dim = import_faiss(), min(8 * room, rows.shape[1])
    pca = PCA.fit(rows, dim)
    rotation = faiss.RandomRotationMatrix(dim, dim)
    rotation.init(0)
    quantizer = faiss.IndexRaBitQ(dim, faiss.METRIC_L2)
    # Queries stay floats; FAISS rounds them to 4 bits by default.
    quantizer.qb = 0
    index, latents = faiss.IndexPreTransform(rotation, quantizer), pca.encode_renormalised(rows)
    index.train(contiguous(latents))
    return Peer(pca.encode_renormalised, RaBitQ(index, latents.mean(axis=0)), pca.components.nbytes + pca.mean.nbytes)


PEERS: dict[str, Callable[[np.ndarray, int], Peer]] = {
    PCA_INT8: pca_int8,
    "RaBitQ": rabitq,
    PCA_PQ: partial(closed_form, ProductCode.name),
    "OPQ": opq,
    "OPQ, norm restored": opq_norm_restored,
}


@dataclass(frozen=True)
class Peers:
    """All peers that as many bytes allow.

    Attributes:
        fitted: by name.
        left_out: why others are not among them, by name.
    """

    fitted: dict[str, Peer]
    left_out: dict[str, str]

    @classmethod
    def fit(cls, rows: np.ndarray | MappedRows, n_bytes: int, log: Callable[[str], None]) -> "Peers":
        """Fit every peer to training rows.

        Args:
            rows: (N, D) float32; of more than 20,000 an evenly spaced sample.
            n_bytes: of a stored row.
            log: takes a line before each of them.

        Raises:
            InputError: FAISS is not installed.
        """
        import_faiss()
        sample, peers = rows[evenly_spaced(len(rows), MOST_ROWS)], cls({}, {})
        for name, fit in PEERS.items():
            log(f"fitting {name} to {len(sample):,} training rows, {n_bytes} bytes a vector ...")
            try:
                peers.fitted[name] = fit(sample, n_bytes)
            except ValueError as error:
                peers.left_out[name] = str(error)
        return peers

    def score(self, rows: np.ndarray, ks: Sequence[int]) -> dict[str, StoredScores]:
        """By name, the scores of (n, D) float32 rows as each stores them; see `score_stored`."""
        return {
            name: replace(score_stored(rows, peer.latents(rows), peer.code, ks), model_bytes=peer.model_bytes)
            for name, peer in self.fitted.items()
        }


NO_PEERS = Peers({}, {})


def widened(dim: int, n_bytes: int) -> int:
    """The least multiple of n_bytes that is at least dim."""
    return -(-dim // n_bytes) * n_bytes


def _trained_opq(rows: np.ndarray, n_bytes: int) -> "faiss.Index":
    if len(rows) < _CENTROIDS:
        raise ValueError(f"{len(rows)} training rows are too few for {_CENTROIDS} centroids")
    faiss, dim = import_faiss(), widened(rows.shape[1], n_bytes)
    rotation, quantizer = faiss.OPQMatrix(rows.shape[1], n_bytes, dim), faiss.IndexPQ(dim, n_bytes, 8)
    learning = faiss.ProductQuantizer(dim, n_bytes, 8)
    rotation.niter, rotation.pq = _OPQ_ITERATIONS, learning
    # FAISS warns of fewer than 39 rows a centroid: a line for every sub-quantiser of every iteration.
    quantizer.pq.cp.min_points_per_centroid = learning.cp.min_points_per_centroid = 1
    index = faiss.IndexPreTransform(rotation, quantizer)
    index.train(contiguous(rows))
    # It ends with this function.
    rotation.pq = None
    return index

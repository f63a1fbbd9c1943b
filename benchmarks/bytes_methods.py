"""What benchmarks/bytes.py compares: dploss's codes, fitted or trained, and FAISS's quantisers at as many bytes.

Every method is fitted to training rows, and ranks the rows of a database for float queries, all bytes counted.
"""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from dploss.codes.build import CODES, fit_code
from dploss.codes.code import Code
from dploss.codes.row_scale import RowScale
from dploss.config import TrainConfig
from dploss.data.split import evenly_spaced
from dploss.models.build import load_encoder
from dploss.models.encoder import Encoder
from dploss.models.pca import PCA
from dploss.training.launch import new_experiment

_QUERIES = 256
_OPQ_ITERATIONS = 25


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
    """Codes that are ranked by their scores, (m, D) queries against all codes at once."""

    @abstractmethod
    def scorer(self, codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """What gives (q, n) scores for (q, D) queries; the least is the nearest."""

    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Method.search`."""
        scores_of, found = self.scorer(codes), []
        for start in range(0, len(queries), _QUERIES):
            scores = scores_of(queries[start : start + _QUERIES])
            near = np.argpartition(scores, count - 1, axis=1)[:, :count]
            order = np.take_along_axis(scores, near, axis=1).argsort(axis=1, kind="stable")
            found.append(np.take_along_axis(near, order, axis=1))
        return np.concatenate(found)


class Ours(Scored):
    """A code of the latents of an encoder."""

    def __init__(self, encode: Callable[[np.ndarray], np.ndarray], code: Code, encoder_bytes: int) -> None:
        self.latents, self.code, self.model_bytes = encode, code, code.model_bytes + encoder_bytes

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        return self.code.encode(self.latents(rows))

    def scorer(self, codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """See `Scored.scorer`."""
        points, biases = self.code.points(codes)
        return lambda queries: biases - 2 * self.code.project(self.latents(queries)) @ points.T


class OPQWithNorm(Scored):
    """OPQ of all bytes but one, and in that one the norm, as our codes have it."""

    def __init__(self, rows: np.ndarray, n_bytes: int) -> None:
        self.mean = rows.mean(axis=0)
        self.index = opq(rows - self.mean, n_bytes - 1)
        sample = (rows - self.mean)[evenly_spaced(len(rows), 10_000)]
        self.scale = RowScale.fit(sample, sample, self.index.sa_decode(self.index.sa_encode(sample)))
        self.model_bytes = serialized(self.index)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        centred = rows - self.mean
        codes = self.index.sa_encode(centred)
        byte = self.scale.byte(centred, np.square(centred).sum(axis=1), self.index.sa_decode(codes))
        return np.column_stack([codes, byte])

    def scorer(self, codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """See `Scored.scorer`."""
        decoded = self.index.sa_decode(np.ascontiguousarray(codes[:, :-1]))
        scales = self.scale.read(codes[:, -1])
        biases = self.scale.biases(scales, np.square(decoded).sum(axis=1))
        points = decoded * (scales**self.scale.power)[:, None]
        return lambda queries: biases - 2 * (queries - self.mean) @ points.T


class Faiss(Method):
    """An index of FAISS, searched by FAISS; `encode` and `decode` come before it."""

    def __init__(self, index: faiss.Index, rows: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray]) -> None:
        self.index, self.prepare = index, prepare
        if not index.is_trained:
            index.train(prepare(rows))
        self.model_bytes = serialized(index)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        self.index.reset()
        self.index.add(self.prepare(rows))
        return np.empty((len(rows), 0))

    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Method.search`: of the rows that were encoded last."""
        return self.index.search(self.prepare(queries), count)[1]


def serialized(index: faiss.Index) -> int:
    """Bytes of an index without rows."""
    return len(faiss.serialize_index(index))


def as_is(rows: np.ndarray) -> np.ndarray:
    """The rows."""
    return np.ascontiguousarray(rows, np.float32)


def widened(dim: int, n_bytes: int) -> int:
    """The least multiple of n_bytes that is at least dim."""
    return -(-dim // n_bytes) * n_bytes


def opq(rows: np.ndarray, n_bytes: int) -> faiss.Index:
    """OPQ (Ge et al. 2013), trained, of one byte a sub-quantiser."""
    dim = widened(rows.shape[1], n_bytes)
    rotation = faiss.OPQMatrix(rows.shape[1], n_bytes, dim)
    rotation.niter = _OPQ_ITERATIONS
    index = faiss.IndexPreTransform(rotation, faiss.IndexPQ(dim, n_bytes, 8))
    index.train(as_is(rows))
    return index


def closed_form(code: str, rows: np.ndarray, n_bytes: int) -> Method:
    """train.py --bytes --code --epochs 0."""
    dim = TrainConfig(bytes=n_bytes, code=code).fitted_to(len(rows), rows.shape[1]).latent_dim
    pca = PCA.fit(rows, dim)
    fitted = fit_code(code, pca.encode_renormalised(rows[evenly_spaced(len(rows), 50_000)]), n_bytes)
    return Ours(pca.encode_renormalised, fitted, pca.components.nbytes + pca.mean.nbytes)


def trained(rows: np.ndarray, n_bytes: int) -> Method:
    """train.py --bytes with its defaults; none of the rows is held out, so the last epoch's encoder is taken."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, rows)
        config = TrainConfig(
            data=str(path), bytes=n_bytes, val_fraction=0, checkpoints_dir=folder, no_tensorboard=True, quiet=True
        )
        run = new_experiment(config)
        run.run()
        encoder = load_encoder(Path(folder) / f"{run.record.origin.experiment_id}" / "latest_model.pth")  # type: ignore[attr-defined]
    assert isinstance(encoder, Encoder) and encoder.code is not None
    weights = sum(value.nbytes for value in encoder.state_dict().values())
    return Ours(encoder.encode, encoder.code, weights)


def pca_scalar(kind: int, bits: int) -> Callable[[np.ndarray, int], Method]:
    """PCA renormalised, and FAISS's scalar quantiser of `bits` bits a dimension."""

    def fitted(rows: np.ndarray, n_bytes: int) -> Method:
        dim = min(8 * n_bytes // bits, rows.shape[1])
        pca = PCA.fit(rows, dim)
        return Faiss(faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_L2), rows, lambda some: pca_rows(pca, some))

    return fitted


def pca_rows(pca: PCA, rows: np.ndarray) -> np.ndarray:
    """Projections with the norm restored, contiguous."""
    return as_is(pca.encode_renormalised(rows))


def rabitq(rows: np.ndarray, n_bytes: int) -> Method:
    """RaBitQ (Gao & Long 2024) with a bit a dimension, after PCA and a random rotation, its two floats counted."""
    dim = min(8 * (n_bytes - 8), rows.shape[1])
    pca = PCA.fit(rows, dim)
    rotation = faiss.RandomRotationMatrix(dim, dim)
    rotation.init(0)
    return Faiss(
        faiss.IndexPreTransform(rotation, faiss.IndexRaBitQ(dim, faiss.METRIC_L2)),
        rows,
        lambda some: pca_rows(pca, some),
    )


def product_quantiser(rows: np.ndarray, n_bytes: int) -> Method:
    """PQ (Jégou et al. 2011); dimensions that the sub-quantisers do not divide are filled up with 0."""
    dim = widened(rows.shape[1], n_bytes)

    def filled(some: np.ndarray) -> np.ndarray:
        return as_is(np.pad(some, ((0, 0), (0, dim - some.shape[1]))))

    return Faiss(faiss.IndexPQ(dim, n_bytes, 8), rows, filled)


METHODS: dict[str, Callable[[np.ndarray, int], Method]] = {
    "trained": trained,
    **{name: (lambda rows, n_bytes, name=name: closed_form(name, rows, n_bytes)) for name in CODES},  # type: ignore[misc]
    "OPQ, norm restored": OPQWithNorm,
    "OPQ": lambda rows, n_bytes: Faiss(opq(rows, n_bytes), rows, as_is),
    "PQ": product_quantiser,
    "RaBitQ, PCA": rabitq,
    "PCA, 4 bits": pca_scalar(faiss.ScalarQuantizer.QT_4bit, 4),
    "PCA, 8 bits": pca_scalar(faiss.ScalarQuantizer.QT_8bit, 8),
}

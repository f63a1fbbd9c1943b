"""CodeIndex: nearest rows among stored codes, searched with queries that stay float vectors."""

from pathlib import Path

import numpy as np

from dploss.arguments import whole_number
from dploss.codes.code import Code, check_codes, check_latents, checked
from dploss.codes.stored_code import StoredCode
from dploss.data.memmap import MappedRows
from dploss.errors import InputError, SettingError
from dploss.files.given import expanded
from dploss.models.encoder import DPEncoder
from dploss.search.index_file import read_index, write_index
from dploss.search.inverted_lists import InvertedLists
from dploss.search.rerank import rerank as reranked
from dploss.search.scan import scan, scan_lists

_CHUNK_ROWS = 8192
_QUERIES = 1024
# Found beyond those asked for: float32 may change the order of rows that are nearly as far, float64 has the last word.
_SPARE = 8
# Candidates by a coarse code for each neighbour, whose points have the last word.
_CANDIDATES = 5
# The points that centroids are trained on, for each.
_TRAINED = 64


class CodeIndex:
    """Exact search over codes: all rows are scored, as `Code` says, by blocks.

    The nearest rows are those that an encoder's `latent_metric` says: at the least distance, or of the largest inner
    product.

    Of a code that training refined, 5 k candidates are the nearest by its coarse points, of which the k nearest by its
    own are found.

    In memory it has the codes and 4 bytes of every row; with inverted lists, 12.

    Args:
        encoder: an encoder that was trained to be stored in few bytes.
        nlist: inverted lists, of which a search looks at the nearest alone: faster, and no longer exact. It needs the
            extra `faiss`. They are trained on the first rows that are added, at least nlist. None: no lists.

    Raises:
        InputError: the encoder has no code, one for latents that are compared otherwise, or nlist is below 1.
    """

    def __init__(self, encoder: DPEncoder, nlist: int | None = None) -> None:
        if encoder.code is None:
            raise SettingError("the encoder has no code: train one with {bytes}")
        self.encoder = encoder
        if encoder.code.metric != encoder.latent_metric:
            raise InputError(f"the encoder's code is fitted for {encoder.code.metric}, not {encoder.latent_metric}")
        self.nlist = None if nlist is None else whole_number("nlist", nlist, 1)
        self.code: Code = encoder.code
        self._coarse = self.code.coarse
        self._parts = [np.empty((0, self.bytes_per_vector), np.uint8)]
        self._biases = np.empty(0, np.float32)
        self._lists: InvertedLists | None = None

    def __len__(self) -> int:
        return len(self._biases)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of a row's code."""
        return self.code.bytes_per_vector

    @property
    def nbytes(self) -> int:
        """Bytes that all rows take in memory; mapped codes, which `load` leaves on the disk, are counted too."""
        codes = sum(part.nbytes for part in self._parts)
        return codes + self._biases.nbytes + (0 if self._lists is None else self._lists.nbytes)

    @property
    def codes(self) -> np.ndarray:
        """(N, bytes_per_vector) uint8, of all rows as they are stored: with inverted lists, list by list."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def add(self, rows: np.ndarray | MappedRows) -> None:
        """Encode original vectors and add them; their ids follow those of the rows before.

        Args:
            rows: (N, D), any floating dtype, in memory or on the disk.

        Raises:
            TypeError, ValueError: rows that the encoder refuses, see `Encoder.encode`.
        """
        codes = np.empty((len(rows), self.bytes_per_vector), np.uint8)
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk, name = slice(start, start + _CHUNK_ROWS), f"rows[{start}:]" if start else "rows"
            codes[chunk] = self.encoder.encode_to_codes(rows[chunk], input_name=name)
        self.add_codes(codes)

    def add_codes(self, codes: np.ndarray) -> None:
        """Add rows that are encoded already, by `Encoder.encode_to_codes`.

        Inverted lists store the rows of a list side by side, which moves all rows at each addition: add many at once.

        Args:
            codes: (N, bytes_per_vector) uint8; without inverted lists they are not copied.

        Raises:
            ValueError: another dtype or shape.
            InputError: the first rows are fewer than nlist, or faiss, which that needs, is not installed.
        """
        check_codes(codes, self.bytes_per_vector)
        if not len(codes):
            return
        if self.nlist is not None and self._lists is None:
            sample = np.unique(np.linspace(0, len(codes) - 1, _TRAINED * self.nlist).astype(int))
            self._lists = InvertedLists.train(self._coarse.points(codes[sample])[0], self.nlist)
        biases, numbers = np.empty(len(codes), np.float32), np.empty(len(codes), np.int32)
        for start in range(0, len(codes), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            points, biases[chunk] = self._coarse.points(codes[chunk])
            if self._lists is not None:
                numbers[chunk] = self._lists.probes(points, 1)[:, 0]
        biases = np.concatenate([self._biases, biases])
        if self._lists is None:
            self._parts.append(codes)
            self._biases = biases
            return
        lists, order = self._lists.added(numbers)
        self._parts, self._biases, self._lists = [np.concatenate([self.codes, codes])[order]], biases[order], lists

    def search(
        self,
        queries: np.ndarray,
        k: int,
        rerank: int | None = None,
        originals: np.ndarray | MappedRows | None = None,
        nprobe: int = 8,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows of each query; of rows as far, the one of the lower id first.

        Args:
            queries: (n, D) original vectors, any floating dtype.
            k: neighbours to find, at least 1.
            rerank: k * rerank candidates are found by their codes, and the nearest of them by their original vectors
                are kept; at least 1. None: by their codes alone.
            originals: (N, D) original vectors of all rows, for `rerank`; a search reads the candidates' rows only.
            nprobe: inverted lists to look at, at least 1; without lists it has no effect.

        Returns:
            (n, k) float32 squared distances and (n, k) int64 ids, nearest first; inf and -1 where fewer rows were
            found. The distances are those of the latents, in the square of their units, as codes estimate them, which
            may be below 0; with `rerank` those of the original vectors, normalised where the encoder's metric is
            cosine.
            Of an encoder whose latent_metric is ip, inner products of the latents of queries and rows, as codes
            estimate them, largest first, and -inf; with `rerank` distances of the original vectors as above, but
            where the encoder's metric is ip their inner products, largest first, and -inf.

        Raises:
            TypeError, ValueError: queries that the encoder refuses or whose latents are not finite, an argument outside
                its range, or `originals` missing or not of as many rows as the index.
        """
        k, nprobe = whole_number("k", k, 1), whole_number("nprobe", nprobe, 1)
        rerank = None if rerank is None else whole_number("rerank", rerank, 1)
        if rerank is not None and (originals is None or len(originals) != len(self)):
            count = "none" if originals is None else len(originals)
            raise ValueError(f"rerank needs the originals of all {len(self)} rows, got {count}")
        latents = self.encoder.encode_queries(queries).astype(np.float32)
        check_latents(latents, self.code.dim)
        found = k * (rerank or 1)
        distances = np.full((len(queries), found), np.inf, np.float32)
        ids = np.full((len(queries), found), -1, np.int64)
        kept = min(found, len(self))
        for start in range(0, len(queries) if kept else 0, _QUERIES):
            block = slice(start, start + _QUERIES)
            distances[block, :kept], ids[block, :kept] = self._nearest(latents[block], kept, nprobe)
        if rerank is None or originals is None:
            return distances if self.code.metric == "euclidean" else distances / -2, ids
        return reranked(queries, originals, ids, k, self.encoder.metric)

    def save(self, path: str | Path) -> None:
        """Write the index to one file, atomically.

        Raises:
            OSError: the disk is full, the folder is not writable, ...
        """
        arrays = {"code": np.array(StoredCode.of(self.code).sha256), "codes": self.codes, "biases": self._biases}
        if self._lists is not None:
            arrays |= self._lists.arrays()
        write_index(expanded(path), arrays)

    @classmethod
    def load(cls, path: str | Path, encoder: DPEncoder) -> "CodeIndex":
        """The index that `save` wrote; its codes stay on the disk, mapped.

        Args:
            path: of the file.
            encoder: the one whose codes they are.

        Raises:
            InputError: the file is missing, damaged, of another kind, or of another encoder's codes.
        """
        stored = read_index(expanded(path))
        index = cls(encoder)
        if "code" in stored and str(stored["code"]) != StoredCode.of(index.code).sha256:
            raise InputError(f"{path}: the codes in it are not of this encoder")
        try:
            codes, biases = stored["codes"], checked(stored, "biases", (None,), np.float32)
            check_codes(codes, index.bytes_per_vector)
            if len(biases) != len(codes):
                raise ValueError(f"{len(codes)} codes, but {len(biases)} biases")
            if "centroids" in stored:
                width = index._coarse.project(np.zeros((1, index.code.dim), np.float32)).shape[1]
                index._lists = InvertedLists.from_arrays(stored, len(codes), width)
                index.nlist = len(index._lists.centroids)
        except (KeyError, ValueError) as error:
            raise (
                error if isinstance(error, InputError) else InputError(f"{path}: no index of codes: {error}")
            ) from error
        index._parts, index._biases = [codes], biases
        return index

    def _nearest(self, latents: np.ndarray, k: int, nprobe: int) -> tuple[np.ndarray, np.ndarray]:
        """(m, k) float64 distances and ids of the nearest rows by their codes, for (m, d) latents of queries.

        In place of distances -2 times inner products, where the code is for these.
        """
        projected = self._coarse.project(latents)
        size = min((k if self._coarse is self.code else k * _CANDIDATES) + _SPARE, len(self))
        if self._lists is None:
            ids = rows = scan(self._coarse, self.codes, self._biases, projected, size)
        else:
            visits = self._lists.visits(projected, nprobe, self.code.metric)
            rows = scan_lists(self._coarse, self.codes, self._biases, projected, size, visits)
            ids = np.where(rows < 0, -1, self._lists.ids[rows])
        distances = self._distances(latents, rows)
        order = np.lexsort((ids, distances))[:, :k]
        return np.take_along_axis(distances, order, 1), np.take_along_axis(ids, order, 1)

    def _distances(self, latents: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(m, c) float64 distances of queries and (m, c) stored rows, in units of the latents; inf where -1."""
        distances = np.empty(rows.shape)
        projected, constants = self.code.project(latents), self.code.constants(latents)
        step = max(1, _CHUNK_ROWS // rows.shape[1])
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            points, biases = self.code.points(self.codes[rows[block].ravel()])
            points = points.reshape(*rows[block].shape, -1)
            products = np.matmul(points, projected[block, :, None], dtype=np.float64)[..., 0]
            distances[block] = biases.reshape(rows[block].shape) - 2 * products + constants[block, None]
        return np.where(rows < 0, np.inf, distances * self.code.unit**2)

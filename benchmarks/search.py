"""Search among codes of 64 bytes: seconds, memory and recall of CodeIndex beside faiss.IndexPQ and IndexIVFPQ.

Recall is that of the 10 nearest originals. The rows are synthetic, correlated as embeddings are, or those of --data, of
which the last ones are the queries; the encoder is linear, by PCA. FAISS trains its codes on as many rows.
"""

import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch
from timing import milliseconds, parser, report

from dploss import CodeIndex
from dploss.codes.build import fit_code
from dploss.data import open_vectors
from dploss.losses import DPLossV3
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA

K, BYTES, DIM = 10, 64, 768
_TRAIN_ROWS = 20_000
_MOST_LISTS = 128
Search = Callable[[np.ndarray], np.ndarray]


def synthetic(count: int) -> np.ndarray:
    """(count, 768) float32 rows around as many centres as a hundredth of them, with a falling spectrum."""
    random = np.random.default_rng(0)
    deviations = (np.arange(1, DIM + 1) ** -0.5).astype(np.float32)
    centres = random.standard_normal((max(1, count // 100), DIM), np.float32)
    rows = random.standard_normal((count, DIM), np.float32)
    rows += centres[random.integers(len(centres), size=count)]
    rows *= deviations
    return rows


def fitted(rows: np.ndarray, latent_dim: int, trained: bool) -> DPEncoder:
    """A linear encoder with the trellis code, or what training makes of it, fitted to training rows."""
    encoder = DPEncoder(rows.shape[1], (), latent_dim)
    encoder.initialize_from_pca(PCA.fit(rows, latent_dim))
    encoder.code = fit_code("trellis", encoder.encode(rows), BYTES, DPLossV3() if trained else None)
    return encoder.eval()


def seconds(call: Callable[[], Any]) -> float:
    """How long it takes, once."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours that were found."""
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


def least_nprobe(search: Callable[[int], np.ndarray], truth: np.ndarray, wanted: float) -> int:
    """The fewest lists with which a search has the recall, from 1 up to some 128."""
    nprobe = 1
    while recall(search(nprobe), truth) < wanted and nprobe < _MOST_LISTS:
        nprobe += 1 + nprobe // 8
    return nprobe


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", help="vectors, in random order (default: synthetic)")
    flags.add_argument("--rows", type=int, default=200_000)
    flags.add_argument("--queries", type=int, default=1000)
    flags.add_argument("--latent-dim", type=int, default=256)
    flags.add_argument("--refined", action="store_true", help="the trellis code as training makes it")
    flags.add_argument("--nlist", type=int, default=1024)
    flags.add_argument("--nprobe", type=int, nargs="+", default=[8, 32], help="lists of IndexIVFPQ (default: 8 32)")
    flags.add_argument("--repeat", type=int, default=3)
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    if args.data:
        vectors = open_vectors(args.data, limit=args.rows + args.queries).rows[:]
    else:
        vectors = synthetic(args.rows + args.queries)
    rows, queries = vectors[: -args.queries], vectors[-args.queries :]
    train, dim = rows[:_TRAIN_ROWS], rows.shape[1]
    exact = faiss.IndexFlatL2(dim)
    exact.add(rows)
    truth = exact.search(queries, K)[1]
    del exact
    encoder = fitted(train, args.latent_dim, args.refined)
    ours, ours_ivf = CodeIndex(encoder), CodeIndex(encoder, args.nlist)
    pq = faiss.IndexPQ(dim, BYTES, 8)
    ivf = faiss.IndexIVFPQ(faiss.IndexFlatL2(dim), dim, args.nlist, BYTES, 8)
    encoding = {"CodeIndex": seconds(lambda: ours.add(rows))}
    encoding["CodeIndex, lists"] = encoding["CodeIndex"] + seconds(lambda: ours_ivf.add_codes(ours.codes))
    for name, index in {"IndexPQ": pq, "IndexIVFPQ, lists": ivf}.items():
        index.train(train)
        encoding[name] = seconds(lambda index=index: index.add(rows))

    def in_lists(x: np.ndarray, nprobe: int) -> np.ndarray:
        return ours_ivf.search(x, K, nprobe=nprobe)[1]

    def in_faiss_lists(x: np.ndarray, nprobe: int) -> np.ndarray:
        ivf.nprobe = nprobe
        return ivf.search(x, K)[1]

    searches: dict[str, Search] = {
        "CodeIndex": lambda x: ours.search(x, K)[1],
        "IndexPQ": lambda x: pq.search(x, K)[1],
    }
    beside = {"CodeIndex": "IndexPQ"}
    for theirs in args.nprobe:
        # At equal recall: as few lists as it takes.
        wanted = recall(in_faiss_lists(queries, theirs), truth)
        least = least_nprobe(lambda count: in_lists(queries, count), truth, wanted)
        name, other = f"CodeIndex, {least} of {args.nlist} lists", f"IndexIVFPQ, {theirs} of {args.nlist} lists"
        searches[name] = lambda x, least=least: in_lists(x, least)
        searches[other] = lambda x, theirs=theirs: in_faiss_lists(x, theirs)
        beside[name] = other
    sizes = {"CodeIndex": ours.nbytes, "IndexPQ": pq.ntotal * BYTES, "CodeIndex, lists": ours_ivf.nbytes}
    sizes["IndexIVFPQ, lists"] = ivf.ntotal * (BYTES + 8)
    batch = milliseconds({name: lambda one=one: one(queries) for name, one in searches.items()}, args.repeat)
    single = milliseconds({name: lambda one=one: one(queries[:1]) for name, one in searches.items()}, 10 * args.repeat)
    table = []
    for name, search in searches.items():
        other = beside.get(name, name)
        kind = f"{name.split(',')[0]}, lists" if "," in name else name
        table.append(
            {
                "rows": len(rows),
                "index": name,
                "s to encode": encoding[kind],
                "MB": sizes[kind] / 1e6,
                f"ms, {len(queries)} queries": batch[name],
                "times faiss": batch[name] / batch[other],
                "ms, 1 query": single[name],
                "times faiss, 1": single[name] / single[other],
                f"recall@{K}": recall(search(queries), truth),
            }
        )
    report(table, args.json)


if __name__ == "__main__":
    main()

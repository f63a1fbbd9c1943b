"""Time of recall@10 by dploss, faiss and scikit-learn, all by brute force on the same rows.

Each searches twice: among the vectors, and among the latents.
"""

from functools import partial

import faiss
import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from timing import builtin_rows, milliseconds, parser, report

from dploss.evaluation.recall import RecallEvaluator

K = 10


def by_faiss(spaces: list[np.ndarray]) -> float:
    """Recall from IndexFlatL2's neighbours."""
    found = []
    for rows in spaces:
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(rows)
        found.append(index.search(rows, K + 1)[1])
    return shared(found)


def by_sklearn(spaces: list[np.ndarray]) -> float:
    """Recall from NearestNeighbors' neighbours."""
    searches = [NearestNeighbors(n_neighbors=K + 1, algorithm="brute", n_jobs=-1).fit(rows) for rows in spaces]
    return shared(
        [search.kneighbors(rows, return_distance=False) for search, rows in zip(searches, spaces, strict=True)]
    )


def shared(found: list[np.ndarray]) -> float:
    """Share of the neighbours common to both spaces, the row itself excluded."""
    pairs = zip(*(neighbours.tolist() for neighbours in found), strict=True)
    hits = sum(len((set(a) & set(b)) - {i}) for i, (a, b) in enumerate(pairs))
    return hits / (K * len(found[0]))


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, nargs="+", default=[3000, 10000])
    flags.add_argument("--latent-dim", type=int, default=128)
    flags.add_argument("--repeat", type=int, default=3)
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    table = []
    for count in args.rows:
        x = builtin_rows(count).numpy()
        spaces = [x, np.ascontiguousarray(x[:, : args.latent_dim])]
        evaluator = RecallEvaluator(K, num_samples=count)
        methods = {
            "ours": lambda evaluator=evaluator, spaces=spaces: evaluator.evaluate(*spaces).value,
            "faiss": partial(by_faiss, spaces),
            "scikit-learn": partial(by_sklearn, spaces),
        }
        times = milliseconds(methods, args.repeat)
        for name, method in methods.items():
            table.append(
                {
                    "rows": count,
                    "by": name,
                    "ms": times[name],
                    "times ours": times[name] / times["ours"],
                    "recall@10": method(),
                }
            )
    report(table, args.json)


if __name__ == "__main__":
    main()

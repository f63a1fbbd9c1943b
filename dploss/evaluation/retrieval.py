"""Retrieval: how well rankings answer judged queries: nDCG@10, MRR@10 and recall@k of the relevant rows.

The values are those of trec_eval and BEIR (pytrec_eval): the gain of a row is its score, its discount log2(rank + 1).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from dploss.data.qrels import Qrels
from dploss.evaluation.forms import ORIGINAL, Form, searched
from dploss.evaluation.ranking import nearest_rows, order_of
from dploss.evaluation.scores import RERANK_FACTORS
from dploss.evaluation.space import Space

TOP = 10
NDCG, MRR = f"ndcg@{TOP}", f"mrr@{TOP}"


class Relevance:
    """The judged queries, and what a ranking of rows gains for them.

    Args:
        qrels: relevant rows of queries.
        n_rows: N, how many rows there are.

    Attributes:
        queries: (J,) sorted indices of the queries that have a relevant row.
        n_relevant: (J,) how many each has.
        ideal: (J, 10) the gains of the best ranking there is, 0 beyond its relevant rows.
    """

    def __init__(self, qrels: Qrels, n_rows: int) -> None:
        self.queries, query = np.unique(qrels.query, return_inverse=True)
        self.n_rows, self.n_relevant = n_rows, np.bincount(query)
        keys = query * n_rows + qrels.row
        order = np.argsort(keys)
        self._keys, self._gains = keys[order], qrels.gain[order]
        best = np.lexsort((-qrels.gain, query))
        rank = np.arange(len(query)) - (np.cumsum(self.n_relevant) - self.n_relevant)[query[best]]
        top = rank < TOP
        self.ideal = np.zeros((len(self.queries), TOP))
        self.ideal[query[best][top], rank[top]] = qrels.gain[best][top]

    def gains(self, ranking: np.ndarray) -> np.ndarray:
        """(J, k) row indices -> (J, k) their scores, 0 of rows that are not relevant."""
        keys = np.arange(len(ranking))[:, None] * self.n_rows + ranking
        place = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._gains[place], 0.0)

    def measure(self, rankings: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Measure the answers to every query.

        Args:
            rankings: by k, (J, k) row indices; 10 is one k.

        Returns:
            By metric, (J,) values of 0..1.
        """
        top = self.gains(rankings[TOP])
        values = {NDCG: discounted(top) / discounted(self.ideal), MRR: reciprocal_rank(top)}
        for k, ranking in rankings.items():
            values[f"recall@{k}"] = (self.gains(ranking) > 0).sum(axis=1) / self.n_relevant
        return values


def discounted(gains: np.ndarray) -> np.ndarray:
    """(J, k) gains in the order of a ranking -> (J,) their sum, each divided by log2(rank + 1)."""
    return gains @ (1 / np.log2(np.arange(gains.shape[1]) + 2))


def reciprocal_rank(gains: np.ndarray) -> np.ndarray:
    """(J, k) gains in the order of a ranking -> (J,) 1 / rank of the first above 0; 0 where there is none."""
    found = gains > 0
    return found.any(axis=1) / (found.argmax(axis=1) + 1)


def measure_form(
    form: Form, originals: Space, relevance: Relevance, ks: Sequence[int]
) -> dict[str, dict[str, np.ndarray]]:
    """Measure a form, and what is found where the originals re-rank its candidates.

    Args:
        form: of rows and queries; the original itself is not re-ranked.
        originals: of the same rows, and of the judged queries alone.
        relevance: of these queries.
        ks: for recall@k, with 10.

    Returns:
        By name, what `Relevance.measure` returns; of a search x 2, 5 or 10 the k that do not fetch all rows.
    """
    n_rows, cuts = len(form.rows), sorted({TOP, *ks})
    factors = (1,) if form.name == ORIGINAL else (1, *RERANK_FACTORS)
    fetched = min(n_rows, max(k * f for f in factors for k in cuts if f == 1 or k * f < n_rows))
    ranking = nearest_rows(form.space(relevance.queries), fetched)
    found = {form.name: relevance.measure({k: ranking[:, :k] for k in cuts})}
    if form.name == ORIGINAL:
        return found
    order = order_of(originals, ranking)
    for factor in RERANK_FACTORS:
        searches = {k: k * factor for k in cuts if k * factor < n_rows}
        if TOP in searches:
            found[searched(form.name, factor)] = relevance.measure(
                {k: _reranked(ranking, order, n)[:, :k] for k, n in searches.items()}
            )
    return found


def _reranked(ranking: np.ndarray, order: np.ndarray, n: int) -> np.ndarray:
    """(J, n): the first n candidates of each query in their order by the originals."""
    return np.take_along_axis(ranking, order[order < n].reshape(len(order), n), axis=1)

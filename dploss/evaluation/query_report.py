"""Real queries: what they find by each short form of the rows, as plain values and as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dploss.errors import InputError
from dploss.evaluation.forms import ORIGINAL, RERANKED, Form, forms_of, searched, table_name
from dploss.evaluation.paired import Interval, half_width, interval, resampled_means
from dploss.evaluation.query_data import QueryData
from dploss.evaluation.recall import neighbours_kept
from dploss.evaluation.retrieval import Relevance, measure_form
from dploss.evaluation.retrieval_scores import RetrievalScores, retrieval_lines, score_retrieval
from dploss.evaluation.scores import RERANK_FACTORS, recall_columns
from dploss.evaluation.sides import pca_sides
from dploss.evaluation.space import Space
from dploss.experiments.history import PCA as PCA_NAME
from dploss.experiments.history import PCA_RENORMALISED
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA
from dploss.text import aligned, counted, elided, narrow_table, number, wrapped

_NAME_WIDTH = 60


@dataclass(frozen=True)
class QueryReport:
    """What real queries find.

    Attributes:
        data: queries, rows and judgements.
        recall: by form, then by k: the share of each query's k nearest rows by the originals that it finds.
        intervals: their bootstrap 95 % intervals over the queries; empty of a single query.
        retrieval: how well the judged queries are answered, by form; empty without judgements.
        left_out: why a form is not among them, by its name.
    """

    data: QueryData
    recall: dict[str, dict[int, float]]
    intervals: dict[str, dict[int, Interval]]
    retrieval: dict[str, RetrievalScores]
    left_out: dict[str, str]

    @property
    def n_judged(self) -> int:
        """How many queries have a relevant row."""
        return 0 if self.data.qrels is None else len(np.unique(self.data.qrels.query))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: `queries`, and with judgements `retrieval`."""
        data = self.data
        queries = {
            "source": data.source,
            "count": len(data.queries),
            "held_out": data.held_out,
            "training_queries_left_out": data.training_queries_left_out,
            "bad_queries_left_out": data.bad_queries_left_out,
            "database": data.database,
            "database_rows": len(data.rows),
            "training_rows_among_them": data.training_rows,
            "training_rows_left_out": data.training_rows_left_out,
            "bad_rows_left_out": data.bad_rows_left_out,
            "left_out": self.left_out,
            "recall": self.recall,
            "intervals": self.intervals,
        }
        if data.qrels is None:
            return {"queries": queries}
        queries |= {
            "qrels": data.qrels_source,
            "judged": self.n_judged,
            "without_relevant_rows": len(data.queries) - self.n_judged,
            "judgements_left_out": data.qrels.unused,
        }
        return {"queries": queries, "retrieval": {name: one.as_dict() for name, one in self.retrieval.items()}}

    def lines(self) -> list[str]:
        """The report for a person."""
        return [
            "",
            *aligned(self._facts()),
            *(line for one in self.left_out.items() for line in wrapped(f"left out: {', '.join(one)}", indent=2)),
            "",
            "of each query's k nearest rows by the originals, found:",
            *self._recall_lines(),
            *retrieval_lines(self.retrieval, self.n_judged),
        ]

    def _facts(self) -> dict[str, str]:
        data = self.data
        kinds = ("held-out query", "held-out queries") if data.held_out else ("query", "queries")
        facts = {
            "real queries": f"{counted(len(data.queries), *kinds)} of {elided(data.source, _NAME_WIDTH)}",
            "searched": f"{counted(len(data.rows), 'row')} of {elided(data.database, _NAME_WIDTH)}",
        }
        rows = "whether training rows are among them could not be checked"
        if data.training_rows is not None:
            rows = f"{data.training_rows:,} of them, for they are stored, too" if data.training_rows else ""
        if data.training_rows_left_out:
            rows = f"{data.training_rows_left_out:,} more, not searched"
        trained = "whether training queries are among them could not be checked"
        if data.training_queries_left_out is not None:
            trained = f"{data.training_queries_left_out:,} more, left out" if data.training_queries_left_out else ""
        said = {
            "training rows": rows,
            "bad rows": data.bad_rows,
            "training queries": trained,
            "bad queries": data.bad_queries,
            "qrels": self._judged(),
        }
        return facts | {name: line for name, line in said.items() if line}

    def _judged(self) -> str:
        qrels = self.data.qrels
        if qrels is None:
            return ""
        without = len(self.data.queries) - self.n_judged
        unused = f"; {counted(qrels.unused, 'judgement')} of what is left out" if qrels.unused else ""
        return f"{counted(self.n_judged, 'query has', 'queries have')} relevant rows, {without:,} none{unused}"

    def _recall_lines(self) -> list[str]:
        ks = list(next(iter(self.recall.values())))
        rows = []
        for name, by_k in self.recall.items():
            rows.append([table_name(name), *(number(by_k.get(k), ".4f") for k in ks)])
            if RERANKED not in name and self.intervals:
                rows.append(["  95 % interval", *(half_width(self.intervals[name][k]) for k in ks)])
        return narrow_table(["", *recall_columns(ks)], rows)


def evaluate_queries(
    encoders: Mapping[str, DPEncoder | ConvAutoencoder], data: QueryData, ks: Sequence[int]
) -> QueryReport:
    """Search rows by real queries, in every short form.

    Args:
        encoders: by name, the encoder, and its start.
        data: rows, queries and judgements; PCA is fitted to the training rows.
        ks: neighbours to look for; those of all rows or more are left out.

    Raises:
        InputError: too few rows for every k.
    """
    n_rows, fitting = len(data.rows), sorted({k for k in ks if k < len(data.rows)})
    if not fitting:
        few = counted(n_rows, "row is", "rows are")
        raise InputError(f"{data.database}: {few} too few for that many neighbours")
    encoder, baselines, left_out = next(iter(encoders.values())), {}, {}
    if data.train_rows is None:
        left_out = dict.fromkeys((PCA_RENORMALISED, PCA_NAME), f"fitted on the training rows: {data.missing}")
    else:
        pca = PCA.fit(data.train_rows, encoder.latent_dim)
        baselines = {
            name: pca_sides(pca, data.metric, renormalised)
            for name, renormalised in ((PCA_RENORMALISED, True), (PCA_NAME, False))
        }
    original = Form(ORIGINAL, data.rows, data.queries, data.metric)
    originals, shares = original.space(), dict[str, dict[int, np.ndarray]]()
    measured: dict[str, dict[str, np.ndarray]] = {}
    if data.qrels is not None:
        relevance = Relevance(data.qrels, n_rows)
        judged = originals if len(relevance.queries) == len(data.queries) else original.space(relevance.queries)
        measured |= measure_form(original, judged, relevance, fitting)
    for form in forms_of(encoders, baselines, data.rows, data.queries):
        shares |= neighbour_shares(form, originals, fitting)
        if data.qrels is not None:
            measured |= measure_form(form, judged, relevance, fitting)
    return QueryReport(
        data,
        {name: {k: float(share.mean()) for k, share in by_k.items()} for name, by_k in shares.items()},
        _intervals(shares) if len(data.queries) > 1 else {},
        score_retrieval(measured) if measured else {},
        left_out,
    )


def neighbour_shares(form: Form, originals: Space, ks: Sequence[int]) -> dict[str, dict[int, np.ndarray]]:
    """Which share of its k nearest rows by the originals each query finds, also where these re-rank candidates.

    Args:
        form: of the same rows and queries.
        originals: of these.
        ks: each below N; of a search x 2, 5 or 10 those that do not fetch all rows.

    Returns:
        By name and k, (Q,) shares.
    """
    factors = [(f, k) for f in (1, *RERANK_FACTORS) for k in ks if k * f < len(form.rows)]
    kept = neighbours_kept(originals, form.space(), [(k, k * f) for f, k in factors])
    shares: dict[str, dict[int, np.ndarray]] = {}
    for (factor, k), found in zip(factors, kept, strict=True):
        shares.setdefault(searched(form.name, factor), {})[k] = found / k
    return shares


def _intervals(shares: Mapping[str, Mapping[int, np.ndarray]]) -> dict[str, dict[int, Interval]]:
    values = np.array([share for by_k in shares.values() for share in by_k.values()])
    means = iter(resampled_means(values).T)
    return {name: {k: interval(next(means)) for k in by_k} for name, by_k in shares.items()}

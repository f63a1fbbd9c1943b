"""Scores of retrieval: what forms keep of the original's answers to judged queries, as plain values and as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dploss.evaluation.forms import ORIGINAL, RERANKED, table_name
from dploss.evaluation.paired import FEWEST, Interval, Share, half_width, interval, resampled_means, sign_flip_p
from dploss.evaluation.retrieval import MRR, NDCG, TOP
from dploss.evaluation.scores import recall_columns
from dploss.text import counted, narrow_table, number, wrapped

_TITLES = {NDCG: f"nDCG@{TOP}", MRR: f"MRR@{TOP}"}


@dataclass(frozen=True)
class RetrievalScores:
    """How well a form answers the judged queries.

    Attributes:
        values: means over the queries, by metric.
        intervals: their bootstrap 95 % intervals; empty of a single query.
        differences: of the means, less the original's; empty of the original.
        difference_intervals: by metric.
        p_value: of the difference in nDCG@10; None of the original.
        share: of the original's nDCG@10; None of the original.
    """

    values: dict[str, float]
    intervals: dict[str, Interval]
    differences: dict[str, float]
    difference_intervals: dict[str, Interval]
    p_value: float | None
    share: Share | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: each metric under its own name, beside them what is said of them."""
        share = self.share
        return {
            **self.values,
            "intervals": self.intervals,
            "difference": {
                name: {"value": value, "interval": self.difference_intervals.get(name)}
                for name, value in self.differences.items()
            },
            "p_value": self.p_value,
            "share": None if share is None else share.value,
            "share_interval": None if share is None else share.interval,
            "keeps_99_percent": None if share is None else share.verdict(),
        }


def score_retrieval(measured: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, RetrievalScores]:
    """Compare forms with the original.

    Args:
        measured: by form and metric, (J,) values of the same queries; the original is one form.
    """
    places = [(form, metric) for form, values in measured.items() for metric in values]
    values = np.array([measured[form][metric] for form, metric in places])
    resampled = dict(zip(places, resampled_means(values).T, strict=True))
    original, several = measured[ORIGINAL], values.shape[1] > 1
    scores = {}
    for form, found in measured.items():
        means = {metric: float(each.mean()) for metric, each in found.items()}
        intervals = {metric: interval(resampled[form, metric]) for metric in found if several}
        if form == ORIGINAL:
            scores[form] = RetrievalScores(means, intervals, {}, {}, None, None)
            continue
        scores[form] = RetrievalScores(
            means,
            intervals,
            {metric: float((each - original[metric]).mean()) for metric, each in found.items()},
            {metric: interval(resampled[form, metric] - resampled[ORIGINAL, metric]) for metric in found if several},
            sign_flip_p(found[NDCG] - original[NDCG]),
            Share.of(original[NDCG], resampled[ORIGINAL, NDCG], means[NDCG], resampled[form, NDCG]),
        )
    return scores


def retrieval_lines(scores: Mapping[str, RetrievalScores], n_queries: int) -> list[str]:
    """The scores for a person; no lines where there are none.

    Args:
        scores: by form, the original's among them.
        n_queries: how many are judged.
    """
    if not scores:
        return []
    metrics, found, kept = list(scores[ORIGINAL].values), [], []
    recalls = recall_columns([int(metric.removeprefix("recall@")) for metric in metrics if metric not in _TITLES])
    for name, form in scores.items():
        found.append([table_name(name), *(number(form.values.get(metric), ".4f") for metric in metrics)])
        if RERANKED not in name and form.intervals:
            found.append(["  95 % interval", *(half_width(form.intervals[metric]) for metric in metrics)])
        if form.differences and RERANKED not in name:
            found.append(["  less the original", *(f"{form.differences[metric]:+.4f}" for metric in metrics)])
        if form.share is not None:
            kept.append([table_name(name), number(form.p_value, ".4f"), *form.share.cells(), form.share.verdict()])
    return [
        "",
        "how well relevant rows are found:",
        *narrow_table(["", *_TITLES.values(), *recalls], found),
        "",
        f"p-value of the difference in {_TITLES[NDCG]}, and the share that is kept of it:",
        *narrow_table(["", "p", "kept", "95 % interval", "keeps 99 %"], kept),
        *wrapped(_meaning(scores[ORIGINAL].values[NDCG], n_queries)),
    ]


def _meaning(original: float, n_queries: int) -> str:
    """What "keeps 99 %" says with these queries."""
    if original == 0:
        return f"The original's {_TITLES[NDCG]} is 0: there is nothing of which a share could be kept."
    queries = counted(n_queries, "query", "queries")
    rule = f"keeps 99 % of {_TITLES[NDCG]}: yes where the whole interval is at 99 % or above, no where it is below; "
    if n_queries >= FEWEST:
        return f"{rule}between them it is not shown with {queries}"
    return f"{rule}with {queries} it is never shown: of fewer than {FEWEST}, none may be the one in 100 that is lost"

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from dploss.data.qrels import Qrels
from dploss.evaluation.forms import Form
from dploss.evaluation.paired import FEWEST, Share, interval, resampled_means, sign_flip_p
from dploss.evaluation.ranking import nearest_rows, order_of
from dploss.evaluation.retrieval import Relevance, discounted, measure_form, reciprocal_rank
from dploss.evaluation.retrieval_scores import retrieval_lines, score_retrieval
from dploss.evaluation.space import Space

METRICS = st.sampled_from(["euclidean", "ip"])


def distance(metric, query, row):
    query, row = (np.asarray(one, np.float64) for one in (query, row))
    return -float(query @ row) if metric == "ip" else float(((query - row) ** 2).sum())


def ranked(metric, query, rows, candidates=None):
    """The indices of rows, or of some, nearest first: a plain loop in float64."""
    candidates = range(len(rows)) if candidates is None else candidates
    return [index for _, index in sorted((distance(metric, query, rows[index]), index) for index in candidates)]


def space_of(metric, rows, queries):
    return Space("rows", torch.from_numpy(rows), torch.from_numpy(queries), metric, are_rows=False)


def metrics_of(ranking, relevant, k):
    """nDCG@10, MRR@10 and recall@k of one query: its ranked rows, and its relevant rows' gains."""
    gains = [relevant.get(row, 0) for row in ranking]
    dcg = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:10], start=1))
    ideal = sorted(relevant.values(), reverse=True)[:10]
    best = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(ideal, start=1))
    first = next((1 / rank for rank, gain in enumerate(gains[:10], start=1) if gain > 0), 0)
    return dcg / best, first, sum(gain > 0 for gain in gains[:k]) / len(relevant)


def random_qrels(random, n_queries, n_rows):
    query, row = np.nonzero(random.random((n_queries, n_rows)) < 0.2)
    return Qrels(query, row, random.integers(1, 4, size=len(query)).astype(float), 0)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    metric=METRICS,
    offset=st.sampled_from([0.0, 1e4]),
    copies=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_rankings_are_those_of_a_loop_and_ties_go_to_the_lower_row(seed, metric, offset, copies, dtype):
    random = np.random.default_rng(seed)
    n_rows, n_queries = random.integers(2, 40), random.integers(1, 6)
    values = random.integers(-1, 2, size=(n_rows, 3)) if copies else random.normal(size=(n_rows, 3))
    rows = (values + offset).astype(dtype)
    queries = (random.integers(-1, 2, size=(n_queries, 3)) + offset).astype(dtype)
    space, n = space_of(metric, rows, queries), int(random.integers(1, n_rows + 1))
    assert nearest_rows(space, n).tolist() == [ranked(metric, query, rows)[:n] for query in queries]
    candidates = np.array([random.permutation(n_rows)[:n] for _ in queries])
    ordered = np.take_along_axis(candidates, order_of(space, candidates), axis=1)
    expected = [ranked(metric, query, rows, some) for query, some in zip(queries, candidates.tolist(), strict=True)]
    assert ordered.tolist() == expected


def test_copies_of_a_row_do_not_part_in_many_dimensions(builtin):
    rows = np.repeat(builtin[:30], 9, axis=0)[np.random.default_rng(0).permutation(270)]
    queries = builtin[300:340]
    found = nearest_rows(space_of("euclidean", rows, queries), 50)
    assert found.tolist() == [ranked("euclidean", query, rows)[:50] for query in queries]


def test_the_published_examples():
    # https://en.wikipedia.org/wiki/Discounted_cumulative_gain: six rows found, of eight that are relevant.
    found, ideal = np.array([[3, 2, 3, 0, 1, 2]]), np.array([[3, 3, 3, 2, 2, 2]])
    assert discounted(found)[0] == pytest.approx(6.861, abs=5e-4)
    assert discounted(ideal)[0] == pytest.approx(8.740, abs=5e-4)
    assert discounted(found)[0] / discounted(ideal)[0] == pytest.approx(0.785, abs=5e-4)
    # https://en.wikipedia.org/wiki/Mean_reciprocal_rank: the third, the second and the first answer.
    assert reciprocal_rank(np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]])).mean() == pytest.approx(11 / 18)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), n_rows=st.integers(12, 60))
def test_metrics_are_those_of_a_loop_and_of_scikit_learn(seed, n_rows):
    random = np.random.default_rng(seed)
    qrels = random_qrels(random, 7, n_rows)
    if not len(qrels.query):
        return
    relevance = Relevance(qrels, n_rows)
    scores = random.permuted(np.tile(np.arange(n_rows), (len(relevance.queries), 1)), axis=1)
    ranking = np.argsort(-scores, axis=1)
    measured = relevance.measure({k: ranking[:, :k] for k in (3, 10)})
    true = np.zeros((7, n_rows))
    true[qrels.query, qrels.row] = qrels.gain
    for place, query in enumerate(relevance.queries):
        relevant = {row: gain for row, gain in enumerate(true[query].tolist()) if gain}
        ndcg, mrr, recall = metrics_of(ranking[place].tolist(), relevant, 3)
        found = {name: values[place] for name, values in measured.items()}
        assert found["ndcg@10"] == pytest.approx(ndcg) and found["mrr@10"] == mrr and found["recall@3"] == recall
        assert found["ndcg@10"] == pytest.approx(ndcg_score(true[[query]], scores[[place]], k=10))


@settings(max_examples=6)
@given(seed=st.integers(0, 2**31), metric=METRICS)
def test_candidates_are_reranked_by_the_originals(seed, metric):
    random = np.random.default_rng(seed)
    rows, queries = (random.normal(size=(count, 6)).astype(np.float32) for count in (130, 4))
    original, short = Form("original", rows, queries, metric), Form("short", rows[:, :2], queries[:, :2], "euclidean")
    qrels = random_qrels(random, 4, 130)
    relevance = Relevance(qrels, 130)
    found = measure_form(short, original.space(relevance.queries), relevance, [3])
    assert list(found) == ["short", *(f"short, re-ranked x {factor}" for factor in (2, 5, 10))]
    for place, query in enumerate(relevance.queries):
        of_it = qrels.query == query
        relevant = dict(zip(qrels.row[of_it].tolist(), qrels.gain[of_it].tolist(), strict=True))
        by_short = ranked("euclidean", queries[query, :2], rows[:, :2])
        for factor, name in zip((1, 2, 5, 10), found, strict=True):
            by_k = {k: by_short[: k * factor] for k in (3, 10)}
            if factor > 1:
                by_k = {k: ranked(metric, queries[query], rows, some) for k, some in by_k.items()}
            ndcg, mrr, _ = metrics_of(by_k[10][:10], relevant, 10)
            assert found[name]["ndcg@10"][place] == pytest.approx(ndcg) and found[name]["mrr@10"][place] == mrr
            assert found[name]["recall@3"][place] == metrics_of(by_k[3][:3], relevant, 3)[2]


def test_a_search_that_would_rerank_all_rows_is_left_out():
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)
    form = Form("short", rows, rows[:2] + 0.1, "euclidean")
    relevance = Relevance(Qrels(np.array([1]), np.array([11]), np.array([2.0]), 0), 12)
    assert list(measure_form(form, form.space(np.array([1])), relevance, [1])) == ["short"]


def test_few_rows_are_ranked_all():
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    form = Form("original", rows, rows[:1] + 0.1, "euclidean")
    relevance = Relevance(Qrels(np.array([0, 0]), np.array([0, 2]), np.array([1.0, 1.0]), 0), 4)
    found = measure_form(form, form.space(), relevance, [1])["original"]
    expected = metrics_of([0, 1, 2, 3], {0: 1.0, 2: 1.0}, 10)
    assert (found["ndcg@10"][0], found["mrr@10"][0], found["recall@10"][0]) == pytest.approx(expected)


def test_the_bootstrap_agrees_with_the_standard_error():
    values = np.random.default_rng(0).random((2, 800))
    low, high = interval(resampled_means(values)[:, 1])
    error = values[1].std() / 800**0.5
    assert (low, high) == pytest.approx((values[1].mean() - 1.96 * error, values[1].mean() + 1.96 * error), abs=2e-3)


def test_the_test_flips_all_signs():
    differences = np.array([0.5, -0.1, 0.3, 0.2, 0.0, 0.4, 0.25])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=7)]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    assert sign_flip_p(differences) == pytest.approx(exact, abs=0.01)
    assert sign_flip_p(np.zeros(5)) == 1 and sign_flip_p(np.full(40, 0.1)) < 1e-3


def retrieval(original, other):
    return score_retrieval(
        {"original": {"ndcg@10": original, "mrr@10": original}, "short": {"ndcg@10": other, "mrr@10": other}}
    )


def test_99_percent_are_said_to_be_kept_only_where_the_interval_says_so():
    random = np.random.default_rng(0)
    original = random.random(2000)
    assert retrieval(original, 0.999 * original)["short"].share.verdict() == "yes"
    assert retrieval(original, 0.9 * original)["short"].share.verdict() == "no"
    lost = np.where(random.random(2000) < 0.01, 0, original)
    scores = retrieval(original, lost)
    share = scores["short"].share
    assert share.value == pytest.approx(lost.mean() / original.mean())
    assert share.interval[0] < 0.99 < share.interval[1] and share.verdict() == "not shown"
    assert "not shown with 2,000 queries" in " ".join(retrieval_lines(scores, 2000))
    low, high = scores["short"].difference_intervals["ndcg@10"]
    assert low < scores["short"].differences["ndcg@10"] < high < 0
    assert scores["original"].as_dict()["share"] is None


def test_few_queries_show_nothing_and_no_share_is_kept_of_nothing():
    some = np.full(FEWEST, 0.5)
    assert retrieval(some, some)["short"].share.verdict() == "yes"
    assert retrieval(some[1:], some[1:])["short"].share.verdict() == "not shown"
    one = retrieval(some[:1], some[:1])["short"]
    assert one.share == Share(1.0, None, 1) and one.intervals == {} and one.p_value == 1
    nothing = retrieval(np.zeros(400), np.full(400, 0.5))["short"]
    assert nothing.share == Share(None, None, 400) and nothing.share.verdict() == "not shown"
    assert retrieval(np.eye(3)[0], np.eye(3)[0])["short"].share == Share(1.0, None, 3)
    assert "original's nDCG@10 is 0" in " ".join(retrieval_lines(retrieval(np.zeros(9), np.zeros(9)), 9))

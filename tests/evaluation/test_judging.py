import math

import numpy as np
import pytest
import references
from scipy.stats import rankdata

from dploss.evaluation.recall import RecallEvaluator
from dploss.evaluation.scores import rows_per_second, score


def test_recalls_are_the_evaluators(builtin):
    latent = builtin[:, :32]
    found = score(builtin, latent, [1, 5, 10, 50])
    assert found.recall == {k: RecallEvaluator(k).evaluate(builtin, latent).value for k in (1, 5, 10, 50)}
    for k in (1, 5, 10, 50):
        values = [found.recall[k], *(found.reranked[factor][k] for factor in (2, 5, 10))]
        assert values == sorted(values)


def test_what_would_fetch_every_row_is_left_out(builtin):
    found = score(builtin[:40], builtin[:40, :4], [1, 5, 10])
    assert found.reranked.keys() == {2, 5, 10}
    assert {factor: list(values) for factor, values in found.reranked.items()} == {
        2: [1, 5, 10],
        5: [1, 5],
        10: [1],
    }


def test_distances_against_plain_loops():
    random = np.random.default_rng(0)
    original, latent = random.normal(size=(30, 5)), random.normal(size=(30, 2))
    original[3] = original[4]
    d_x, d_z = references.distances(original), references.distances(latent)
    pairs = [(d_x[i, j], d_z[i, j]) for i in range(30) for j in range(i + 1, 30)]
    changes = [abs(after - before) / before for before, after in pairs if before > 0]
    ranks = np.array([rankdata(side) for side in zip(*pairs, strict=True)])
    found = score(original, latent, [1])
    assert found.distortion == pytest.approx(sum(changes) / len(changes))
    assert found.spearman == pytest.approx(np.corrcoef(ranks)[0, 1])


def test_the_same_rows_keep_everything(builtin):
    found = score(builtin, builtin, [5])
    assert (found.recall[5], found.distortion) == (1, 0)
    assert found.spearman == pytest.approx(1)
    doubled = score(builtin, 2 * builtin, [5])
    assert doubled.distortion == pytest.approx(1) and doubled.spearman == pytest.approx(1)


def test_rows_that_are_all_equal_have_no_order():
    found = score(np.ones((10, 3)), np.ones((10, 2)), [1])
    assert found.distortion == 0 and math.isnan(found.spearman)


def test_speed_is_measured(builtin, monkeypatch):
    monkeypatch.setattr("dploss.evaluation.scores.TIMED_SECONDS", 0.01)
    calls = []
    assert rows_per_second(lambda rows: calls.append(len(rows)), builtin) > 0
    assert len(calls) > 1 and set(calls) == {600}

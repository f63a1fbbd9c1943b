import faiss
import numpy as np
import pytest
import references
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from dploss.evaluation.held_out import HeldOut
from dploss.evaluation.recall import RecallEvaluator
from dploss.evaluation.sides import OneSide
from metrics.resampling import jackknife_error


@given(seed=st.integers(0, 2**31), rows=st.integers(4, 25), k=st.integers(1, 3), levels=st.integers(1, 4))
def test_it_equals_the_plain_loop_with_ties_and_duplicates(seed, rows, k, levels):
    # Whole numbers: distances are exact, so ties are ties. Latents are tie-free, or the k nearest are not defined.
    random = np.random.default_rng(seed)
    original = random.integers(0, levels + 1, size=(rows, 3)).astype(np.float32)
    latent = random.normal(size=(rows, 2))
    got = RecallEvaluator(k).evaluate(original, latent)
    assert got.value == pytest.approx(references.recall(original, latent, k))
    assert (got.k, got.rows) == (k, rows)


def test_the_standard_error_is_that_of_the_rows(builtin):
    held_out = HeldOut(builtin, np.arange(100, 160), 5, (), seed=0)
    kept = held_out.evaluator.neighbours_kept(builtin[100:160], builtin[100:160, :32], [(5, 5)])[0] / 5
    cut = OneSide(lambda rows, dim: rows[:, : dim or 32])
    values = held_out.jackknife(cut)
    error = jackknife_error(np.array(values))
    assert error == pytest.approx(kept.std(ddof=1) / 60**0.5, rel=0.5)
    assert np.mean(values) == pytest.approx(kept.mean())
    assert held_out.recall(cut).value == pytest.approx(kept.mean())
    # Of the mean over sizes, which all keep about the same rows: nearly as large.
    nested = HeldOut(builtin, np.arange(100, 160), 5, (32, 64), seed=0)
    assert 0.5 * error < jackknife_error(np.array(nested.jackknife(cut))) < 1.2 * error


@pytest.mark.parametrize("k", [1, 5, 20])
def test_it_agrees_with_faiss_and_scikit_learn_on_real_rows(builtin, k):
    latent = np.ascontiguousarray(builtin[:, :64])
    got = RecallEvaluator(k).evaluate(builtin, latent).value

    index = faiss.IndexFlatL2(768), faiss.IndexFlatL2(64)
    for searched, rows in zip(index, (builtin, latent), strict=True):
        searched.add(np.ascontiguousarray(rows))
    near = [
        searched.search(np.ascontiguousarray(rows), k + 1)[1]
        for searched, rows in zip(index, (builtin, latent), strict=True)
    ]
    assert got == pytest.approx(overlap(*near, k), abs=1e-3)

    near = [NearestNeighbors(n_neighbors=k).fit(rows).kneighbors(return_distance=False) for rows in (builtin, latent)]
    assert got == pytest.approx(overlap(*near, k), abs=1e-3)


@given(seed=st.integers(0, 2**31), rows=st.integers(8, 25), levels=st.integers(1, 4))
def test_reranked_it_equals_the_plain_loop(seed, rows, levels):
    random = np.random.default_rng(seed)
    original = random.integers(0, levels + 1, size=(rows, 3)).astype(np.float32)
    latent = random.normal(size=(rows, 2))
    searches = [(1, 1), (2, 4), (1, 5), (3, 7), (3, 3)]
    got = RecallEvaluator(1).evaluate_reranked(original, latent, searches)
    assert [(one.k, one.rows) for one in got] == [(k, rows) for k, _ in searches]
    assert [one.value for one in got] == pytest.approx(
        [references.recall(original, latent, k, candidates) for k, candidates in searches]
    )


def test_more_candidates_never_lose_and_all_of_them_find_everything(builtin):
    searches = [(5, fetched) for fetched in (5, 10, 25, 50, 599)]
    values = [one.value for one in RecallEvaluator(5).evaluate_reranked(builtin, builtin[:, :32], searches)]
    assert values == sorted(values) and values[0] < values[1] and values[-1] == 1
    assert values[0] == RecallEvaluator(5).evaluate(builtin, builtin[:, :32]).value


@pytest.mark.parametrize("search", [(0, 3), (4, 3), (2, 600)])
def test_searches_out_of_range_are_named(builtin, search):
    with pytest.raises(ValueError, match="k must be at least 1|a search needs|more rows than the 600 to fetch"):
        RecallEvaluator(5).evaluate_reranked(builtin, builtin, [search])


def overlap(originals, latents, k):
    pairs = [
        (set(a) - {i}, [j for j in b if j != i][:k]) for i, (a, b) in enumerate(zip(originals, latents, strict=True))
    ]
    return sum(len(a.intersection(b)) for a, b in pairs) / (k * len(pairs))


def test_duplicates_cost_nothing(builtin):
    doubled = np.repeat(builtin[:200], 3, axis=0)
    assert RecallEvaluator(2).evaluate(doubled, doubled).value == 1
    assert RecallEvaluator(2).evaluate(doubled, doubled + np.float32(7)).value == 1


def test_a_row_is_not_its_own_neighbour():
    original = np.array([[0.0], [1.0], [10.0], [11.0]])
    swapped = np.array([[0.0], [10.0], [1.0], [11.0]])
    assert RecallEvaluator(1).evaluate(original, original).value == 1
    assert RecallEvaluator(1).evaluate(original, swapped).value == 0


def test_chunks_make_no_difference(builtin, monkeypatch):
    whole = RecallEvaluator(5).evaluate(builtin, builtin[:, :32])
    monkeypatch.setattr("dploss.evaluation.space.CHUNK", 7 * 600)
    assert RecallEvaluator(5).evaluate(builtin, builtin[:, :32]) == whole


def test_many_rows_are_sampled_the_same_way_each_time(builtin):
    evaluator = RecallEvaluator(5, num_samples=100, seed=3)
    first = evaluator.evaluate(builtin, builtin[:, :32])
    assert first.rows == 100
    assert evaluator.evaluate(builtin, builtin[:, :32]) == first
    sampled = evaluator.sample(600)
    assert RecallEvaluator(5).evaluate(builtin[sampled], builtin[sampled, :32]).value == first.value


def test_a_common_offset_changes_nothing(builtin):
    plain = RecallEvaluator(5).evaluate(builtin, builtin[:, :32]).value
    moved = RecallEvaluator(5).evaluate(torch.from_numpy(builtin) + 100, builtin[:, :32]).value
    assert moved == pytest.approx(plain, abs=0.01)


def test_it_prints_with_k_and_rows(builtin):
    assert str(RecallEvaluator(5).evaluate(builtin, builtin)) == "recall@5 1.0000 on 600 rows"


@pytest.mark.parametrize(
    ("original", "latent", "message"),
    [
        (np.zeros((5, 2)), np.zeros((4, 2)), "same rows, got 5 and 4"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "more rows than the 3 to fetch, got 3"),
        (np.zeros(5), np.zeros((5, 2)), "original must be a matrix"),
        (np.zeros((5, 2)), np.full((5, 2), np.nan), "latent must be finite"),
    ],
)
def test_bad_rows_are_named(original, latent, message):
    with pytest.raises(ValueError, match=message):
        RecallEvaluator(3).evaluate(original, latent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"k": 0}, "k must be at least 1, got 0"), ({"num_samples": 5}, "num_samples .* got 5")],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        RecallEvaluator(**settings)


@pytest.mark.parametrize("unit", [1e-40, 1e-25, 1e-15, 1e15, 1e25, 1e36])
def test_units_change_nothing(builtin, unit):
    rows, latents = builtin, builtin[:, :32]
    evaluator = RecallEvaluator(5)
    plain = evaluator.evaluate(rows, latents).value
    scaled = rows * np.float32(unit)
    assert evaluator.evaluate(scaled, latents * np.float32(unit)).value == pytest.approx(plain, abs=1e-3)
    noise = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    assert evaluator.evaluate(scaled, noise * np.float32(unit)).value < 0.05


@pytest.mark.parametrize("power", [-120, -83, 83, 120])
def test_a_power_of_two_as_the_unit_changes_no_bit(builtin, power):
    unit = np.float32(2.0**power)
    plain = RecallEvaluator(5).evaluate_reranked(builtin, builtin[:, :32], [(1, 1), (5, 20)])
    assert RecallEvaluator(5).evaluate_reranked(builtin * unit, builtin[:, :32] * unit, [(1, 1), (5, 20)]) == plain


@pytest.mark.parametrize("length", [1e3, 1e5, 1e10])
def test_a_row_far_away_costs_the_others_no_digits(builtin, length):
    rows = builtin[:150].copy()
    rows[17] *= np.float32(length)
    latents = np.ascontiguousarray(rows[:, :32])
    for k in (1, 5):
        got = RecallEvaluator(k).evaluate(rows, latents).value
        assert got == pytest.approx(references.recall(rows, latents, k), abs=1e-3)


def test_rows_in_two_distant_places_are_told_apart():
    random = np.random.default_rng(0)
    rows = random.normal(size=(120, 16)).astype(np.float32)
    rows[:60, 0] += np.float32(1e4)
    latents = np.ascontiguousarray(rows[:, :8])
    assert RecallEvaluator(3).evaluate(rows, latents).value == pytest.approx(references.recall(rows, latents, 3))


def test_the_standard_error_is_that_of_the_mean_over_the_queries(builtin):
    rows, latents, k = builtin[:150], builtin[:150, :24], 7
    found = RecallEvaluator(k).evaluate(rows, latents)

    def nearest(points):
        distances = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=-1)
        np.fill_diagonal(distances, np.inf)
        return [set(order[:k]) for order in distances.argsort(axis=1)]

    shares = np.array([len(one & other) / k for one, other in zip(nearest(rows), nearest(latents), strict=True)])
    without_one = np.array([np.delete(shares, row).mean() for row in range(150)])
    assert found.value == pytest.approx(shares.mean())
    # Tukey's jackknife: one row left out at a time.
    assert found.standard_error == pytest.approx(jackknife_error(without_one))

"""What is said of new rows: figures, what sampling makes of them, and the verdict."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from dploss.data import open_vectors
from dploss.evaluation.moves import Move, moves
from dploss.evaluation.verdict import NOTABLE, RETRAIN_CODE, Drift, Gain
from dploss.models.pca import PCA

DIM, N = 6, 300


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Built-in rows of 48 dimensions and norms other than 1, in random order."""
    return np.random.default_rng(0).permutation(open_vectors(limit=4000).rows[:, :48])


@pytest.fixture(scope="module")
def pca(rows) -> PCA:
    return PCA.fit(rows[:2000], DIM)


def distance(row, other):
    return sum((float(a) - float(b)) ** 2 for a, b in zip(row, other, strict=True)) ** 0.5


def test_figures_agree_with_plain_loops(rows, pca):
    samples = rows[2000 : 2000 + N], 1.5 * rows[3000 : 3000 + N]
    found = moves(*samples, pca)
    for place, sample in enumerate(samples):
        norms = [distance(row, np.zeros(48)) for row in sample]
        distances = [distance(row, pca.mean) for row in sample]
        lost = held = 0.0
        for row in sample.astype(np.float64) - pca.mean:
            along = sum(float(row @ direction) ** 2 for direction in pca.components.astype(np.float64))
            held, lost = held + along, lost + float(row @ row) - along
        covariance = np.cov(sample.astype(np.float64), rowvar=False, bias=True)
        own = np.sort(np.linalg.eigvals(covariance).real)[-DIM:].sum()
        shared = np.trace(pca.components @ covariance @ pca.components.T)
        expected = {
            "norm_average": np.mean(norms),
            "norm_spread": np.std(norms),
            "distance_from_mean_average": np.mean(distances),
            "distance_from_mean_spread": np.std(distances),
            "variance_lost": lost / (lost + held),
            "avoidable_loss": (own - shared) / np.trace(covariance),
        }
        for name, value in expected.items():
            got = (found[name].held_out, found[name].new)[place]
            assert got == pytest.approx(value, rel=2e-3), name
    norms = [np.linalg.norm(sample, axis=1) for sample in samples]
    assert found["norm_ks"].new == pytest.approx(ks_2samp(*norms).statistic, abs=0.01)
    means = [sample.mean(axis=0, dtype=np.float64) for sample in samples]
    deviation = np.sqrt(samples[0].astype(np.float64).var(axis=0).sum())
    assert found["distance_of_means"].new == pytest.approx(distance(*means) / deviation, rel=1e-4)
    assert found["norm_ks"].held_out is None and found["distance_of_means"].held_out is None


def test_rows_of_one_distribution_move_no_more_than_sampling(rows, pca):
    moved = 0
    for seed in range(8):
        drawn = np.random.default_rng(seed).permutation(rows[2000:])
        moved += sum(one.moved for one in moves(drawn[:N], drawn[N : 2 * N], pca).values())
    # Of 72 comparisons at three standard deviations.
    assert moved <= 3


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda new: 1.2 * new, {"norm_average", "norm_ks", "distance_from_mean_average"}),
        (lambda new: new + 0.05, {"distance_of_means", "norm_average"}),
        (lambda new: new @ np.linalg.qr(np.random.default_rng(0).normal(size=(48, 48)))[0], {"avoidable_loss"}),
        (lambda new: new * np.linspace(0.5, 1.5, N)[:, None], {"norm_spread", "norm_ks", "distance_from_mean_spread"}),
        (lambda new: new + np.random.default_rng(0).normal(0, 0.05, new.shape), {"variance_lost"}),
    ],
    ids=["longer", "elsewhere", "rotated", "uneven", "noise"],
)
def test_what_moved_is_named(rows, pca, change, names):
    found = moves(rows[2000 : 2000 + N], change(rows[3000 : 3000 + N]).astype(np.float32), pca)
    moved = {name for name, move in found.items() if move.moved}
    assert names <= moved
    if "avoidable_loss" in names:
        assert not moved & {"norm_average", "norm_spread", "norm_ks"}


def test_rows_that_were_rounded_have_the_same_norms(rows, pca):
    rounded = rows[2000 : 2000 + N].astype(np.float16).astype(np.float32)
    assert not [name for name, move in moves(rows[2000 : 2000 + N], rounded, pca).items() if move.moved]


def test_equal_and_huge_rows_have_finite_figures(rows, pca):
    for new in (np.repeat(rows[:1], 50, axis=0), 1e25 * rows[3000:3050]):
        found = moves(rows[2000:2050], new.astype(np.float32), pca)
        assert np.isfinite([value for move in found.values() for value in (move.new, move.sampling)]).all()
        assert found["variance_lost"].new <= 1


GAIN = Gain(0.6, 0.65, 0.6, 0.05, 0.01, 0.05, 0.01, training_rows=900, new_rows=900, evaluated_rows=900)
SMALL = replace(GAIN, gain=NOTABLE - 0.001, gain_at_equal_rows=NOTABLE - 0.001)
FEW = replace(GAIN, gain=-0.02, fitted_to_few_training=0.5)
SAME, FELL = Move(0.7, 0.65, 0.1, False), Move(0.7, 0.6, 0.02, True)


def drift(gain: Gain, recall: Move = SAME) -> Drift:
    return Drift(k=10, rows=100, form="latents", figures={"recall": recall}, gain=gain)


@pytest.mark.parametrize(
    ("gain", "recall", "verdict", "uncertain"),
    [
        (GAIN, SAME, "retrain", ""),
        (GAIN, FELL, "retrain", ""),
        (replace(GAIN, gain=NOTABLE), SAME, "retrain", ""),
        (SMALL, SAME, "fine", ""),
        (SMALL, FELL, "fine", ""),
        (replace(SMALL, gain=0.05, sampling=0.06), FELL, "fine", "900 rows leave ± 0.060"),
        (FEW, SAME, "fine", "that so few rows are fitted to costs 0.100"),
        (FEW, FELL, "retrain", ""),
        (replace(FEW, sampling_at_equal_rows=0.06), FELL, "fine", ""),
        (FEW, Move(0.7, 0.69, 0.001, True), "fine", "that so few rows"),
    ],
)
def test_the_verdict_follows_from_the_gain(gain, recall, verdict, uncertain):
    one = drift(gain, recall)
    assert (one.verdict, one.exit_code) == (verdict, RETRAIN_CODE if verdict == "retrain" else 0)
    assert one.uncertain.startswith(uncertain) and bool(one.uncertain) == bool(uncertain)


def test_what_is_stored_decides_where_something_is():
    figures = {"recall": FELL, "recall_stored": SAME}
    assert replace(drift(FEW, FELL), figures=figures).verdict == "fine"
    assert replace(drift(FEW), figures=dict(zip(figures, (SAME, FELL), strict=True))).verdict == "retrain"


def test_the_reason_says_what_moved():
    assert drift(SMALL).reason.startswith("nothing moved by more than sampling makes")
    assert drift(SMALL, FELL).reason.startswith("recall fell, as these rows are harder by themselves")
    assert drift(SMALL, replace(FELL, held_out=0.5)).reason.startswith("1 figure moved; fitted to 900 of the new rows")
    assert "keeps 0.0190 more of the neighbours of 900 others" in drift(SMALL).reason
    assert "keeps 0.0200 less" in drift(FEW).reason
    assert drift(GAIN, FELL).reason.endswith("than fitted to training rows; a new training can win that")
    few = drift(FEW, FELL).reason
    assert few.startswith("recall fell, and fitted to 900") and "keeps 0.0500 more" in few
    assert few.endswith("with more new rows: these alone are too few")

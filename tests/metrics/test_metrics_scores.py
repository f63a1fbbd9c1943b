"""FID, Inception Score, composite: formulas against closed forms and other programs."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import metrics.composite
from metrics import FID, InceptionScore, InputError, Unavailable, composite_of, composite_score, register, unregister
from metrics.fid import frechet_distance
from metrics.moments import Moments


def tiny_features(images):
    """Seven features of a picture, (n, 7)."""
    x = images.double() / 255
    return torch.cat([x.mean((2, 3)), x.std((2, 3)), (x[:, :1, ::2] * x[:, 1:2, ::2]).mean((2, 3))], 1)


def pictures(count, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8))


def test_fid_equals_the_closed_form_of_gaussians():
    a, b = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 1.0, 1.0])
    assert frechet_distance(np.zeros(3), a, np.array([1.0, 2, 2]), b) == pytest.approx(9 + 1 + 1 + 4, abs=1e-12)
    random = np.random.default_rng(0)
    one, other = Moments(), Moments()
    one.add(random.normal(0, 1, (200_000, 2)))
    other.add(random.normal(3, 2, (200_000, 2)))
    distance = frechet_distance(one.mean, one.covariance(), other.mean, other.covariance())
    assert distance == pytest.approx(2 * 9 + 2 * 1, rel=0.01)


@given(st.integers(1, 12), st.integers(2, 9), st.integers(0, 99))
def test_fid_is_symmetric_never_negative_and_0_for_equals(size, rows, seed):
    random = np.random.default_rng(seed)
    sets = [Moments(), Moments()]
    for moments in sets:
        moments.add(random.normal(size=(rows, size)) * 10)
    (mean, cov), (other_mean, other_cov) = [(moments.mean, moments.covariance()) for moments in sets]
    distance = frechet_distance(mean, cov, other_mean, other_cov)
    assert distance >= 0
    assert distance == pytest.approx(frechet_distance(other_mean, other_cov, mean, cov), abs=1e-8)
    assert frechet_distance(mean, cov, mean, cov) < 1e-9


def test_constant_sets_are_apart_by_their_means():
    none = np.zeros((2, 2))
    assert frechet_distance(np.zeros(2), none, np.array([3.0, 4.0]), none) == 25


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 1), st.integers(0, 99))
def test_streaming_equals_one_shot(sizes, seed):
    rows = np.random.default_rng(seed).normal(1e3, 1, (sum(sizes), 4))
    moments = Moments()
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        moments.add(part)
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(0))
    np.testing.assert_allclose(moments.covariance(), np.cov(rows, rowvar=False), atol=1e-9)


def test_fid_equals_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Features(torch.nn.Module):
        num_features = 7

        def forward(self, images):
            return tiny_features(images)

    generated, references = pictures(90), pictures(70, 1) // 2
    theirs = FrechetInceptionDistance(feature=Features(), input_img_size=(3, 8, 8)).set_dtype(torch.float64)
    theirs.update(generated, real=False)
    theirs.update(references, real=True)
    ours = FID(extractor=tiny_features).measure(generated, references, batch_size=13)
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-3)


def test_fid_says_how_many_images_and_that_they_are_few():
    fid = FID(extractor=tiny_features)
    fid.measure(pictures(5), pictures(6))
    assert "5 images and 6 references" in fid.notes()[0] and "less than 8" in fid.notes()[0]
    fid.measure(pictures(8), pictures(8))
    assert "less than" not in fid.notes()[0]


def test_fid_of_one_image_is_undefined():
    with pytest.raises(Unavailable, match="at least 2 images"):
        FID(extractor=tiny_features).measure(pictures(1), pictures(4))
    with pytest.raises(Unavailable, match="needs references"):
        FID(extractor=tiny_features).measure(pictures(4))


def scored(logits, splits=10, batch=64):
    """The Inception Score of given logits, (n, classes)."""
    logits = torch.as_tensor(logits, dtype=torch.float32)
    place = 0

    def extractor(images):
        nonlocal place
        place += len(images)
        return logits[place - len(images) : place]

    metric = InceptionScore(extractor=extractor, splits=splits)
    value = metric.measure(torch.zeros(len(logits), 3, 1, 1, dtype=torch.uint8), batch_size=batch)
    return value, metric


@pytest.mark.parametrize("count", [1, 7, 1000, 5200])
def test_inception_score_of_uniform_predictions_is_1(count):
    assert scored(np.zeros((count, 9)))[0] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_inception_score_of_k_sure_and_even_classes_is_k(classes):
    assert scored(np.tile(np.eye(classes) * 1e4, (3, 1)))[0] == pytest.approx(classes, rel=1e-9)


@pytest.mark.parametrize("order", [np.sort, lambda labels: labels])
def test_the_order_of_the_classes_hardly_matters(order):
    labels = order(np.tile(np.arange(10), 600))
    value, metric = scored(np.eye(10)[labels] * 50)
    assert value == pytest.approx(10, rel=0.02)
    assert metric.extras()["inception_score_std"] < 0.1
    assert "6000 images in 10 splits" in metric.notes()[0] and "little" not in metric.notes()[0]


def test_inception_score_equals_a_plain_computation_and_is_the_same_each_time():
    logits = np.random.default_rng(0).normal(0, 3, (40, 12))
    shares = np.exp(logits.astype(np.float32).astype(float))
    shares /= shares.sum(1, keepdims=True)
    plain = np.exp((shares * np.log(shares / shares.mean(0))).sum(1).mean())
    assert scored(logits)[0] == pytest.approx(plain, rel=1e-6)
    big = np.random.default_rng(0).normal(0, 3, (2500, 12))
    first, again = scored(big), scored(big, batch=7)
    assert first[0] == pytest.approx(again[0], rel=1e-9)
    assert "in 5 splits" in first[1].notes()[0]


@given(st.integers(1, 30), st.integers(2, 8), st.integers(1, 4), st.integers(0, 99))
def test_inception_score_stays_within_1_and_the_number_of_classes(count, classes, splits, seed):
    value, metric = scored(np.random.default_rng(seed).normal(0, 30, (count, classes)), splits)
    assert 1 <= value <= min(classes, count) + 1e-9
    assert "falls with it" in metric.notes()[0]


WORKED = {"clip_score": 0.8123, "lpips": 0.1234, "inception_score": 3.45}


def test_the_worked_example():
    composite = composite_of(WORKED)
    assert round(composite.value, 4) == 0.7246
    assert composite.parts == ("clip_score", "inception_score", "lpips") and composite.left_out == ("fid",)
    assert doctest.testmod(metrics.composite).failed == 0


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_missing_or_not_finite_is_left_out(value):
    assert composite_of({**WORKED, "fid": value}) == composite_of(WORKED)


def test_without_parts_there_is_no_composite():
    assert composite_score({}) is None
    assert composite_score({"psnr": 20.0}) is None


def test_without_positive_parts_the_divisor_is_1():
    assert composite_score({"lpips": 0.5, "fid": 100.0}) == pytest.approx(-0.2 * 0.5 - 0.1 * 0.5)


@given(st.floats(0, 1), st.floats(0, 2), st.floats(1, 10), st.floats(0, 1e4), st.sampled_from(["lpips", "fid"]))
def test_a_better_lpips_or_fid_never_lowers_it(clip, lpips, inception, fid, name):
    values = {"clip_score": clip, "lpips": lpips, "inception_score": inception, "fid": fid}
    assert composite_score({**values, name: values[name] / 2}) >= composite_score(values) - 1e-12


def test_a_metric_of_ones_own_enters_the_composite():
    register("sharpness", lambda *_: 0.0, higher_is_better=True, weight=0.7, scale=lambda value: value / 100)
    try:
        expected = (0.4 * 0.8123 + 0.3 * 0.69 - 0.2 * 0.1234 + 0.7 * 0.5) / 1.4
        assert composite_score({**WORKED, "sharpness": 50.0}) == pytest.approx(expected)
        assert composite_of(WORKED).left_out == ("fid", "sharpness")
    finally:
        unregister("sharpness")


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (("fid", len, True), "taken"),
        (("", len, True), "taken"),
        (("mine_se", len, True), "taken"),
        (("mine", 3, True), "not int"),
        (("mine", dict, True), "not a metrics.Metric"),
        (("mine", len, True, -1.0), "above 0"),
        (("mine", len, False, 1.0), "above 0"),
        (("mine", len, True, math.nan), "above 0"),
    ],
)
def test_what_cannot_be_registered_is_said(given_, message):
    with pytest.raises(InputError, match=message):
        register(*given_)
    with pytest.raises(InputError, match="no registered"):
        unregister("mine")

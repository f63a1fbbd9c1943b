"""Metrics that compare sets of features: against torch-fidelity, plain loops in float64, and their own spread."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metrics import (
    CMMD,
    FID,
    KID,
    MIND,
    Coverage,
    Density,
    FDDINOv2,
    ImagePrecision,
    ImageRecall,
    InceptionScore,
    InputError,
    Unavailable,
)
from metrics.features import Features
from metrics.mind import DIRECTIONS, _directions
from metrics.resampling import Reservoir, jackknife, jackknife_error

ON_INCEPTION = (FID, KID, MIND, ImagePrecision, ImageRecall, Density, Coverage)
SET_METRICS = (*ON_INCEPTION, CMMD)


def rows(count, dim=9, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(shift, 1, (count, dim))


def as_images(features):
    """Features as "images" that `flat` turns into features again, so that a metric sees these very numbers."""
    return torch.from_numpy(features)


def flat(images):
    return images.double()


def measured(metric, generated, references, batch=7):
    """The value of a metric of given features, that come in batches."""
    metric.reset()
    for part in as_images(generated).split(batch):
        metric.update(part)
    for part in as_images(references).split(batch):
        metric.add_references(part)
    return metric.compute()


def test_kid_equals_torch_fidelity_on_the_same_features():
    from torch_fidelity.metric_kid import kid_features_to_metric

    generated, references = rows(40), rows(40, shift=0.3, seed=1)
    theirs = kid_features_to_metric(
        torch.from_numpy(generated), torch.from_numpy(references), kid_subsets=1, kid_subset_size=40, verbose=False
    )
    assert measured(KID(extractor=flat), generated, references) == pytest.approx(
        theirs["kernel_inception_distance_mean"], rel=1e-12
    )


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 9), st.integers(0, 99))
def test_kid_and_cmmd_equal_plain_loops(n, m, dim, seed):
    x, y = rows(n, dim, seed=seed), rows(m, dim, 0.5, seed + 1)

    def cubic(one, other):
        return (sum(a * b for a, b in zip(one, other, strict=True)) / dim + 1) ** 3

    def unbiased(points):
        pairs = [cubic(one, other) for i, one in enumerate(points) for j, other in enumerate(points) if i != j]
        return sum(pairs) / len(pairs)

    across = sum(cubic(one, other) for one in x for other in y) / (n * m)
    assert measured(KID(extractor=flat), x, y) == pytest.approx(unbiased(x) + unbiased(y) - 2 * across, abs=1e-9)

    def unit(points):
        return [[value / math.sqrt(sum(v * v for v in point)) for value in point] for point in points]

    def gaussian(first, second):
        gamma = 1 / (2 * 10**2)
        values = [
            math.exp(-gamma * sum((p - q) ** 2 for p, q in zip(a, b, strict=True))) for a in first for b in second
        ]
        return sum(values) / len(values)

    a, b = unit(x), unit(y)
    published = 1000 * (gaussian(a, a) + gaussian(b, b) - 2 * gaussian(a, b))
    assert measured(CMMD(extractor=flat), x, y) == pytest.approx(published, abs=1e-9)


@pytest.mark.parametrize(("n", "m", "shift"), [(60, 60, 0.2), (30, 90, 0.0), (90, 30, 1.0), (5, 4, 0.0)])
def test_precision_and_recall_equal_torch_fidelity_on_the_same_features(n, m, shift):
    from torch_fidelity.metric_prc import prc_features_to_metric

    generated, references = rows(n, 4), rows(m, 4, shift, 1)
    theirs = prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(references), verbose=False)
    assert measured(ImagePrecision(extractor=flat), generated, references) == pytest.approx(theirs["precision"])
    assert measured(ImageRecall(extractor=flat), generated, references) == pytest.approx(theirs["recall"])


@given(st.integers(1, 12), st.integers(6, 14), st.floats(0, 2), st.integers(0, 99))
def test_density_and_coverage_equal_plain_loops(n, m, shift, seed):
    generated, references = rows(n, 3, shift, seed), rows(m, 3, seed=seed + 1)
    radius = [sorted(math.dist(one, other) for other in references)[5] for one in references]
    inside = [[math.dist(x, y) <= r for y, r in zip(references, radius, strict=True)] for x in generated]
    assert measured(Density(extractor=flat), generated, references) == pytest.approx(
        sum(sum(line) for line in inside) / (5 * n)
    )
    covered = [any(line[j] for line in inside) for j in range(m)]
    assert measured(Coverage(extractor=flat), generated, references) == pytest.approx(sum(covered) / m)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_mind_equals_plain_transport(n, m, seed):
    generated, references = rows(n, 4, seed=seed), rows(m, 4, 0.5, seed + 1)
    total = 0.0
    for direction in _directions(4).T:
        # Every image as m equal pieces, every reference as n: as many of both, moved in order.
        pieces = sorted(float(x @ direction) for x in generated for _ in range(m))
        others = sorted(float(y @ direction) for y in references for _ in range(n))
        total += sum((a - b) ** 2 for a, b in zip(pieces, others, strict=True)) / (n * m)
    expected = 3 * 4 * total / DIRECTIONS
    assert measured(MIND(extractor=flat), generated, references) == pytest.approx(expected, abs=1e-9)


def test_mind_of_a_shift_is_three_times_its_square():
    references = rows(50, 30)
    shift = np.full(30, 0.4)
    value = measured(MIND(extractor=flat), references + shift, references)
    assert value == pytest.approx(3 * (shift @ shift), rel=0.15)


@pytest.mark.parametrize("kind", SET_METRICS)
def test_equal_sets_are_at_the_end_of_the_range(kind):
    same = rows(30)
    value = measured(kind(extractor=flat), same, same)
    if kind in (FID, MIND, CMMD):
        assert value == pytest.approx(0, abs=1e-6)
    elif kind is KID:
        assert value < 0
    else:
        assert value >= 1


@pytest.mark.parametrize("kind", SET_METRICS)
@pytest.mark.parametrize("shift", [0.3, 0.6])
def test_standard_errors_are_the_spread_of_other_draws(kind, shift):
    """Of 50 draws of 40 images; recall's, of balls around fewer images, is up to half too wide."""
    references, metric = rows(60, 5, seed=99), kind(extractor=flat)
    values, errors = [], []
    for seed in range(50):
        values.append(measured(metric, rows(40, 5, shift, seed), references))
        errors.append(jackknife_error(metric.jackknife()))
    assert 0.67 < np.mean(errors) / np.std(values, ddof=1) < 1.5


def test_the_standard_error_of_an_inception_score_is_its_spread():
    values, errors = [], []
    for seed in range(60):
        metric = InceptionScore(extractor=flat)
        metric.update(torch.from_numpy(2 * rows(80, 6, seed=seed)))
        values.append(metric.compute())
        errors.append(jackknife_error(metric.jackknife()))
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.33)


@pytest.mark.parametrize("kind", SET_METRICS)
def test_the_statistic_of_all_images_is_the_value_up_to_a_constant(kind):
    metric, references = kind(extractor=flat), rows(30, 6, seed=9)
    apart = []
    for seed in (0, 1):
        generated = rows(20, 6, 0.3, seed)
        value = measured(metric, generated, references)
        apart.append(value - metric.statistic(generated, references)(np.arange(20)))
    assert apart[0] == pytest.approx(apart[1], abs=1e-6)


def test_fid_and_its_error_of_fewer_images_than_features():
    references, generated = rows(20, 200, seed=1), rows(15, 200)
    metric = FID(extractor=flat)
    value = measured(metric, generated, references)
    statistic = metric.statistic(generated, references)
    constant = value - statistic(np.arange(15))
    without_one = measured(metric, generated[1:], references)
    assert statistic(np.arange(1, 15)) + constant == pytest.approx(without_one, rel=1e-9)
    assert metric.floor == 201 and FID().floor == 2049


@given(st.integers(2, 60), st.integers(0, 99))
def test_the_jackknife_of_a_mean_is_its_standard_error(count, seed):
    values = rows(count, 1, seed=seed)[:, 0]
    error = jackknife_error(jackknife(lambda kept: values[kept].mean(), count))
    plain = values.std(ddof=1) / count**0.5
    assert error == pytest.approx(plain, rel=1e-9 if count <= 20 else 0.9)


def test_a_reservoir_is_a_uniform_sample_whatever_the_batches():
    data = np.arange(1000.0)[:, None]
    one, other = Reservoir(100), Reservoir(100)
    one.add(data)
    for part in np.array_split(data, 37):
        other.add(part)
    np.testing.assert_array_equal(one.rows, other.rows)
    assert len(one.rows) == 100 and one.rows.mean() == pytest.approx(500, abs=90)
    assert len(np.unique(one.rows)) == 100


def test_large_sets_are_compared_by_a_sample(monkeypatch):
    monkeypatch.setattr("metrics.features.MOST_ROWS", 200)
    generated, references = rows(900, 4, 0.5), rows(800, 4, seed=1)
    metric = KID(extractor=flat)
    sample = measured(metric, generated, references)
    assert len(metric.features.generated.rows()) == 200 and "of 200 images of a set" in metric.notes()[0]
    monkeypatch.undo()
    assert sample == pytest.approx(measured(metric, generated, references), rel=0.3)
    assert metric.notes() == []


def test_metrics_that_share_their_features_extract_them_once():
    calls = []
    features = Features(lambda images: calls.append(len(images)) or flat(images))
    shared = [kind(features=features) for kind in ON_INCEPTION]
    generated, references = as_images(rows(20, 6)), as_images(rows(25, 6, 0.5, 1))
    for metric in shared:
        metric.reset()
    for batch in generated.split(8):
        for metric in shared:
            metric.update(batch)
    for metric in shared:
        metric.add_references(references)
    assert calls == [8, 8, 4, 25]
    alone = [measured(kind(extractor=flat), rows(20, 6), rows(25, 6, 0.5, 1)) for kind in ON_INCEPTION]
    assert [metric.compute() for metric in shared] == pytest.approx(alone, rel=1e-9)
    shared[0].update(references)
    shared[0].update(references)
    assert features.generated.count == 20 + 25 + 25


@pytest.mark.parametrize(
    ("kind", "images", "references"), [(KID, 2, 2), (ImagePrecision, 1, 4), (ImageRecall, 4, 1), (Density, 1, 6)]
)
def test_too_few_images_are_said(kind, images, references):
    metric = kind(extractor=flat)
    assert np.isfinite(measured(metric, rows(images), rows(references)))
    for fewer in ((images - 1, references), (images, references - 1)):
        with pytest.raises(Unavailable, match=f"at least {images} images and {references} references"):
            measured(metric, rows(fewer[0]), rows(fewer[1]))


def test_fd_dinov2_through_a_file_of_weights(tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0).eval()
    torch.save(network.state_dict(), tmp_path / "dinov2.pth")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8))
    metric = FDDINOv2(tmp_path / "dinov2.pth")
    assert metric.measure(images, images) == pytest.approx(0, abs=1e-6)
    assert metric.measure(images // 2, images) > 0
    assert metric.features.generated.rows().shape == (4, 384) and metric.floor == 385
    assert metric.weights()["source"] == str(tmp_path / "dinov2.pth")


def test_other_files_are_not_taken_for_dinov2(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not the weights of a DINOv2"):
        FDDINOv2(tmp_path / "other.pth").prepare()
    with pytest.raises(InputError, match="no such file"):
        FDDINOv2(tmp_path / "gone.pth").prepare()
    with pytest.raises(InputError, match="needs a file"):
        FDDINOv2()

import numpy as np
import pytest
from drawn import assert_legible, pixels, quickly_drawn, share_of
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from scipy.optimize import minimize_scalar

from dploss.plots import save
from dploss.plots.spaces import aligned_planes, spaces_figure
from dploss.plots.style import COLOURS


def turned(points, angle, mirrored):
    """Points rotated about the origin, and mirrored at the first axis before."""
    cos, sin = np.cos(angle), np.sin(angle)
    return (points * [1, -1 if mirrored else 1]) @ np.array([[cos, sin], [-sin, cos]])


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_spaces_are_drawn_side_by_side(builtin, method, tmp_path):
    figure = spaces_figure(builtin[:200], builtin[:200, :1], method, "title")
    assert [axes.get_title() for axes in figure.axes] == ["Originals, 768 dimensions", "Latents, 1 dimension"]
    assert_legible(figure)
    one, other = figure.axes
    assert (one.get_xlim(), one.get_ylim()) == (other.get_xlim(), other.get_ylim()) and one.get_aspect() == 1
    maps = [axes.collections[0] for axes in figure.axes]
    for points in (drawn.get_offsets() for drawn in maps):
        assert len(points) == 200
        assert (points.min(0) > [one.get_xlim()[0], one.get_ylim()[0]]).all()
        assert (points.max(0) < [one.get_xlim()[1], one.get_ylim()[1]]).all()
    # A row has the same colour in both.
    colours = [[to_hex(colour).upper() for colour in drawn.get_facecolors()] for drawn in maps]
    assert colours[0] == colours[1] and {*colours[0]} == {*map(str.upper, COLOURS)}
    save(figure, tmp_path / "spaces.png")
    assert share_of("white", pixels(tmp_path / "spaces.png")) < 0.999


def test_latents_that_are_the_originals_turned_are_drawn_as_the_originals(builtin):
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.normal(size=(768, 768)))
    figure = spaces_figure(builtin[:150], 3 * builtin[:150] @ rotation + 5, "pca", "title")
    original, latent = (np.asarray(axes.collections[0].get_offsets()) for axes in figure.axes)
    np.testing.assert_allclose(latent, original, atol=1e-3)


@given(st.integers(0, 2**32 - 1), st.floats(0, 2 * np.pi), st.booleans(), st.floats(1e-6, 1e6))
def test_a_map_that_is_turned_mirrored_moved_and_scaled_comes_back(seed, angle, mirrored, scale):
    first = np.random.default_rng(seed).normal(size=(30, 2)) * [3, 1]
    second = turned(first, angle, mirrored) * scale + [4 * scale, -7 * scale]
    one, other = aligned_planes(first, second)
    np.testing.assert_allclose(other, one, atol=1e-8)
    np.testing.assert_allclose(one.mean(axis=0), 0, atol=1e-12)
    assert np.square(one).sum(axis=1).mean() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_angle_or_mirroring_is_nearer(seed):
    random = np.random.default_rng(seed)
    first = random.normal(size=(40, 2)) * [2, 1]
    second = turned(first, random.uniform(0, 6), seed % 2) + random.normal(size=(40, 2)).astype(np.float32)
    one, other = aligned_planes(first, second.astype(np.float32))
    found = np.square(one - other).sum()
    centred = second.astype(np.float32).astype(np.float64)
    centred -= centred.mean(axis=0)
    centred /= np.sqrt(np.square(centred).sum(axis=1).mean())

    def distance(angle, mirrored):
        return np.square(one - turned(centred, angle, mirrored)).sum()

    best = min(
        minimize_scalar(
            distance, bounds=(low, low + 1), args=(mirrored,), method="bounded", options={"xatol": 1e-10}
        ).fun
        for mirrored in (False, True)
        for low in np.arange(0, 2 * np.pi, 0.9)
    )
    assert found == pytest.approx(best, rel=1e-8)


def test_rows_that_are_all_one_point_are_drawn():
    assert_legible(spaces_figure(np.ones((5, 3), np.float32), np.ones((5, 2), np.float32), "pca", "title"))

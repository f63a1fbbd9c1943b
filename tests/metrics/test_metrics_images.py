import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metrics.errors import InputError
from metrics.images import as_sequence, batches, resized, to_image

RED = (255, 0, 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "HSV"])
def test_red_is_red_in_every_mode(mode):
    image = to_image(Image.new("RGB", (5, 4), RED).convert(mode))
    assert image.shape == (3, 4, 5) and image.dtype == torch.uint8
    assert (image.movedim(0, 2).int() - torch.tensor(RED)).abs().max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16", "F"])
def test_grey_has_three_equal_channels(mode):
    white = {"LA": (255, 255), "I;16": 65535, "F": 1.0, "1": 1}.get(mode, 255)
    assert (to_image(Image.new(mode, (5, 4), white)) == 255).all()


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path):
    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert (to_image(Image.open(tmp_path / "deep.png")) == 128).all()


def test_what_is_transparent_is_white():
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    half.putpixel((1, 0), (0, 0, 0, 128))
    assert to_image(half)[:, 0, :].T.tolist() == [[255] * 3, [127] * 3]
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30])
    palette.info["transparency"] = 0
    assert (to_image(palette) == 255).all()
    floats = torch.zeros(4, 2, 2)
    assert (to_image(floats) == 255).all()


def test_a_photograph_is_turned_as_it_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert to_image(Image.open(tmp_path / "turned.jpg")).shape == (3, 6, 2)


@given(st.sampled_from([1, 3, 4]), st.integers(5, 9), st.integers(5, 9), st.booleans(), st.booleans())
def test_the_axis_of_the_channels_is_found(channels, height, width, last, array):
    image = torch.zeros(height, width, channels) if last else torch.zeros(channels, height, width)
    assert to_image(image.numpy() if array else image).shape == (3, height, width)


def test_where_both_axes_fit_a_tensor_has_channels_first_and_an_array_last():
    image = torch.zeros(3, 8, 4)
    assert to_image(image).shape == (3, 8, 4)
    assert to_image(image.numpy()).shape == (3, 3, 8)


@given(st.integers(0, 255))
def test_floats_and_bytes_agree(value):
    assert (to_image(torch.full((3, 2, 2), value / 255)) == to_image(torch.full((3, 2, 2), value).byte())).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 2, 2), 1.5), "image 1: .*within 0..1, found 1.5"),
        (np.full((2, 2), -0.1), "image 1: .*within 0..1"),
        (torch.full((3, 2, 2), float("nan")), "image 1: .*not finite"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "image 1: .*uint8"),
        (torch.zeros(5, 6, 7), "image 1: shape"),
        (torch.zeros(3, 0, 4), "image 1: shape"),
        ("a.png", "image 1: str is no"),
    ],
)
def test_a_bad_image_is_named(image, message):
    with pytest.raises(InputError, match=message):
        list(batches([torch.zeros(3, 2, 2), image], 4))


@pytest.mark.parametrize("one", [Image.new("L", (3, 3)), torch.zeros(3, 8, 8), np.zeros((8, 8))])
def test_a_single_image_is_one(one):
    assert len(as_sequence(one)) == 1


def test_many_images_may_come_in_any_way():
    assert len(as_sequence(torch.zeros(7, 3, 8, 8))) == 7
    assert len(as_sequence(np.zeros((6, 8, 8, 3)))) == 6
    assert len(as_sequence(torch.zeros(3, 2, 2) for _ in range(5))) == 5


@given(st.lists(st.integers(2, 4), max_size=12), st.integers(1, 5))
def test_every_image_is_in_one_batch_of_its_size(heights, size):
    found = {}
    for places, images in batches([torch.zeros(3, height, 3) for height in heights], size):
        assert 1 <= len(places) == len(images) <= size
        found |= {place: images.shape[2] for place in places}
    assert found == dict(enumerate(heights))


def test_the_input_is_not_touched():
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    to_image(image).add_(1)
    assert not image.any()


def test_resizing_keeps_flat_colours_and_the_range():
    assert (resized(torch.full((3, 9, 9), 77).byte(), 20, 5) == 77).all()
    edges = (torch.arange(300).reshape(3, 10, 10) % 2 * 255).byte()
    assert resized(edges, 33, 47).shape == (3, 33, 47)

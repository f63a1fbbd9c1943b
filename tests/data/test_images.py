import numpy as np
import pytest
from PIL import Image

from dploss.data.images import as_picture, open_images, side_by_side
from dploss.errors import InputError


def picture(path, colour, size=(20, 10), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("b/red.png", "red"), ("b/green.png", "lime"), ("a/blue.png", "blue"), ("top.png", "white")):
        picture(tmp_path / "pictures" / name, colour)
    return tmp_path / "pictures"


def colours(images):
    size = images.image_size
    return [tuple(row.reshape(3, size * size).mean(axis=1).round(2)) for row in images.rows]


def test_a_folder_is_read_in_the_order_of_its_paths(folder):
    images = open_images(folder, 16)
    assert images.rows.shape == (4, 3 * 16 * 16) and images.rows.dtype == np.float32
    assert colours(images) == [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)]
    assert images.source == str(folder) and images.fingerprint.startswith("sha256:")
    assert images.fingerprint != open_images(folder, 24).fingerprint
    assert len(open_images(folder, 16, limit=3).rows) == 3


def test_captions_are_the_table_else_the_text_beside_else_the_class(folder):
    assert open_images(folder, 16).captions == ("a", "b", "b", None)
    (folder / "b" / "red.txt").write_text("a red square\n")
    assert open_images(folder, 16).captions == ("a", "b", "a red square", None)
    (folder / "captions.csv").write_text('image_path,text_en\nb/red.png,"red, all of it"\ntop.png,white\n')
    assert open_images(folder, 16).captions == ("a", "b", "red, all of it", "white")


def test_pixels_are_those_of_the_middle(tmp_path):
    wide = Image.new("RGB", (48, 16), "red")
    wide.paste("blue", (16, 0, 32, 16))
    for number in range(3):
        wide.save(tmp_path / f"{number}.png")
    assert colours(open_images(tmp_path, 16)) == [(0, 0, 1)] * 3


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("L", 255, (1, 1, 1)),
        ("RGBA", (255, 0, 0, 0), (1, 1, 1)),
        ("P", 0, (0, 0, 0)),
        ("CMYK", (0, 0, 0, 0), (1, 1, 1)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, colour, seen):
    for number in range(3):
        picture(tmp_path / f"{number}.{'jpg' if mode == 'CMYK' else 'png'}", colour, mode=mode)
    assert colours(open_images(tmp_path, 16)) == [seen] * 3


def test_the_builtin_images_are_cut_from_two_photographs():
    images = open_images(image_size=16)
    assert len(images.rows) > 500 and set(images.captions) == {
        "a photograph of a Chinese temple",
        "a photograph of a pink flower",
    }
    assert images.rows.min() >= 0 and images.rows.max() <= 1 and images.rows.std() > 0.1
    assert images.source == "builtin"


def test_rows_become_pictures_again(folder):
    images = open_images(folder, 16)
    assert as_picture(images.rows[0], 16).getpixel((3, 3)) == (0, 0, 255)
    both = side_by_side(as_picture(images.rows[0], 16), as_picture(images.rows[2] + 5, 16))
    assert both.size == (32, 16) and both.getpixel((3, 3)) == (0, 0, 255) and both.getpixel((20, 3)) == (255, 255, 255)


def test_what_cannot_be_read_is_named(folder, tmp_path):
    with pytest.raises(InputError, match="gone: no such folder of images"):
        open_images(tmp_path / "gone")
    with pytest.raises(InputError, match="1 images in it, training needs at least 3"):
        open_images(folder / "a")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match=r"broken\.png: not a readable image"):
        open_images(folder, 16)


@pytest.mark.parametrize("content", ["image_path\nx.png\n", "image_path,text_en\n,words\n", "a,b\n1,2\n"])
def test_a_table_of_captions_without_its_columns_is_named(folder, content):
    (folder / "captions.csv").write_text(content)
    with pytest.raises(InputError, match=r"captions\.csv: line 2 lacks image_path or text_en"):
        open_images(folder, 16)

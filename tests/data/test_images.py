import hashlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from dploss.data.images import as_image, comparison, open_images
from dploss.errors import InputError
from metrics.folders import ImageFolder
from metrics.images import to_image


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


def both_readers(folder):
    """The pixels of a folder's images by open_images, in 0..1, and by ImageFolder and to_image, in 0..255."""
    rows = open_images(folder, 16).rows.reshape(-1, 3, 16, 16)
    return rows, np.stack([to_image(image).numpy() for image in ImageFolder(folder)])


def ramp():
    return np.arange(256).reshape(16, 16)


def sixteen_bits(path):
    Image.fromarray((ramp() * 257 + 100).clip(0, 65535).astype(np.uint16)).save(path.with_suffix(".png"))
    return (ramp() * 257 + 100).clip(0, 65535) / 65535


def big_endian(path):
    Image.fromarray(ramp().astype(">u2") * 257).save(path.with_suffix(".tif"))
    return ramp() / 255


def floats(path):
    Image.fromarray((ramp() / 299).astype(np.float32)).save(path.with_suffix(".tiff"))
    return ramp() / 299


def a_transparent_value_of_sixteen_bits(path):
    Image.fromarray(ramp().astype(np.uint16)).save(path.with_suffix(".png"), transparency=7)
    return np.where(ramp() == 7, 1, ramp() / 65535)


def palette(path):
    image = Image.fromarray(ramp().astype(np.uint8)).convert("P")
    image.save(path.with_suffix(".png"), transparency=bytes([0] * 100 + [128] + [255] * 155))
    return np.where(ramp() < 100, 255, np.where(ramp() == 100, 177, ramp())) / 255


def half_transparent(path):
    image = Image.merge("LA", [Image.fromarray(ramp().astype(np.uint8)), Image.new("L", (16, 16), 51)])
    image.save(path.with_suffix(".png"))
    return np.round(ramp() * 0.2 + 255 * 0.8) / 255


@pytest.mark.parametrize(
    "write", [sixteen_bits, big_endian, floats, a_transparent_value_of_sixteen_bits, palette, half_transparent]
)
def test_deep_and_transparent_images_are_the_same_to_both_readers(tmp_path, write):
    for number in range(3):
        expected = write(tmp_path / str(number))
    rows, images = both_readers(tmp_path)
    assert rows.shape == images.shape == (3, 3, 16, 16)
    np.testing.assert_allclose(rows, np.broadcast_to(expected, rows.shape), atol=1e-7)
    assert (images == np.round(expected * 255)).all()


def test_a_deep_image_stays_within_0_and_1_when_it_is_resized(tmp_path):
    edges = np.zeros((40, 40), np.uint16)
    edges[:, 20:] = 65535
    for number in range(3):
        Image.fromarray(edges).save(tmp_path / f"{number}.png")
    rows = open_images(tmp_path, 16).rows
    assert rows.min() == 0 and rows.max() == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.float32([[0, 255]]), r"floating-point values must lie within 0..1, found 0..255"),
        (np.float32([[-0.5, 1]]), r"floating-point values must lie within 0..1, found -0.5..1"),
        (np.float32([[0, np.nan]]), "some floating-point values are not finite"),
        (np.int32([[0, 65536]]), r"integers must lie within 0..65535, found 0..65536"),
    ],
)
def test_values_out_of_range_are_refused_by_both_readers(folder, values, message):
    Image.fromarray(values).save(folder / "deep.tif")
    for read in (lambda: open_images(folder, 16), lambda: ImageFolder(folder, ["deep.tif"])[0]):
        with pytest.raises(ValueError, match=rf"deep\.tif: cannot be read as an image \({message}\)"):
            read()


def test_hidden_files_and_folders_are_left_out_by_both_readers(folder):
    for name in (".hidden.png", ".cache/a.png", "b/.thumbnails/c/d.png"):
        picture(folder / name, "black")
    rows, images = found_by_both(folder)
    assert rows == 4 and images == ["a/blue.png", "b/green.png", "b/red.png", "top.png"]
    # A hidden folder that is named itself is not left out.
    (folder.parent / ".pictures").symlink_to(folder)
    assert found_by_both(folder.parent / ".pictures") == (rows, images)


def found_by_both(folder):
    return len(open_images(folder, 16).rows), ImageFolder(folder).names


def test_images_of_eight_bits_have_the_pixels_and_the_fingerprint_of_a_plain_reading(tmp_path):
    random, wanted = np.random.default_rng(0), []
    for name, shape in (("a/0.png", (40, 24, 3)), ("b.bmp", (16, 16, 3)), ("c.png", (9, 33))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
        fitted = ImageOps.fit(Image.open(tmp_path / name).convert("RGB"), (16, 16), Image.Resampling.BICUBIC)
        wanted.append((np.asarray(fitted, np.float32) / 255).transpose(2, 0, 1).reshape(-1))
    images = open_images(tmp_path, 16)
    assert np.array_equal(images.rows, np.stack(wanted))
    assert (
        images.fingerprint == "sha256:" + hashlib.sha256(b"float32 (3, 768)" + np.stack(wanted).tobytes()).hexdigest()
    )


def test_the_fingerprint_of_the_builtin_images_is_that_of_older_versions():
    assert open_images(image_size=16).fingerprint == (
        "sha256:1ce4b9d76f1d812bd45326a177b930d626de1444a364cd4a9553db77883fdab0"
    )


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
    assert as_image(images.rows[0], 16).getpixel((3, 3)) == (0, 0, 255)


def test_comparisons_are_labelled_and_large_enough_to_see(folder):
    images = open_images(folder, 16)
    both = comparison(as_image(images.rows[0], 16), as_image(images.rows[2] - 5, 16))
    assert both.size == (2 * 256 + 4, 256 + 24)
    assert both.getpixel((40, 60)) == (0, 0, 255) and both.getpixel((300, 60)) == (0, 0, 0)
    labels = np.array(both.crop((0, 0, both.width, 24)).convert("L"))
    assert labels[:, :256].min() < 100 and labels[:, 260:].min() < 100 and labels[:, 250:270].min() == 255
    large = comparison(Image.new("RGB", (300, 512)), Image.new("RGB", (300, 512)))
    assert large.height > 512 and large.width < 610


def test_what_cannot_be_read_is_named(folder, tmp_path):
    with pytest.raises(InputError, match="gone: no such folder of images"):
        open_images(tmp_path / "gone")
    with pytest.raises(InputError, match="1 image in it, training needs at least 3"):
        open_images(folder / "a")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match=r"broken\.png: cannot be read as an image"):
        open_images(folder, 16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image_path\nx.png\n", r"captions\.csv: no column text_en \(it needs image_path and text_en\)"),
        ("image_path,text_en\n,words\n", r"captions\.csv, line 2: image_path or text_en is empty"),
        ("image_path,text_en\nx.png\n", r"captions\.csv, line 2: image_path or text_en is empty"),
        ("a,b\n1,2\n", r"captions\.csv: no column image_path"),
    ],
)
def test_a_table_of_captions_without_its_columns_is_named(folder, content, message):
    (folder / "captions.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        open_images(folder, 16)


def test_an_empty_caption_in_the_table_counts_as_none(folder):
    (folder / "captions.csv").write_text("image_path,text_en\nb/red.png,\ntop.png,white\n")
    assert open_images(folder, 16).captions == ("a", "b", "b", "white")

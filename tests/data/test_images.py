import hashlib
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageOps

from dploss.data.images import as_image, comparison, open_images
from dploss.errors import InputError
from metrics.errors import InputError as MetricsInputError
from metrics.folders import ImageFolder, left_out
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
        ("CMYK", (0, 255, 255, 0), (1, 0, 0)),
        # Red, as ImageCms converts it.
        ("LAB", (138, 209, 198), (1, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, colour, seen):
    for number in range(3):
        picture(tmp_path / f"{number}.{'tif' if mode in ('CMYK', 'LAB') else 'png'}", colour, mode=mode)
    np.testing.assert_allclose(colours(open_images(tmp_path, 16)), [seen] * 3, atol=0.03)


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


def floats_of_eight_bits(path):
    Image.fromarray(ramp().astype(np.float32) / 1.01).save(path.with_suffix(".tiff"))
    return ramp() / 1.01 / 255


def integers_of_a_tiff(path):
    Image.fromarray(ramp().astype(np.int32) * 257).save(path.with_suffix(".tif"))
    return ramp() / 255


def one_bit(path):
    Image.fromarray(ramp() % 3 == 0).save(path.with_suffix(".png"))
    return ramp() % 3 == 0


def first_frame_of(suffix, **settings):
    def animation(path):
        grey = ramp() // 2 + 64
        frames = [Image.fromarray(values.astype(np.uint8)) for values in (grey, 255 - grey, grey // 2)]
        frames = [frame.convert("RGB") for frame in frames] if suffix == ".webp" else frames
        frames[0].save(path.with_suffix(suffix), save_all=True, append_images=frames[1:], **settings)
        return grey / 255

    return animation


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
    "write",
    [
        sixteen_bits,
        big_endian,
        integers_of_a_tiff,
        floats,
        floats_of_eight_bits,
        a_transparent_value_of_sixteen_bits,
        palette,
        half_transparent,
        one_bit,
        first_frame_of(".gif"),
        first_frame_of(".webp", lossless=True),
        first_frame_of(".tif"),
    ],
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
        (np.float32([[0, 256]]), r"floating-point values must lie within 0..1 or 0..255, found 0..256"),
        (np.float32([[-0.5, 1]]), r"floating-point values must lie within 0..1 or 0..255, found -0.5..1"),
        (np.float32([[0, np.nan]]), "some floating-point values are not finite"),
        (np.int32([[0, 65536]]), r"integers must lie within 0..65535, found 0..65536"),
    ],
)
def test_values_out_of_range_are_refused_by_both_readers(folder, values, message):
    Image.fromarray(values).save(folder / "deep.tif")
    with pytest.raises(InputError, match=rf"pictures: 1 of 5 images cannot be read: deep\.tif \({message}\)"):
        open_images(folder, 16)
    with pytest.raises(MetricsInputError, match=rf"deep\.tif: cannot be read as an image \({message}\)"):
        ImageFolder(folder, ["deep.tif"])[0]


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


# What a camera, an editor or a damaged disk may leave there.
EXIF = {
    "no EXIF at all": (b"Exif\0\0garbage", False),
    "a table outside of it": (b"Exif\0\0II*\0\xff\xff\xff\xff", False),
    "a table that is cut": (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", False),
    "nothing": (b"Exif\0\0", False),
    "an orientation of 0": (b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0", False),
    "an orientation of text": (b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0", False),
    "a broken tag beside the orientation": (
        b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x69\x87\x04\0\x01\0\0\0\xff\xff\xff\x7f"
        b"\0\0\0\0",
        True,
    ),
}


@pytest.mark.parametrize("kind", EXIF)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_damaged_exif_leaves_the_image_as_it_is_stored(folder, kind, suffix, recwarn):
    exif, turned = EXIF[kind]
    wide = Image.new("RGB", (32, 16), "red")
    wide.save(folder / f"b.{suffix}", exif=exif)
    assert ImageFolder(folder, [f"b.{suffix}"])[0].size == ((16, 32) if turned else (32, 16))
    assert len(open_images(folder, 16).rows) == 5 and not recwarn.list


def test_each_orientation_is_turned_as_pil_would(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / f"{orientation}.png", exif=exif)
        expected = ImageOps.exif_transpose(Image.open(tmp_path / f"{orientation}.png"))
        assert np.array_equal(ImageFolder(tmp_path, [f"{orientation}.png"])[0], expected)


def damage(folder):
    """Bad images before, between and after the good ones of `folder`."""
    whole = (folder / "top.png").read_bytes()
    (folder / "a.png").write_bytes(b"")
    (folder / "b" / "html.jpg").write_bytes(b"<html>not found</html>")
    (folder / "b" / "longer.png").symlink_to("nowhere")
    (folder / "cut.png").write_bytes(whole[:50])
    (folder / "z.png").mkdir()


def test_all_bad_images_are_named_in_a_line(folder):
    damage(folder)
    with pytest.raises(InputError) as caught:
        open_images(folder, 16)
    assert str(caught.value) == (
        f"{folder}: 4 of 8 images cannot be read: a.png (an empty file), b/html.jpg (not a PNG, JPEG, WEBP, BMP, TIFF "
        "or GIF), b/longer.png (no such file) and 1 more"
    )


def test_bad_images_that_are_skipped_take_their_captions_with_them(folder):
    rows = open_images(folder, 16).rows
    damage(folder)
    (folder / "captions.csv").write_text("image_path,text_en\na.png,empty\nb/red.png,red\ntop.png,white\n")
    images = open_images(folder, 16, skip_bad_images=True)
    assert np.array_equal(images.rows, rows) and images.captions == ("a", "b", "red", "white")
    (note,) = images.notes
    assert note.startswith(f"{folder}: 4 of 8 images cannot be read: a.png") and note.endswith("; left out")
    few = open_images(folder, 16, limit=6, skip_bad_images=True)
    assert np.array_equal(few.rows, rows[:3]) and few.captions == images.captions[:3]
    assert "3 of 6 images cannot be read" in few.notes[0]
    (folder / "b" / "green.png").write_bytes(b"")
    (folder / "b" / "red.png").write_bytes(b"")
    with pytest.raises(InputError, match="6 of 8 images cannot be read: .*; training needs at least 3 that can"):
        open_images(folder, 16, skip_bad_images=True)


def test_what_is_left_out_of_a_folder_is_counted(folder):
    for name in (
        "1.heic",
        "2.HEIC",
        "b/3.heic",
        "orphan.txt",
        "noted",
        "b/red.txt",
        "b/red.json",
        "Thumbs.db",
        ".x.zip",
    ):
        (folder / name).write_text("something")
    assert open_images(folder, 16).notes == (f"{folder}: left out: 3 .heic, 1 without a suffix, 1 .txt",)
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"0 images in it, .*; it has 3 \.heic, 2 \.txt, 1 \.json, 1 without a suffix"):
        open_images(folder, 16)


def test_many_suffixes_are_not_all_named(tmp_path):
    others = [tmp_path / f"{number}.{suffix}" for number, suffix in enumerate("aabbccddeeffg")]
    assert left_out([], others) == "2 .a, 2 .b, 2 .c, 2 .d, 2 .e, 3 others"
    assert left_out([], others[-3:], used=others[-1:]) == "2 .f"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", "file_name,label,text\nb/red.png,7,red\ntop.png,7,white\n"),
        (
            "metadata.jsonl",
            '{"file_name": "b/red.png", "text": "red"}\n\n{"text": "white", "file_name": "./top.png"}\n',
        ),
        ("metadata.jsonl", '{"file_name": "b/red.png", "text": "red"}\n{"file_name": "top.png", "text": null}\n'),
        ("captions.csv", "file_name,text\nb/red.png,red\ntop.png,white\n"),
        ("captions.csv", "image_path,text_en\nb\\red.png,red\n.\\top.png,white\n"),
    ],
)
def test_tables_of_other_tools_are_captions_too(folder, name, content):
    (folder / name).write_text(content)
    images = open_images(folder, 16)
    assert images.captions == ("a", "b", "red", None if "null" in content else "white") and not images.notes


def test_metadata_without_captions_is_none_of_our_business(folder):
    (folder / "metadata.csv").write_text("file_name,label\ntop.png,7\n")
    (folder / "metadata.jsonl").write_text('{"file_name": "top.png", "text": "white"}\n')
    images = open_images(folder, 16)
    assert images.captions == ("a", "b", "b", "white")
    assert images.notes == (f"{folder}: left out: 1 .csv",)


def test_hangul_that_is_taken_apart_names_the_same_file(folder):
    picture(folder / unicodedata.normalize("NFD", "사진.png"), "red")
    (folder / "captions.csv").write_text(unicodedata.normalize("NFC", "image_path,text_en\n사진.png,붉은 사진\n"))
    images = open_images(folder, 16)
    assert "붉은 사진" in images.captions and not images.notes


def test_captions_that_match_no_image_are_counted(folder):
    (folder / "captions.csv").write_text("image_path,text_en\nred.png,red\ntop.png,white\nC:\\b\\green.png,green\n")
    assert open_images(folder, 16, limit=3).notes == (
        f"{folder / 'captions.csv'}: 2 of 3 captions match no image (first: red.png)",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]\n", r"metadata\.jsonl, line 1: not a JSON object"),
        (b'{"text": "a"}\n', r"metadata\.jsonl: no column image_path \(it needs image_path and text_en, or file_name"),
        (b'{"text": 7, "file_name": "top.png"}\n', "line 1: file_name or text is empty, or no text"),
        (b'{"text": "a", "file_name": "top\\u0000.png"}\n', "line 1: embedded null byte"),
        (b'{"text": "\\ud800", "file_name": "top.png"}\n', "line 1: 'utf-8' codec can't encode"),
        (b'{"text": \n', r"metadata\.jsonl: cannot be read as JSON lines"),
        ("{'text': '그림'}".encode("cp949"), r"metadata\.jsonl: not UTF-8 text \(byte 10\); save it as UTF-8"),
    ],
)
def test_a_damaged_table_is_named(folder, content, message):
    (folder / "metadata.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_images(folder, 16)

"""Folders of images as people have them: what train.py --images and python -m metrics make of each."""

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dploss.data.images import open_images
from metrics.__main__ import main as metrics_main

SMALL = ("--epochs", 0, "--image-size", 16, "--latent-dim", 2, "--k", 1, "--no-tensorboard", "--quiet")
# No model is asked for, so that nothing is looked for in the network.
ALONE = ("--eval-every", 0, "--val-fraction", 0)
NOT_AN_IMAGE = "not a PNG, JPEG, WEBP, BMP, TIFF or GIF"
READ = "read"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight images in two folders: photos/a/0.png, ..., photos/b/7.png."""
    random = np.random.default_rng(0)
    for number in range(8):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def writes(name: str, content: bytes):
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return write


def cut(folder: Path) -> None:
    path = folder / "a" / "0.png"
    path.write_bytes(path.read_bytes()[:600])


def cut_jpeg(folder: Path) -> None:
    Image.open(folder / "a" / "0.png").save(folder / "c.jpg")
    (folder / "c.jpg").write_bytes((folder / "c.jpg").read_bytes()[:-200])


def four_bad_ones(folder: Path) -> None:
    for name in ("c.png", "d.gif", "e.tif", "f.bmp"):
        (folder / name).write_bytes(b"")


def all_bad(folder: Path) -> None:
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"")


def dangling(folder: Path) -> None:
    (folder / "c.png").symlink_to("nowhere.png")


def floats_beyond_bytes(folder: Path) -> None:
    Image.fromarray(np.float32([[0, 1000]])).save(folder / "c.tif")


def saved(name: str, mode: str, colour, **settings):
    return lambda folder: Image.new(mode, (20, 20), colour).save(folder / name, **settings)


def deep(folder: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 164).save(folder / "c.png")


def animated(folder: Path) -> None:
    frames = [Image.new("L", (20, 20), grey) for grey in (200, 0, 90)]
    frames[0].save(folder / "c.gif", save_all=True, append_images=frames[1:])


def hangul(folder: Path) -> None:
    shutil.copy(folder / "a" / "0.png", folder / unicodedata.normalize("NFD", "사진.png"))
    writes("captions.csv", unicodedata.normalize("NFC", "file_name,text\n사진.png,그림\n").encode())(folder)


def emptied(folder: Path) -> None:
    for path in folder.glob("*/*.png"):
        path.rename(path.with_suffix(".heic"))


def line(text: str, n: int = 9) -> str:
    return f"photos: 1 of {n} images cannot be read: {text}"


# What is done to the folder; the line of train.py and of python -m metrics that refuses it, or READ; what else is said.
FOLDERS = {
    "an empty file": (writes("c.png", b""), line("c.png (an empty file)"), ""),
    "a web page": (writes("c.jpg", b"<html>"), line(f"c.jpg ({NOT_AN_IMAGE})"), ""),
    "a header alone": (writes("c.png", b"\x89PNG\r\n\x1a\n"), line(f"c.png ({NOT_AN_IMAGE})"), ""),
    "a cut PNG": (cut, line("a/0.png (image file is truncated", 8), ""),
    "a cut JPEG": (cut_jpeg, line("c.jpg (image file is truncated"), ""),
    "a dangling link": (dangling, line("c.png (no such file)"), ""),
    "floats that are no image": (floats_beyond_bytes, line("c.tif (floating-point values must lie within"), ""),
    "four bad ones": (
        four_bad_ones,
        "photos: 4 of 12 images cannot be read: c.png (an empty file), d.gif (an empty file), e.tif (an empty file) "
        "and 1 more; --skip-bad-images leaves them out",
        "",
    ),
    "all bad": (all_bad, "photos: 8 of 8 images cannot be read: a/0.png (an empty file), a/2.png", ""),
    "no images": (emptied, "images in it", "it has 8 .heic"),
    "16 bits": (deep, READ, ""),
    "32-bit floats": (saved("c.tif", "F", 200.0), READ, ""),
    "one bit": (saved("c.png", "1", 1), READ, ""),
    "a palette with transparency": (saved("c.png", "P", 0, transparency=0), READ, ""),
    "grey and alpha": (saved("c.png", "LA", (9, 9)), READ, ""),
    "CMYK": (saved("c.jpg", "CMYK", (1, 2, 3, 4)), READ, ""),
    "Lab": (saved("c.tif", "LAB", (1, 2, 3)), READ, ""),
    "an animation": (animated, READ, ""),
    "a damaged EXIF": (saved("c.png", "RGB", "red", exif=b"Exif\0\0garbage"), READ, ""),
    "upper case": (saved("C.PNG", "RGB", "red"), READ, ""),
    "other files": (writes("c.heic", b"?"), READ, "photos: left out: 1 .heic"),
    "a caption without its image": (writes("gone.txt", b"a"), READ, "photos: left out: 1 .txt"),
    "a caption beside its image": (writes("a/0.txt", b"a"), READ, ""),
    "hidden files": (writes(".cache/c.png", b""), READ, ""),
    "a name that macOS wrote": (hangul, READ, ""),
}
# Of tables that lie in the folder: train.py alone reads these by itself.
TABLES = {
    "Hugging Face's": ("metadata.csv", "file_name,text\na/0.png,a\n", READ, ""),
    "Hugging Face's, by lines": ("metadata.jsonl", '{"file_name": "a/0.png", "text": "a"}\n', READ, ""),
    "of Windows": ("captions.csv", "image_path,text_en\na\\0.png,a\n", READ, ""),
    "of labels": ("metadata.csv", "file_name,label\na/0.png,3\n", READ, "photos: left out: 1 .csv"),
    "of gone images": (
        "captions.csv",
        "image_path,text_en\na/0.png,a\n0.png,b\nx.png,c\n",
        READ,
        "captions.csv: 2 of 3 captions match no image (first: 0.png)",
    ),
    "of Excel": (
        "captions.csv",
        "image_path,text_en\na/0.png,그림\n".encode("cp949"),
        "photos/captions.csv: not UTF-8 text (byte 27); save it as UTF-8",
        "",
    ),
    "of other columns": (
        "captions.csv",
        "path,caption\na/0.png,a\n",
        "photos/captions.csv: no column image_path (it needs image_path and text_en, or file_name and text)",
        "",
    ),
}


def check(code: int, err: str, refused: str, said: str) -> None:
    lines = [one for one in err.splitlines() if not one.startswith("warning: ")]
    if refused == READ:
        assert (code, lines) == (0, []) and said in err
    else:
        assert code == 2 and len(lines) == 1 and refused in lines[0] and said in lines[0]
        assert ("--skip-bad-images leaves" in lines[0]) == ("cannot be read: " in refused)


@pytest.mark.parametrize("kind", FOLDERS)
def test_train_reads_a_folder_or_refuses_it_in_a_line(kind, photos, call):
    change, refused, said = FOLDERS[kind]
    change(photos)
    done = call("train.py", "--images", "photos", *ALONE, *SMALL)
    check(done.returncode, done.stderr, refused, said)
    assert done.returncode or ("left out" in done.stderr) == bool(said)


@pytest.mark.parametrize("kind", FOLDERS)
def test_metrics_read_a_folder_or_refuse_it_in_a_line(kind, photos, monkeypatch, capsys):
    change, refused, said = FOLDERS[kind]
    change(photos)
    monkeypatch.chdir(photos.parent)
    code = metrics_main(["photos", "--references", "photos", "--metrics", "psnr", "--json"])
    out, err = capsys.readouterr()
    check(code, err, refused, "" if refused == READ else said)
    if code == 0:
        report = json.loads(out)
        others = "photos: left out: 1 .csv" if kind == "a name that macOS wrote" else said
        assert report["psnr"] == 100 and report["notes"] == ([others] if others else [])


@pytest.mark.parametrize("kind", TABLES)
def test_train_reads_a_table_of_captions_or_refuses_it_in_a_line(kind, photos, call):
    name, content, refused, said = TABLES[kind]
    (photos / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = call("train.py", "--images", "photos", *ALONE, *SMALL)
    check(done.returncode, done.stderr, refused, said)


def test_a_training_that_skips_bad_images_resumes_and_is_tested_on_the_same_rows(photos, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    four_bad_ones(photos)
    flags = ("--eval-every", 0, "--val-fraction", 0.4, *SMALL)
    done = call("train.py", "--images", "photos", "--skip-bad-images", *flags)
    assert done.returncode == 0 and "photos: 4 of 12 images cannot be read: c.png" in done.stderr
    (experiment,) = tmp_path.glob("checkpoints/[!.]*/")
    config = json.loads((experiment / "config.json").read_text())
    assert config["skip_bad_images"] is True and config["data"]["rows"] == 8
    assert config["data"]["fingerprint"] == open_images("photos", 16, skip_bad_images=True).fingerprint
    resumed = call("train.py", "--resume", experiment.name[:8], "--epochs", 1)
    assert resumed.returncode == 0 and "photos: 4 of 12 images cannot be read" in resumed.stderr
    tested = call("test.py", "--k", 1, "--json")
    assert tested.returncode == 0, tested.stderr
    # An image that could be read and no longer can be is no row of this experiment.
    (photos / "a" / "0.png").write_bytes(b"")
    lost = call("train.py", "--resume", experiment.name[:8], "--epochs", 2)
    assert lost.returncode == 2 and "fingerprint mismatch" in lost.stderr


def test_a_training_that_did_not_skip_is_not_made_to(photos, call, tmp_path):
    assert call("train.py", "--images", "photos", *ALONE, *SMALL).returncode == 0
    (experiment,) = tmp_path.glob("checkpoints/[!.]*/")
    done = call("train.py", "--resume", experiment.name, "--skip-bad-images", "--epochs", 1)
    assert done.returncode == 2 and "leave --skip-bad-images out to resume it" in done.stderr
    refused = call("train.py", "--skip-bad-images", *SMALL)
    assert refused.returncode == 2
    assert refused.stderr == "train.py: --skip-bad-images is for images: leave it out without --images\n"
    writes("c.png", b"")(photos)
    for script, *flags in (("train.py", "--resume", experiment.name, "--epochs", 1), ("test.py", "--data", "photos")):
        done = call(script, *flags)
        said = [line for line in done.stderr.splitlines() if not line.startswith("reading")]
        assert done.returncode == 2 and [one.replace(f"{tmp_path}/", "") for one in said] == [
            f"{script}: photos: 1 of 9 images cannot be read: c.png (an empty file)"
        ]

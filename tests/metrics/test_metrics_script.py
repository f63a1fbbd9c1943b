"""python -m metrics, as a person runs it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from no_network import no_weights
from PIL import Image
from wcwidth import wcswidth

from metrics.__main__ import main
from metrics.printed import table


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """generated/ and references/ of three pictures each, and captions.csv."""
    random = np.random.default_rng(0)
    for folder in ("generated", "references"):
        (tmp_path / folder).mkdir()
        for place in range(3):
            pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{place}.png")
    lines = ["image_path,text_en", *(f'generated/{place}.png,"one, two"' for place in range(3))]
    (tmp_path / "captions.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_of_two_folders(folders, capsys):
    assert main(["generated", "--references", "references", "--json", "--metrics", "psnr", "ssim"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = json.loads(out)
    assert report["num_images"] == 3 and 5 < report["psnr"] < 12 and -1 <= report["ssim"] <= 1


def test_folders_and_captions_may_lie_at_home(folders, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(folders))
    monkeypatch.setenv("USERPROFILE", str(folders))
    # After a sign of equality no shell expands them.
    flags = ["~/generated", "--references=~/references", "--prompts=~/captions.csv", "--metrics", "psnr", "--json"]
    assert main(flags) == 0 and json.loads(capsys.readouterr().out)["num_references"] == 3


def test_wrong_input_as_a_person_meets_it(folders):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "metrics", "gone"], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "python -m metrics: gone: no such folder of images\n")


def test_a_table_for_people(folders, capsys):
    assert main(["generated", "--references", "references", "--metrics", "psnr", "clip_score"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("psnr ") and lines[0].endswith("higher is better")
    assert " ± " in lines[0] and "psnr_se" not in out
    assert any(line.startswith("clip_score") and line.endswith("left out: it needs prompts") for line in lines)


def test_values_of_too_few_images_are_marked_and_left_out_where_asked_for(folders, capsys):
    (folders / "my_score_for_test.py").write_text(
        "import torch\nfrom metrics import InceptionScore, register\n"
        "class Mine(InceptionScore):\n"
        "    def __init__(self):\n"
        "        super().__init__(extractor=lambda images: images.float().mean((2, 3)))\n"
        "register('mine', Mine, True, weight=1.0)\n"
    )
    from metrics import unregister

    flags = ["generated", "--import", "my_score_for_test", "--metrics", "mine"]
    try:
        assert main([*flags, "--guard"]) == 0
        out = capsys.readouterr().out
        assert out.splitlines()[0].endswith("higher is better *")
        assert "mine (below its floor of 1000 images)" in " ".join(out.split())
        assert "\ncomposite_score " in out.replace(" - ", "")
        for more in ([], ["--no-guard"]):
            assert main([*flags, *more, "--json"]) == 0
            report = json.loads(capsys.readouterr().out)
            assert report["composite_score"] == 1.0 and report["below_floor"] == {"mine": 1000}
    finally:
        unregister("mine")


def test_a_metric_of_ones_own_is_in_the_table_and_the_json(folders, capsys):
    (folders / "my_metric_for_test.py").write_text(
        "from metrics import register\n"
        "register('mine', lambda images, references, prompts: len(prompts[0]) + 0.5, False, weight=-1.0)\n"
        "register('endless', lambda *_: float('inf'), True)\n"
    )
    flags = ["generated", "--prompts", "captions.csv", "--import", "my_metric_for_test"]
    from metrics import unregister

    try:
        assert main([*flags, "--metrics", "mine"]) == 0
        assert "mine                   8.5000  lower is better" in capsys.readouterr().out
        assert main([*flags, "--metrics", "mine", "endless", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["mine"] == 8.5 and report["endless"] is None and report["composite_score"] == -1
    finally:
        unregister("mine")
        unregister("endless")


def test_names_that_do_not_pair(folders, capsys):
    (folders / "references" / "1.png").rename(folders / "references" / "other.png")
    assert main(["generated", "--references", "references", "--metrics", "ssim"]) == 2
    error = capsys.readouterr().err
    assert "references/1.png: no such reference" in error and error.count("\n") == 1


def test_references_beyond_the_pairs_are_ignored_by_pairs(folders, capsys):
    Image.new("RGB", (9, 9)).save(folders / "references" / "0more.png")
    assert main(["generated", "--references", "generated", "--metrics", "psnr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] == 100
    assert main(["generated", "--references", "references", "--metrics", "psnr", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_references"] == 4 and report["psnr"] < 12


def broken_image(folder):
    (folder / "generated" / "1.png").write_bytes(b"no picture")


def empty_folder(folder):
    for path in (folder / "generated").iterdir():
        path.unlink()


def caption_gone(folder):
    lines = (folder / "captions.csv").read_text().splitlines()
    (folder / "captions.csv").write_text("\n".join(lines[:-1]))


def second_caption(folder):
    with open(folder / "captions.csv", "a") as file:
        file.write("\ngenerated/0.png,other\n")


def other_columns(folder):
    (folder / "captions.csv").write_text("path,text_en\n")


def two_of_a_name(folder):
    text = (folder / "captions.csv").read_text()
    (folder / "captions.csv").write_text(text.replace("generated/1.png", "a/1.png") + "\nb/1.png,other\n")


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("damage", "flags", "message"),
    [
        (broken_image, (), "generated: 1 of 3 images cannot be read: 1.png (not a PNG"),
        (empty_folder, (), "generated: no images in it"),
        (caption_gone, ("--metrics", "clip_score"), "generated/2.png: no caption, and clip_score compares each image"),
        (two_of_a_name, (), "captions.csv: generated/1.png may be a/1.png or b/1.png: both have its name"),
        (second_caption, (), "line 5: a second caption for generated/0.png"),
        (other_columns, (), "no column image_path"),
        (nothing, ("--references", "gone"), "gone: no such folder"),
        (nothing, ("--metrics", "fidd"), "no metric has the name 'fidd'"),
        (nothing, ("--metric", "fid"), "unrecognized arguments: --metric"),
        (nothing, ("--batch-size", "0"), "at least 1"),
        (nothing, ("--batch-size", "x"), "invalid int value"),
        (nothing, ("--device", "abacus"), "device abacus"),
        (nothing, ("--lpips-net", "resnet"), "invalid choice"),
        (nothing, ("--import", "no_such_module_here"), "no such module"),
        (nothing, ("--metrics", "lpips", "--references", "references", "--lpips-weights", "gone.pth"), "no such file"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(folders, capsys, damage, flags, message):
    damage(folders)
    metrics = () if "--metrics" in flags else ("--metrics", "psnr")
    try:
        code = main(["generated", "--prompts", "captions.csv", *metrics, *flags])
    except SystemExit as leave:
        code = leave.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as leave:
        main(["--help"])
    assert leave.value.code == 0 and "Examples:" in capsys.readouterr().out


def report_of(capsys, *flags):
    assert main(["generated", *flags, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


@pytest.fixture
def lengths():
    """A metric: the lengths of the captions that it got, in the order of the images, as one number."""
    from metrics import register, unregister

    register("lengths", lambda _, __, prompts: float("".join(str(len(text)) for text in prompts or ["0"])), True)
    yield
    unregister("lengths")


@pytest.mark.parametrize(
    "rows",
    [
        "generated/0.png,a\ngenerated/1.png,bb\ngenerated/2.png,ccc",
        "references/0.png,a\nreferences/1.png,bb\nreferences/2.png,ccc",
        "photos\\0.jpg,a\nphotos\\1.jpg,bb\nphotos\\2.jpg,ccc",
        # The file name is nearer than its stem; the path of an image nearer than its name.
        "x/0.jpg,dddd\nx/0.png,a\nx/1.png,bb\ngenerated/2.png,ccc\nx/2.png,dddd",
    ],
)
def test_captions_belong_to_the_image_of_their_name(folders, capsys, lengths, rows):
    (folders / "captions.csv").write_text(f"image_path,text_en\n{rows}\n")
    report = report_of(capsys, "--prompts", "captions.csv", "--metrics", "lengths")
    assert report["lengths"] == 123
    named = "x/0.jpg" if "x/0.jpg" in rows else None
    assert [note for note in report["notes"] if "match no image" in note] == (
        [f"captions.csv: 2 of 5 captions match no image (first: {named})"] if named else []
    )


def test_subfolders_are_part_of_a_name(folders, capsys, lengths):
    for folder in ("a", "b"):
        (folders / "generated" / folder).mkdir()
        (folders / "generated" / folder / "0.png").write_bytes((folders / "generated" / "0.png").read_bytes())
    rows = "r/a/0.png,a\nr/b/0.png,bb\ngenerated/0.png,ccc\n1.png,dddd\n2.png,eeeee"
    (folders / "captions.csv").write_text(f"image_path,text_en\n{rows}\n")
    report = report_of(capsys, "--prompts", "captions.csv", "--metrics", "lengths")
    assert report["lengths"] == 34512 and not [note for note in report["notes"] if "caption" in note]


def test_an_image_without_caption_leaves_out_the_clip_score_alone(folders, capsys):
    caption_gone(folders)
    report = report_of(capsys, "--references", "references", "--prompts", "captions.csv", "--metrics", "psnr", "ssim")
    assert report["left_out"].keys() == {"composite_score"}
    with pytest.MonkeyPatch.context() as patch:
        no_weights(patch, folders)
        report = report_of(capsys, "--references", "references", "--prompts", "captions.csv")
    assert report["left_out"]["clip_score"] == "1 of 3 images have no caption (first: 2.png)" and report["psnr"] > 5


def test_bad_images_that_are_skipped_leave_pairs_and_captions_as_they_were(folders, capsys, lengths):
    for folder in ("generated", "references"):
        for name in ("3.png", "4.png"):
            (folders / folder / name).write_bytes((folders / folder / "0.png").read_bytes())
    with open(folders / "captions.csv", "w") as file:
        file.write("image_path,text_en\n" + "".join(f"generated/{place}.png,{'x' * place}x\n" for place in range(5)))
    flags = ("--references", "references", "--prompts", "captions.csv", "--metrics", "lengths", "psnr")
    assert report_of(capsys, *flags)["lengths"] == 12345
    (folders / "generated" / "1.png").write_bytes(b"")
    (folders / "references" / "3.png").write_bytes(b"GIF89a")
    assert main(["generated", *flags]) == 2
    assert capsys.readouterr().err == (
        "python -m metrics: generated: 1 of 5 images cannot be read: 1.png (an empty file); references: 1 of 5 images "
        "cannot be read: 3.png (not a PNG, JPEG, WEBP, BMP, TIFF or GIF); --skip-bad-images leaves them out\n"
    )
    skipped = report_of(capsys, *flags, "--skip-bad-images")
    assert (skipped["lengths"], skipped["num_images"], skipped["num_references"]) == (135, 3, 4)
    assert skipped["notes"][:3] == [
        "generated: 1 of 5 images cannot be read: 1.png (an empty file); left out",
        "references: 1 of 5 images cannot be read: 3.png (not a PNG, JPEG, WEBP, BMP, TIFF or GIF); left out",
        "generated: 1 more left out, whose references cannot be read",
    ]
    for folder in ("generated", "references"):
        for name in ("1.png", "3.png"):
            (folders / folder / name).unlink()
    assert report_of(capsys, *flags)["psnr"] == skipped["psnr"]


def test_a_folder_of_bad_images_alone_is_an_error_even_if_they_are_skipped(folders, capsys):
    for place in range(3):
        (folders / "generated" / f"{place}.png").write_bytes(b"")
    assert main(["generated", "--skip-bad-images"]) == 2
    assert capsys.readouterr().err.endswith("generated: none of its 3 images can be used: all are left out\n")


def test_other_files_are_counted(folders, capsys):
    for name in ("a.heic", "b.heic", "0.txt", "captions.csv"):
        (folders / "generated" / name).write_text("file_name,text\n0.png,a\n1.png,b\n2.png,c\n")
    report = report_of(capsys, "--prompts", "generated/captions.csv", "--metrics", "psnr")
    assert report["notes"] == ["generated: left out: 2 .heic"]


def test_the_table_of_all_metrics_fits_80_columns(folders, capsys, monkeypatch):
    no_weights(monkeypatch, folders)
    (folders / "generated" / ("long_name_" * 6 + ".png")).write_bytes(b"")
    assert main(["generated", "--references", "references", "--prompts", "captions.csv", "--skip-bad-images"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20 and max(map(len, lines)) <= 80
    fid, lpips = (next(line for line in lines if line.startswith(name)) for name in ("fid", "lpips"))
    assert fid.endswith("left out, as inception_score") and lpips.endswith(
        "left out: its weights are not on this machine,"
    )


def test_wide_letters_take_two_columns_and_paths_are_broken_only_where_no_line_holds_them():
    report = {"left_out": {"fid": "그림 " * 30}, "below_floor": {}, "notes": ["n" * 90], "num_images": 1}
    report |= {"num_references": 0, "weights": {"fid": {"source": "/a-b" * 15, "sha256": "0" * 64}}}
    lines = table(report)
    assert max(map(wcswidth, lines)) <= 80
    assert f"weights of fid: {'/a-b' * 15}" in lines


def test_a_name_that_is_not_utf8_is_shown_by_its_bytes(folders, capsys):
    (folders / "generated" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    flags = ["generated", "--references", "references", "--metrics", "psnr", "--skip-bad-images"]
    assert main(flags) == 0
    assert "note: generated: 1 of 4 images cannot be read: caf\\udce9.png (an empty" in capsys.readouterr().out
    assert main([*flags, "--json"]) == 0
    (note, *_) = json.loads(capsys.readouterr().out)["notes"]
    assert note == "generated: 1 of 4 images cannot be read: caf\udce9.png (an empty file); left out"

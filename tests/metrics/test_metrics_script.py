"""python -m metrics, as a person runs it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from metrics.__main__ import main


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
        assert "mine (below its floor of 1000 images)" in out and "\ncomposite_score " in out.replace(" - ", "")
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


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("damage", "flags", "message"),
    [
        (broken_image, (), "generated/1.png: cannot be read as an image"),
        (empty_folder, (), "generated: no images in it"),
        (caption_gone, (), "generated/2.png: no caption in captions.csv"),
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

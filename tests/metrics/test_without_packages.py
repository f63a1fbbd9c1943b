"""An environment of vectors alone: the packages of the extra `images` are not installed."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

from metrics import PSNR, Unavailable
from metrics.extra import PACKAGES, images_extra

NEEDED = "it needs pip install 'dploss[images]'"
# A process of its own: in this one the packages are imported already.
SCRIPT = f"""
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {PACKAGES!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import dploss, metrics
from dploss.commands import test, train
from metrics.__main__ import main

small = ["--limit", "60", "--epochs", "0", "--latent-dim", "4", "--val-fraction", "0.2", "--no-tensorboard", "--quiet"]
assert train.main([*small, "--hidden-dims", "8"]) == 0
assert not {{*{PACKAGES!r}}} & {{name.split(".")[0] for name in sys.modules}}
assert train.main(["--images", "builtin", "--image-size", "16", *small]) == 0
assert main(["images", "--references", "images", "--prompts", "captions.csv", "--json"]) == 0
"""


def test_all_works_but_the_metrics_that_need_them(tmp_path):
    (tmp_path / "images").mkdir()
    for name in "abc":
        Image.new("RGB", (32, 32), "red").save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "captions.csv").write_text("file_name,text\nimages/a.png,a\nimages/b.png,b\nimages/c.png,c\n")
    command = [sys.executable, "-c", SCRIPT]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "composite_score cannot be measured" in done.stderr and f"psnr, ssim: {NEEDED}" in done.stderr
    report = json.loads(done.stdout[done.stdout.index("{") :])
    reasons = {name: reason for name, reason in report["left_out"].items() if name != "composite_score"}
    assert len(reasons) == 13 and {*reasons.values()} == {NEEDED}


def test_a_package_that_is_missing_is_a_reason_and_any_other_a_fault():
    with pytest.raises(Unavailable, match="pip install 'dploss"), images_extra():
        raise ModuleNotFoundError("no", name="torchvision.models")
    for name in ("torch", None):
        with pytest.raises(ModuleNotFoundError), images_extra():
            raise ModuleNotFoundError("no", name=name)


def test_a_metric_alone_says_so_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(Unavailable, match="pip install 'dploss"):
        PSNR().measure(Image.new("RGB", (9, 9)), Image.new("RGB", (9, 9)))

"""The wheel, installed by pip in an environment without the packages of the extras, as dploss."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

# What the extras bring; see pyproject.toml.
EXTRAS = {"faiss", "lpips", "onnx", "onnxruntime", "onnxscript", "open_clip", "ray", "sentence_transformers", "timm"}
EXTRAS |= {"torch_fidelity", "torchmetrics", "torchvision", "transformers", "diffusers", "accelerate"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def dploss(wheel, tmp_path_factory):
    """Run the command of a new environment in a folder: dploss(folder, "train", ...)."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    scripts = home / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # Everything else that this environment has is there, behind the new one's own packages.
    others = home / "others"
    others.mkdir()
    for package in Path(np.__path__[0]).parent.iterdir():
        if package.name.split("-")[0] not in EXTRAS:
            (others / package.name).symlink_to(package)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    Path(site, "others.pth").write_text(f"{others}\n", encoding="utf-8")

    def run(folder, *argv):
        return subprocess.run([scripts / "dploss", *argv], cwd=folder, capture_output=True, text=True, timeout=300)

    return run


def test_it_holds_the_packages_their_types_and_the_built_in_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = (f"dploss/data/builtin/wordnet_mpnet_768{end}" for end in (".parquet", "_queries.parquet", "_qrels.tsv"))
    assert {"dploss/py.typed", "metrics/py.typed", *data} <= names
    # Nothing beside them, which would be everyone's `tests` or `train`.
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dploss", "metrics"}


def test_it_trains_tests_and_encodes_without_the_extras(dploss, tmp_path):
    trained = dploss(tmp_path, "train", "--limit", "300", "--epochs", "1", "--latent-dim", "16", "--hidden-dims", "32")
    assert trained.returncode == 0 and "held-out recall@5" in trained.stderr
    tested = dploss(tmp_path, "test", "--k", "5")
    assert tested.returncode == 0 and "PCA, renormalised" in tested.stdout
    rows = np.random.default_rng(0).normal(size=(20, 768)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    assert dploss(tmp_path, "encode", "rows.npy", "short.npy", "--quiet").stdout == "short.npy\n"
    assert np.load(tmp_path / "short.npy").shape == (20, 16)


def test_its_messages_name_the_command(dploss, tmp_path):
    empty = dploss(tmp_path, "plot")
    assert (empty.returncode, empty.stdout) == (2, "")
    expected = (
        "dploss plot: no experiment in checkpoints: dploss train makes one, --checkpoints-dir names another folder"
    )
    assert empty.stderr == f"{expected}\n"
    unknown = dploss(tmp_path, "trian")
    assert (unknown.returncode, unknown.stderr) == (2, "dploss: no command 'trian'; did you mean train?\n")
    shown = dploss(tmp_path, "encode", "--help").stdout
    assert shown.startswith("usage: dploss encode") and "encode.py" not in shown

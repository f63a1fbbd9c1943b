"""A shared folder gives the encoder back to the last bit, says what it preserves, and nothing that is private."""

import json
import re

import numpy as np
import pytest
import torch
from codes.fitted import DIM, fitted, rows_for
from no_network import no_weights

import dploss
from dploss.codes.build import ALL_CODES
from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.experiments.catalog import list_experiments
from dploss.experiments.checkpoints import CheckpointManager, load_checkpoint
from dploss.experiments.history import TrainHistory
from dploss.training.launch import new_experiment


@pytest.fixture(scope="module")
def saved(trained):
    """A folder of an experiment, and the content of its best.pt."""
    folder = list_experiments(trained)[0][0].folder
    return folder, load_checkpoint(folder / "best.pt")


def written(folder, checkpoint, encoder, **settings):
    """A checkpoint of another encoder than the experiment's."""
    config = {**checkpoint["config"], "hidden_dims": list(encoder.hidden_dims), "metric": encoder.metric}
    config |= {"input_dim": encoder.input_dim, "latent_dim": encoder.latent_dim, **settings}
    code = {} if encoder.code is None else {"code": encoder.code.state_dict()}
    manager = CheckpointManager(folder, "one")
    manager.folder.mkdir()
    return manager.save_latest({**checkpoint, "model_state_dict": encoder.state_dict(), "config": config, **code})


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("hidden_dims", [(), (8,), (8, 6)])
def test_latents_are_the_same_to_the_last_bit(hidden_dims, metric, saved, builtin, tmp_path):
    torch.manual_seed(0)
    encoder = dploss.DPEncoder(768, hidden_dims, 16, metric)
    encoder.length_power.fill_(0.7)
    path = written(tmp_path, saved[1], encoder, matryoshka=True, matryoshka_dims=[4, 8, 16])
    loaded = dploss.load_encoder(dploss.share(path, tmp_path / "shared"))
    assert not loaded.training and loaded.dims == (4, 8, 16)
    for dim in loaded.dims:
        expected = encoder.encode(builtin, dim=dim, any_dim=True)
        np.testing.assert_array_equal(loaded.encode(builtin, dim=dim), expected)
    header = (tmp_path / "shared/README.md").read_text().split("---")[1]
    assert "- matryoshka\n" in header and "quantization" not in header


@pytest.mark.parametrize("name", ALL_CODES)
def test_codes_are_the_same_to_the_last_bit(name, saved, tmp_path):
    torch.manual_seed(0)
    encoder = dploss.DPEncoder(DIM, (8,), DIM)
    encoder.code = fitted(name)
    loaded = dploss.load_encoder(dploss.share(written(tmp_path, saved[1], encoder), tmp_path / "shared"))
    rows = rows_for(name, 300, seed=1)
    codes = encoder.encode_to_codes(rows)
    np.testing.assert_array_equal(loaded.encode_to_codes(rows), codes)
    np.testing.assert_array_equal(loaded.code.decode(codes), encoder.code.decode(codes))
    expected = encoder.code.arrays()
    assert loaded.code.name == name and {*loaded.code.arrays()} == {*expected}
    for key, array in loaded.code.arrays().items():
        assert array.dtype == expected[key].dtype
        np.testing.assert_array_equal(array, expected[key])
    assert "- quantization\n" in (tmp_path / "shared/README.md").read_text()


def test_encoders_of_images_are_shared_too(tmp_path, monkeypatch):
    no_weights(monkeypatch, tmp_path)
    settings = {"images": "builtin", "image_size": 16, "limit": 80, "latent_dim": 8, "epochs": 0, "eval_every": 0}
    run = new_experiment(TrainConfig(**settings, quiet=True, checkpoints_dir=str(tmp_path / "checkpoints")))
    run.run()
    loaded = dploss.load_encoder(dploss.share(run.folder, tmp_path / "shared"))
    images = np.random.default_rng(0).random((5, 768)).astype(np.float32)
    latents = run.encoder.eval().encode(images)
    np.testing.assert_array_equal(loaded.encode(images), latents)
    assert torch.equal(loaded.decode(torch.from_numpy(latents)), run.encoder.decode(torch.from_numpy(latents)))
    assert "# Encoder of images: 768 dimensions → 8 dimensions" in (tmp_path / "shared/README.md").read_text()


def test_the_folder_holds_no_pickle_no_state_of_the_training_and_no_path(saved, tmp_path):
    _, checkpoint = saved
    private = {"path": "/home/ann/secret project/vectors.npy", "rows": 400, "fingerprint": "sha256:0"}
    weights = "C:\\Users\\ann\\alex.pth"
    config = {**checkpoint["config"], "data": private, "lpips_weights": weights, "column": "meta/embedding"}
    manager = CheckpointManager(tmp_path, "one")
    manager.folder.mkdir()
    path = manager.save_latest({**checkpoint, "config": {**config, "checkpoints_dir": "/home/ann/runs/"}})
    shared = dploss.share(path, tmp_path / "new" / "shared")
    files = {one.name: one.read_bytes() for one in shared.iterdir()}
    assert {*files} == {"README.md", "config.json", "model.safetensors"}
    assert not any(b"ann" in content or b"secret" in content for content in files.values())
    stored = json.loads(files["config.json"])
    assert stored["data"]["path"] == "vectors.npy" and stored["lpips_weights"] == "alex.pth"
    assert (stored["checkpoints_dir"], stored["column"], stored["epoch"]) == ("runs", "meta/embedding", 4)
    size = sum(one.nbytes for one in checkpoint["model_state_dict"].values())
    assert len(files["model.safetensors"]) < size + 2000


def test_the_card_has_the_recalls_that_were_measured(saved, tmp_path):
    folder, checkpoint = saved
    history = TrainHistory.from_dict(checkpoint["train_history"])
    card = (dploss.share(folder, tmp_path / "shared") / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: dploss\ntags:\n- dploss\n")
    assert f"still the nearest, on {history.recall_rows} held-out rows" in card
    assert f"| this encoder | {history.recall_history[-1]:.4f} |" in card
    for name, value in history.baselines().items():
        assert f"| {name} | {value:.4f} |" in card
    assert "a slight optimistic bias" in card and "| trained on | 360 rows of `builtin` |" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {"vectors": np.ones((3, 768), np.float32)}
    exec(code.replace("path/to/this/folder", str(tmp_path / "shared")), names)
    assert names["latents"].shape == (3, 16)


def test_the_hub_reads_the_header(saved, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(dploss.share(saved[0], tmp_path / "shared") / "README.md")
    assert card.data.library_name == "dploss" and "nearest-neighbors" in card.data.tags and card.data.license is None


def test_weights_whose_recall_was_not_measured_say_so(saved, tmp_path):
    _, checkpoint = saved
    manager = CheckpointManager(tmp_path, "one")
    manager.folder.mkdir()
    path = manager.save_latest({**checkpoint, "epoch": 3})
    assert "Recall was not measured of these weights." in (dploss.share(path, tmp_path / "s") / "README.md").read_text()


def test_a_stored_form_is_beside_what_is_not_stored(tmp_path):
    settings = {"limit": 400, "bytes": 8, "hidden_dims": (16,), "quiet": True}
    run = new_experiment(TrainConfig(**settings, checkpoints_dir=str(tmp_path / "checkpoints")))
    history = run.run()
    card = (dploss.share(run.folder, tmp_path / "shared") / "README.md").read_text()
    assert "# Encoder of embedding vectors: 768 dimensions → 8 bytes" in card
    named = {
        "start, stored in as many bytes": history.start_recall,
        "PCA, int8, stored in as many bytes": history.pca_int8_recall,
        "PCA, renormalised, not stored but as float32": history.pca_renormalised_recall,
    }
    assert all(f"| {name} | {value:.4f} |" in card for name, value in named.items())
    assert re.search(r"\| this encoder, stored in 8 bytes \| 0\.\d{4} \|", card)


def test_nothing_is_written_over(saved, tmp_path):
    shared = dploss.share(saved[0], tmp_path / "shared")
    (shared / "README.md").write_text("filled in")
    with pytest.raises(InputError, match=r"shared: model\.safetensors is in it already; name a new folder"):
        dploss.share(saved[0], shared)
    with pytest.raises(InputError, match="shared: it is shared already: copy the folder"):
        dploss.share(shared, tmp_path / "again")
    with pytest.raises(InputError, match=r"config\.json is in it already"):
        dploss.share(saved[0], saved[0])
    assert (shared / "README.md").read_text() == "filled in" and not (tmp_path / "again").exists()


def test_a_full_disk_leaves_nothing(saved, tmp_path, monkeypatch):
    real = dploss.experiments.shared.atomic_write

    def atomic_write(path):
        if path.name == "model.safetensors":
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr("dploss.experiments.shared.atomic_write", atomic_write)
    with pytest.raises(OSError, match="No space left"):
        dploss.share(saved[0], tmp_path / "shared")
    assert not list((tmp_path / "shared").iterdir())


def test_a_folder_that_was_tampered_with_is_named(saved, tmp_path):
    shared = dploss.share(saved[0], tmp_path / "shared")
    config = json.loads((shared / "config.json").read_text())

    def refused(message, **changes):
        (shared / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(InputError, match=message):
            dploss.load_encoder(shared)

    refused("weights do not fit the config", latent_dim=8)
    refused("its epoch is a str", epoch="4")
    refused("its stored_code is no object", stored_code=3)
    refused("no code None of None bytes", stored_code={})
    refused("weights do not fit the config", stored_code={"name": "trellis", "bytes": 4})
    (shared / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not of a shared encoder of dploss, it lacks epoch, step, stored_code"):
        dploss.load_encoder(shared)
    (shared / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        dploss.load_encoder(shared)


def test_the_script_shares_the_newest_or_a_named_experiment(checkpoints, call, builtin, tmp_path):
    newest, *_, oldest = (one.folder for one in list_experiments(checkpoints)[0])
    done = call("share.py", "mine")
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr
    assert done.stderr == "fill in README.md, then: hf upload OWNER/NAME mine\n"
    assert call("share.py", "other", "--experiment_id", oldest.name[:8]).returncode == 0
    for folder, experiment in (("mine", newest), ("other", oldest)):
        expected = dploss.load_encoder(experiment / "best.pt").encode(builtin)
        np.testing.assert_array_equal(dploss.load_encoder(tmp_path / folder).encode(builtin), expected)
    again = call("share.py", "mine")
    assert again.returncode == 2 and again.stderr.startswith("share.py: mine: model.safetensors is in it already")


def test_the_scripts_take_a_shared_folder(checkpoints, call, tmp_path):
    assert call("share.py", "mine").returncode == 0
    done = call("encode.py", "builtin", "short.npy", "--checkpoint", "mine", "--quiet")
    assert done.returncode == 0, done.stderr
    assert call("encode.py", "builtin", "same.npy", "--quiet").returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "short.npy"), np.load(tmp_path / "same.npy"))
    flags = ("--rows", 200, "--k", 5, "--json")
    shared, own = (json.loads(call("test.py", *more, *flags).stdout) for more in (("--checkpoint", "mine"), ()))
    assert shared["methods"]["encoder"] == own["methods"]["encoder"] and shared["epoch"] == own["epoch"]

"""examples/train_hunyuandit.py on the real classes of diffusers and transformers, small and with random weights."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import train_hunyuandit
from accelerate.state import AcceleratorState
from conftest import ROOT, assets
from diffusers import HunyuanDiT2DModel, HunyuanDiTPipeline
from filelock import FileLock
from hunyuandit.checkpoints import Checkpoints
from hunyuandit.data import Order, read_captioned
from hunyuandit.flags import parser
from hunyuandit.model import denoising_loss, generator_of
from hunyuandit.tiny import tiny_pipeline
from no_network import no_weights
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dploss import open_images
from metrics import InputError, unregister

SIZE = 32
SMALL = ("--tiny", "--image-size", SIZE, "--ckpt-every", 2, "--num-evaluation-samples", 3, "--sampling-steps", 2)
SMALL += ("--batch-size", 2, "--gradient-accumulation", 2, "--seed", 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six captioned photographs: photos/*.png with .txt beside them, and captions.csv."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "photos").mkdir()
    images = open_images("builtin", image_size=40)
    rows = []
    for number, row in enumerate(np.linspace(0, len(images.rows) - 1, 6).astype(int)):
        name, caption = f"photos/{number}.png", f"{images.captions[row]}, piece {number}"
        pixels = images.rows[row].reshape(3, 40, 40).transpose(1, 2, 0)
        Image.fromarray((255 * pixels).astype(np.uint8)).save(folder / name)
        (folder / name).with_suffix(".txt").write_text(caption)
        rows.append((name, caption))
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image_path", "text_en"), *rows])
    return folder


@pytest.fixture(autouse=True)
def out_of_reach(monkeypatch, tmp_path):
    no_weights(monkeypatch, tmp_path)


def main(*flags) -> int:
    """train_hunyuandit.main; its exit code."""
    AcceleratorState._reset_state(True)
    try:
        return train_hunyuandit.main([str(flag) for flag in flags])
    except SystemExit as leaving:
        return leaving.code


def without_network(folder: Path) -> dict[str, str]:
    """The environment of a process that finds no weights: nothing listens there, and the caches are empty."""
    return {**os.environ, "https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(folder), "HF_HOME": str(folder)}


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> Path:
    """A training from its first to its last step."""
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        no_weights(patch, folder.parent)
        assert main(*SMALL, "--data", data / "captions.csv", "--output-dir", folder, "--max-steps", 12) == 0
    return folder


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard_logs"), size_guidance={"images": 0}).Reload()


def losses(folder: Path) -> dict[int, float]:
    return {one.step: one.value for one in events(folder).Scalars("Loss/Train")}


def evaluations(folder: Path) -> dict[str, dict[int, float]]:
    """Values by tag and step."""
    log = events(folder)
    tags = [tag for tag in log.Tags()["scalars"] if tag.startswith("Evaluation/")]
    return {tag: {one.step: one.value for one in log.Scalars(tag)} for tag in tags}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if re.fullmatch(r"\d{7}(\.pt)?", path.name))


def results(folder: Path) -> list[tuple[str, float]]:
    content = json.loads((folder / "best_checkpoint_results.json").read_text())
    return [(one["path"], one["score"]) for one in content["checkpoints"]]


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


def assert_ends_the_same(folder: Path, undisturbed: Path):
    """To the last bit: losses, weights, optimizer, and what is tracked."""
    assert losses(folder) == losses(undisturbed)
    assert names(folder) == names(undisturbed) and results(folder) == results(undisturbed)
    assert os.readlink(folder / "best.pt") == os.readlink(undisturbed / "best.pt")
    last, wanted = (torch.load(one / "0000012.pt", weights_only=True) for one in (folder, undisturbed))
    del last["config"], wanted["config"]
    assert_same(last, wanted)


def test_it_leaves_what_the_guide_says(undisturbed):
    assert names(undisturbed) == ["0000004.pt", "0000008.pt", "0000012.pt"]
    state = json.loads((undisturbed / "best_checkpoints.json").read_text())
    assert state["metric_name"] == "validation_loss" and not state["higher_is_better"]
    assert len(state["checkpoints"]) == 3
    scores = [score for _, score in results(undisturbed)]
    assert scores == sorted(scores)
    assert (undisturbed / "best.pt").resolve().name == results(undisturbed)[0][0]

    samples = {path.name for path in (undisturbed / "evaluation_samples").iterdir()}
    assert samples == {
        f"eval_{name}_{number:03d}.{suffix}"
        for number in range(3)
        for name, suffix in (("generated", "jpg"), ("comparison", "jpg"), ("prompt", "txt"))
    }
    comparison = np.array(Image.open(undisturbed / "evaluation_samples" / "eval_comparison_000.jpg"))
    assert comparison.shape == (256 + 24, 2 * 256 + 4, 3)
    assert "temple, piece 0" in (undisturbed / "evaluation_samples" / "eval_prompt_000.txt").read_text()

    tags = events(undisturbed).Tags()
    assert {"Evaluation/PSNR", "Evaluation/SSIM", "Evaluation/Validation_Loss", "Evaluation/IsBest"} <= set(
        tags["scalars"]
    )
    assert tags["images"] == ["Samples/000", "Samples/001", "Samples/002"]
    assert list(losses(undisturbed)) == list(range(1, 13))


def test_the_best_checkpoint_fits_the_real_model(undisturbed):
    checkpoint = torch.load(undisturbed / "best.pt", weights_only=True)
    transformer = tiny_pipeline(SIZE, seed=1).transformer
    transformer.load_state_dict(checkpoint["model_state_dict"])
    transformer.load_state_dict(checkpoint["ema_state_dict"])
    assert (checkpoint["step"], checkpoint["epoch"]) == (12, 8) and checkpoint["config"]["lr"] == 1e-4


def test_killed_and_resumed_it_ends_as_if_undisturbed(data, undisturbed, tmp_path, capsys):
    folder = tmp_path / "out"
    flags = [*SMALL, "--data", data / "captions.csv", "--output-dir", folder, "--max-steps", 12]
    command = [sys.executable, str(ROOT / "examples" / "train_hunyuandit.py"), *map(str, flags)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=without_network(tmp_path))
    for _ in range(30000):
        if (folder / "0000006.pt").exists():
            break
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    said = process.communicate()[1]
    assert "[Step 4] Evaluating model performance at step 4\n🏆 New best checkpoint! Score: " in said
    assert "warning: composite_score cannot be measured (none of its parts has a value): validation_loss" in said
    for path in folder.glob("[0-9]*.pt"):
        torch.load(path, weights_only=True)
    (folder / ".0000008.pt.tmp").write_text("half a checkpoint")

    assert main(*flags, "--resume") == 0
    assert not list(folder.glob(".*.tmp"))
    # The tracker spares the checkpoint that a run was resumed from.
    resumed = re.search(r"(\d+) of 12 steps done", capsys.readouterr().err)[1].zfill(7) + ".pt"
    if resumed not in names(undisturbed):
        (folder / resumed).unlink()
    assert_ends_the_same(folder, undisturbed)


def test_killed_before_it_was_judged_a_checkpoint_is_judged_after_all(data, undisturbed, tmp_path, capsys):
    folder = tmp_path / "out"
    flags = (*SMALL, "--data", data, "--output-dir", folder, "--ckpt-every", 4, "--eval-every", 1, "--max-steps", 4)
    assert main(*flags, "--no-evaluation") == 0 and not (folder / "best.pt").exists()
    assert main(*flags, "--resume") == 0
    assert results(folder) == [one for one in results(undisturbed) if one[0] == "0000004.pt"]
    capsys.readouterr()
    assert main(*flags, "--resume") == 0
    assert "Evaluating" not in capsys.readouterr().err


def test_ctrl_c_saves_the_step_and_says_how_to_go_on(data, undisturbed, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "out"
    flags = (*SMALL, "--data", data / "captions.csv", "--output-dir", folder, "--max-steps", 12)
    with monkeypatch.context() as patch:
        patch.setattr("hunyuandit.data.CaptionedImages.__getitem__", interrupting(13))
        assert main(*flags) == 130
    said = capsys.readouterr().err
    assert f"interrupted after step 4; saved {folder / '0000004.pt'}; resume with the same command and --resume" in said
    assert main(*flags, "--resume") == 0
    assert_ends_the_same(folder, undisturbed)


def interrupting(after):
    """CaptionedImages.__getitem__ that sends Ctrl-C when it is asked for the `after`-th image."""
    from hunyuandit.data import CaptionedImages

    original, asked = CaptionedImages.__getitem__, iter(range(after))

    def getitem(self, place):
        if next(asked, None) == after - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, place)

    return getitem


def test_directories_are_the_same_in_place_of_files(data, undisturbed, tmp_path):
    folder = tmp_path / "out"
    flags = (*SMALL, "--checkpoint-dirs", "--data", data / "captions.csv", "--output-dir", folder)
    assert main(*flags, "--max-steps", 6) == 0
    assert names(folder) == ["0000004", "0000006"]
    assert main(*flags, "--max-steps", 12, "--resume", folder / "0000004") == 0
    assert losses(folder) == losses(undisturbed)
    assert names(folder) == ["0000004", "0000008", "0000012"]
    assert [score for _, score in results(folder)] == [score for _, score in results(undisturbed)]
    best = folder / "best.pt"
    assert best.is_dir() and {path.name for path in best.iterdir()} == {"training.json", "state", "transformer_ema"}
    averaged = HunyuanDiT2DModel.from_pretrained(best / "transformer_ema").state_dict()
    assert_same(averaged, torch.load(undisturbed / "best.pt", weights_only=True)["ema_state_dict"])


# The second process has a folder of its own, where it must write nothing, and fails in its first evaluation; the first
# process fails in the third.
TWO_PROCESSES = """
import os, sys
import hunyuandit.evaluation as evaluation
import train_hunyuandit

def failing(original, failures, reason):
    def call(*args):
        if next(failures, False):
            raise RuntimeError(reason)
        return original(*args)
    return call

folder, *flags = sys.argv[1:]
if os.environ["RANK"] == "1":
    folder += "_of_the_second"
    evaluation.sample = failing(evaluation.sample, iter([True]), "CUDA out of memory")
else:
    measure = evaluation.CheckpointEvaluator._measure
    evaluation.CheckpointEvaluator._measure = failing(measure, iter([False, True]), "No space left")
sys.exit(train_hunyuandit.main([*flags, "--output-dir", folder]))
"""


def test_two_processes_share_the_samples_and_end_as_one_does(data, undisturbed, tmp_path):
    folder = tmp_path / "out"
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    # One batch in each process is a step of the two batches that the one process accumulates.
    flags = (*SMALL, "--gradient-accumulation", 1, "--eval-every", 1, "--no-prune", "--max-steps", 12)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", tmp_path / "two.py", folder]
    done = subprocess.run(
        [sys.executable, *map(str, (*launcher, *flags, "--data", data / "captions.csv"))],
        env={**without_network(tmp_path), "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "examples")))},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr and done.stdout.count("completed: 12 steps") == 1
    failures = re.findall(r"warning: the evaluation at step (\d+) failed: (.*?);", done.stderr)
    assert failures == [("2", "CUDA out of memory"), ("6", "No space left")]

    assert losses(folder) == pytest.approx(losses(undisturbed), rel=1e-4)
    for tag, values in evaluations(undisturbed).items():
        measured = evaluations(folder)[tag]
        assert list(measured) == [4, 8, 10, 12]
        assert {step: measured[step] for step in values} == pytest.approx(values, rel=1e-3), tag
    for name in ("eval_generated_000.jpg", "eval_generated_001.jpg", "eval_generated_002.jpg"):
        one, two = (np.array(Image.open(of / "evaluation_samples" / name), float) for of in (undisturbed, folder))
        assert np.abs(one - two).mean() < 1, name
    assert torch.load(folder / "best.pt", weights_only=True)["step"] == 12
    assert [path for path, _ in results(folder)] == ["0000012.pt", "0000010.pt", "0000008.pt"]
    assert not (tmp_path / "out_of_the_second").exists()


def test_evaluation_changes_nothing_of_the_training(data, undisturbed, tmp_path):
    folder = tmp_path / "out"
    # The folder with its .txt files holds the same images and captions as the table.
    flags = ("--data", data / "photos", "--output-dir", folder, "--max-steps", 8, "--no-evaluation")
    assert main(*SMALL, *flags) == 0
    assert losses(folder) == {step: loss for step, loss in losses(undisturbed).items() if step <= 8}
    assert names(folder) == ["0000002.pt", "0000004.pt", "0000006.pt", "0000008.pt"]
    assert not {path.name for path in folder.iterdir()} & {"best.pt", "best_checkpoints.json", "evaluation_samples"}


def test_a_failed_evaluation_is_said_and_the_training_goes_on(data, undisturbed, tmp_path, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "evaluation_samples").write_text("where the samples' folder should be")
    assert main(*SMALL, "--data", data, "--output-dir", folder, "--max-steps", 8) == 0
    said = capsys.readouterr().err
    for step in (4, 8):
        assert f"warning: the evaluation at step {step} failed: [Errno 17] File exists: " in said
    assert losses(folder) == {step: loss for step, loss in losses(undisturbed).items() if step <= 8}
    assert names(folder) == ["0000004.pt", "0000008.pt"] and not (folder / "best.pt").exists()


def test_an_error_in_sampling_leaves_the_trained_weights(data, undisturbed, tmp_path, capsys, monkeypatch):
    def out_of_memory(*args, **settings):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("hunyuandit.evaluation.sample", out_of_memory)
    assert main(*SMALL, "--data", data, "--output-dir", tmp_path / "out", "--max-steps", 6) == 0
    assert "the evaluation at step 4 failed: CUDA out of memory; the training continues" in capsys.readouterr().err
    assert losses(tmp_path / "out")[6] == losses(undisturbed)[6]


def test_with_weights_the_composite_is_followed(data, tmp_path):
    weights = assets() / "weights" / "alexnet_features.pth"
    folder = tmp_path / "out"
    flags = ("--data", data, "--output-dir", folder, "--max-steps", 2, "--no-prune", "--lpips-weights", weights)
    assert main(*SMALL, *flags) == 0
    state = json.loads((folder / "best_checkpoints.json").read_text())
    (entry,) = state["checkpoints"]
    assert state["metric_name"] == "composite_score"
    assert entry["score"] == pytest.approx(-0.2 * entry["metrics"]["lpips"])
    assert {"Evaluation/LPIPS", "Evaluation/Composite_Score"} <= set(events(folder).Tags()["scalars"])


def test_several_metrics_are_followed_at_once(data, tmp_path, capsys):
    folder = tmp_path / "out"
    flags = ("--data", data, "--output-dir", folder, "--max-steps", 6, "--eval-every", 1, "--save-top-k", 1)
    names = ("--metric-name", "clip_score", "psnr", "lpips", "ssim", "--min-delta", 5.0)
    assert main(*SMALL, *flags, *names) == 0
    assert capsys.readouterr().err.count("validation_loss is tracked instead") == 2
    state = json.loads((folder / "best_checkpoints.json").read_text())
    assert (state["metric_name"], state["min_delta"]) == ("validation_loss", 5.0)
    assert state["further_metrics"].keys() == {"psnr", "ssim"}
    # No loss falls by 5: the first checkpoint stays the best.
    assert os.readlink(folder / "best.pt") == "0000002.pt"
    for name in ("best.pt", "best_psnr.pt", "best_ssim.pt"):
        assert torch.load(folder / name, weights_only=True)["step"] in (2, 4, 6)


def test_pretrained_weights_are_read_in_diffusers_layout(data, undisturbed, tmp_path):
    tiny_pipeline(SIZE, seed=5).save_pretrained(tmp_path / "model")
    flags = ("--pretrained", tmp_path / "model", *SMALL[1:], "--max-steps", 2, "--no-evaluation")
    assert main(*flags, "--data", data, "--output-dir", tmp_path / "out") == 0
    assert losses(tmp_path / "out") == {step: loss for step, loss in losses(undisturbed).items() if step <= 2}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_the_error_of_what_the_scheduler_asks_for(prediction):
    pipeline = tiny_pipeline(SIZE, seed=0)
    pipeline.scheduler.register_to_config(prediction_type=prediction)
    photographs = torch.rand(3, 3, SIZE, SIZE) * 2 - 1
    seen = {}

    def transformer(noisy, timesteps, **conditions):
        seen.update(noisy=noisy, timesteps=timesteps.long(), conditions=conditions)
        return (torch.zeros(3, 8, SIZE // 8, SIZE // 8),)

    loss = denoising_loss(pipeline, transformer, photographs, ["a", "b", ""], generator_of(7))
    latents = pipeline.vae.encode(photographs).latent_dist.sample(generator_of(7)) * pipeline.vae.config.scaling_factor
    # The noise is what is left of the noisy latents without the clean ones.
    kept = pipeline.scheduler.alphas_cumprod[seen["timesteps"]].view(3, 1, 1, 1)
    noise = (seen["noisy"] - kept.sqrt() * latents) / (1 - kept).sqrt()
    target = noise if prediction == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * latents
    assert loss.item() == pytest.approx(target.pow(2).mean().item(), rel=1e-3)
    assert seen["conditions"]["encoder_hidden_states_t5"].shape == (3, 256, 64)
    # As the transformer is called in training, the pipeline calls it in sampling.
    recorded = {}
    pipeline.transformer.register_forward_pre_hook(lambda module, args, given: recorded.update(given), with_kwargs=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline(
        ["a", "b", ""],
        height=SIZE,
        width=SIZE,
        num_inference_steps=1,
        guidance_scale=1.0,
        original_size=(SIZE, SIZE),
        use_resolution_binning=False,
    )
    for name, value in seen["conditions"].items():
        if name == "return_dict":
            continue
        torch.testing.assert_close(torch.stack(tuple(recorded[name])), torch.stack(tuple(value)), msg=name)


def test_an_epoch_has_every_image_once_and_processes_share_a_step():
    order = iter(Order(5, 2, batches=1, seed=3))
    places = [place for _ in range(10) for place in next(order)]
    epochs = [places[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs) and len(set(map(tuple, epochs))) > 1
    resumed = iter(Order(5, 2, batches=1, seed=3, first_step=4))
    assert [place for _ in range(6) for place in next(resumed)] == places[8:]

    orders = [iter(Order(5, 1, batches=4, seed=3, first_step=1, process=process, processes=2)) for process in (0, 1)]
    together = [place for _ in range(2) for order in orders for place in next(order)]
    assert together == places[4:8]
    assert [Order(5, 2, batches=1, seed=3).epoch(step) for step in (0, 2, 3, 5)] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data", "gone.csv"), "gone.csv: no such file or folder"),
        (("--data", "columns.csv"), "columns.csv: no column text_en (it needs image_path and text_en)"),
        (("--data", "gone_image.csv"), "gone_image.csv, line 2: no image gone.png"),
        (("--data", "no_image.csv"), "no_image.csv: cannot be read as an image"),
        (("--data", "uncaptioned"), "lone.png: no caption: neither uncaptioned/captions.csv nor lone.txt beside it"),
        (("--data", "empty"), "empty: no captioned images in it"),
        (("--max-steps", "0"), "--max-steps: must be a whole number of at least 1, got '0'"),
        (("--image-size", "40"), "--image-size: must be a multiple of 16, got 40"),
        (("--lr", "nan"), "--lr: must be above 0, got nan"),
        (("--metric-name", "speed"), "--metric-name must be one of validation_loss, "),
        (("--metric-name", "psnr", "speed"), "got 'speed'"),
        (("--min-delta", "-1"), "--min-delta: must be auto or a number of at least 0, got -1"),
        (("--lpips-weights", "gone.pth"), "gone.pth: no such file of weights"),
        (("--resume",), "--resume: no checkpoint in out"),
        (("--pretrained", "gone"), "not allowed with argument --tiny"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(data, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    Path("columns.csv").write_text("image_path,text\na.png,a\n")
    Path("gone_image.csv").write_text("image_path,text_en\ngone.png,a\n")
    Path("no_image.csv").write_text("image_path,text_en\nno_image.csv,a\n")
    Path("empty").mkdir()
    Path("uncaptioned").mkdir()
    Image.new("RGB", (8, 8)).save("uncaptioned/lone.png")
    assert main(*SMALL, "--data", data, "--output-dir", "out", *flags) == 2
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if " is left out: " not in line]
    assert printed.out == "" and len(lines) == 1 and message in lines[0], printed.err
    assert not Path("out").exists()


def test_no_model_there_is_one_line(data, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    flags = ("--pretrained", tmp_path / "model", "--data", data, "--output-dir", tmp_path / "out")
    assert main(*flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "model: no HunyuanDiT in diffusers' layout there" in line and not (tmp_path / "out").exists()


def test_a_folder_has_one_training_at_a_time_and_is_not_begun_twice(data, undisturbed, tmp_path, capsys):
    flags = (*SMALL, "--data", data, "--no-evaluation")
    assert main(*flags, "--output-dir", undisturbed) == 2
    assert "it has checkpoints already: --resume continues them" in capsys.readouterr().err
    with FileLock(tmp_path / ".lock"):
        assert main(*flags, "--output-dir", tmp_path) == 2
    assert "another process is training" in capsys.readouterr().err


def test_a_damaged_checkpoint_and_other_settings_are_said(data, undisturbed, tmp_path, capsys):
    flags = (*SMALL, "--data", data, "--output-dir", tmp_path, "--no-evaluation", "--max-steps", 5)
    whole = (undisturbed / "0000004.pt").read_bytes()
    (tmp_path / "0000004.pt").write_bytes(whole[: len(whole) // 2])
    assert main(*flags, "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "0000004.pt: not a checkpoint of this model" in line
    (tmp_path / "0000004.pt").write_bytes(whole)
    assert main(*flags, "--resume", "--caption-dropout", 0.5) == 0
    assert "warning: caption_dropout was 0.1, now 0.5: the result will differ" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_is_one_line_and_costs_nothing(data, tmp_path, capsys, monkeypatch):
    def full(self):
        raise RuntimeError("PytorchStreamWriter failed writing file: file write failed")

    flags = (*SMALL, "--data", data, "--output-dir", tmp_path, "--no-evaluation", "--max-steps", 4)
    assert main(*flags[:-1], 2) == 0
    monkeypatch.setattr(Checkpoints, "state", full)
    assert main(*flags, "--resume") == 1
    assert f"{tmp_path / '0000004.pt'}: cannot be written (PytorchStreamWriter" in capsys.readouterr().err
    assert names(tmp_path) == ["0000002.pt"] and not list(tmp_path.glob(".*.tmp"))


def test_a_loss_that_is_not_finite_stops_the_training(data, tmp_path, capsys):
    flags = ("--data", data, "--output-dir", tmp_path, "--no-evaluation", "--max-steps", 8, "--lr", 1e30)
    assert main(*SMALL, *flags) == 1
    assert re.search(
        r"loss is NaN or infinite at step \d; lower --lr \(try 1e\+29\) or check the data", capsys.readouterr().err
    )


def test_captions_and_images_of_all_kinds_are_read(data, tmp_path):
    from hunyuandit.data import read_square

    assert [item.caption for item in read_captioned(data / "photos")] == [
        item.caption for item in read_captioned(data / "captions.csv")
    ]
    Image.new("LA", (20, 10), (0, 0)).save(tmp_path / "clear.png")
    assert np.array(read_square(tmp_path / "clear.png", 16)).min() == 255
    Image.new("I;16", (20, 30), 257 * 200).save(tmp_path / "deep.png")
    assert read_square(tmp_path / "deep.png", 16).getcolors() == [(256, (200, 200, 200))]
    content = (data / "photos" / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.png: cannot be read as an image"):
        read_square(tmp_path / "cut.png", 16)


def test_tiny_parts_are_the_real_classes_and_can_be_saved_and_loaded(tmp_path):
    pipeline = tiny_pipeline(SIZE, seed=2)
    pipeline.save_pretrained(tmp_path)
    loaded = HunyuanDiTPipeline.from_pretrained(tmp_path)
    for one in ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"):
        assert type(getattr(loaded, one)) is type(getattr(pipeline, one))
    assert_same(pipeline.transformer.state_dict(), loaded.transformer.state_dict())
    assert_same(pipeline.transformer.state_dict(), tiny_pipeline(SIZE, seed=2).transformer.state_dict())


def test_the_guide_shows_the_same_in_both_languages_and_its_code_runs(monkeypatch, tmp_path):
    def blocks(name, language):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        # Comments are in the reader's language.
        return [re.sub(r"\s*#.*", "", block) for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]

    names = ("BEST_CHECKPOINTS.md", "BEST_CHECKPOINTS.ko.md")
    for language in ("bash", "python"):
        english, korean = (blocks(name, language) for name in names)
        assert english == korean and len(english) > 2
    (loop,) = [block for block in blocks(names[0], "python") if "after_saving" in block]
    (own,) = [block for block in blocks(names[0], "python") if "warmth" in block]
    (several,) = [block for block in blocks(names[0], "python") if "EveryNSeconds" in block]
    monkeypatch.chdir(tmp_path)
    defined = {}
    exec(compile(several, "BEST_CHECKPOINTS.md", "exec"), defined)
    assert [one.metric_name for one in defined["tracker"].rankings] == ["composite_score", "fid"]
    exec(compile(loop.replace('"cuda"', '"cpu"') + own, "BEST_CHECKPOINTS.md", "exec"), defined)
    try:
        photographs = [Image.new("RGB", (32, 32), (200, 0, 0))] * 2
        checkpoint = tmp_path / "results" / "run1" / "0000001.pt"
        checkpoint.write_bytes(b"weights")
        defined["after_saving"](checkpoint, 1, 1, lambda prompts: photographs, photographs, ["red", "red"])
        (entry,) = defined["tracker"].top
        assert entry.metrics["warmth"] == pytest.approx(200 / 255)
        assert entry.metrics["composite_score"] == pytest.approx(200 / 255)
    finally:
        unregister("warmth")
    flags = parser("about\n\nexamples")._option_string_actions
    said = set(re.findall(r"`?(--[a-z][a-z0-9-]+)", (ROOT / "docs" / names[0]).read_text(encoding="utf-8")))
    of_others = {"--extra", "--logdir", "--nproc-per-node", "--guard", "--classifier-weights"}
    assert said - of_others <= flags.keys()

"""The tracker on folders laid out as DeepSpeed, accelerate and HunyuanDiT's own training script write them."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from dploss import BestCheckpointTracker

WEIGHTS = "mp_rank_00_model_states.pt"
SHARDS = tuple(f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 1))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def deepspeed(save_dir: Path, tag: str, text: str) -> None:
    """As DeepSpeed's save_checkpoint(save_dir, tag): the tag's folder, and two files beside it."""
    for name in (WEIGHTS, *SHARDS):
        write(save_dir / tag / name, text)
    write(save_dir / "zero_to_fp32.py", "# DeepSpeed's script")
    write(save_dir / "latest", tag)


def hunyuandit(folder: Path, step: int) -> Path:
    """As HunyuanDiT's training script saves: the steps are DeepSpeed's tags, with .pt, and so is latest.pt."""
    deepspeed(folder, "latest.pt", f"latest {step}")
    deepspeed(folder, f"{step:07d}.pt", str(step))
    return folder / f"{step:07d}.pt"


def accelerate(folder: Path, step: int) -> Path:
    """As accelerate's save_state saves with DeepSpeed: a step's folder has a tag, and what DeepSpeed puts beside it."""
    path = folder / f"{step:07d}"
    deepspeed(path, "pytorch_model", str(step))
    for rank in (0, 1):
        write(path / f"random_states_{rank}.pkl", str(step))
    return path


def example(folder: Path, step: int) -> Path:
    """As examples/train_hunyuandit.py saves with DeepSpeed."""
    path = folder / f"{step:07d}"
    accelerate(path, step).rename(path / "state")
    write(path / "training.json", "{}")
    write(path / "transformer_ema" / "diffusion_pytorch_model.safetensors", str(step))
    return path


def content(folder: Path) -> dict[str, str]:
    """Where every link leads, and the text of every file."""
    return {
        path.relative_to(folder).as_posix(): f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def beside(folder: Path, saved: Iterable[Path]) -> dict[str, str]:
    """What there is beside the given checkpoints and the tracker's own files, best*."""
    names = {path.name for path in saved}
    found = content(folder).items()
    return {name: text for name, text in found if not name.startswith("best") and name.split("/")[0] not in names}


@pytest.mark.parametrize("save", [hunyuandit, accelerate, example])
def test_folders_are_kept_and_deleted_whole_and_nothing_else_is_touched(tmp_path, save):
    folder, elsewhere = tmp_path / "checkpoints", tmp_path / "pretrained"
    write(elsewhere / "vae.pt", "frozen weights")
    # Of another training, of one that was killed while it saved, and links that a person made.
    deepspeed(folder, "global_step1500", "of another training")
    write(folder / "0009000.pt" / SHARDS[0], "half written")
    write(folder / ".0009500.tmp" / SHARDS[1], "half written")
    (folder / "first").symlink_to("0001000.pt")
    (folder / "pretrained").symlink_to(elsewhere)

    tracker = BestCheckpointTracker(folder, "fid", save_top_k=2)
    saved: dict[Path, dict[str, str]] = {}
    for step, fid in ((1000, 50.0), (2000, 20.0), (3000, 40.0), (4000, 30.0), (5000, 60.0), (6000, 55.0)):
        path = save(folder, step)
        (path / "vae").symlink_to(elsewhere)
        saved[path] = content(path)
        others = beside(folder, saved)
        if step == 4000:
            # The training was resumed.
            tracker = BestCheckpointTracker(folder, "fid", save_top_k=2)
        tracker.update(step, 0, path, {"fid": fid})
        saved = {one: was for one, was in saved.items() if one.exists()}
        assert all(content(one) == was for one, was in saved.items())
        assert beside(folder, saved) == others
        # Where DeepSpeed itself resumes.
        assert all((named.parent / named.read_text()).is_dir() for named in folder.rglob("latest"))

    # The best two, and the latest.
    assert [int(one.stem) for one in saved] == [2000, 4000, 6000]
    best = folder / "best.pt"
    assert (folder / os.readlink(best)) in saved and next(best.rglob(WEIGHTS)).read_text() == "2000"
    assert content(elsewhere) == {"vae.pt": "frozen weights"}


def test_optimizer_states_may_be_deleted_from_a_tracked_folder(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "fid", save_top_k=2)
    for step in (1000, 2000):
        path = hunyuandit(tmp_path, step)
        tracker.update(step, 0, path, {"fid": 1 / step})
        # HunyuanDiT's script does so to save space.
        for name in SHARDS:
            (path / name).unlink()
    tracker = BestCheckpointTracker(tmp_path, "fid", save_top_k=2)
    assert [one.path for one in tracker.top] == ["0002000.pt", "0001000.pt"]
    assert (tmp_path / "best.pt" / WEIGHTS).read_text() == "2000"


def test_deepspeeds_own_best_tag_is_set_aside(tmp_path):
    deepspeed(tmp_path, "best.pt", "chosen by a person")
    tracker = BestCheckpointTracker(tmp_path, "fid")
    tracker.update(1000, 0, hunyuandit(tmp_path, 1000), {"fid": 1.0})
    assert os.readlink(tmp_path / "best.pt") == "0001000.pt"
    assert (tmp_path / "best.pt.before1" / WEIGHTS).read_text() == "chosen by a person"

import pytest

from dploss.errors import InputError
from dploss.experiments.layout import epoch_checkpoint, epoch_checkpoints, load_config


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_broken_config_is_named(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json: not a readable config"):
        load_config(tmp_path)


def test_checkpoints_are_ordered_by_epoch_not_as_text(tmp_path):
    for epoch in (1000, 20, 999, 3):
        (tmp_path / epoch_checkpoint(epoch)).touch()
    for other in (
        "latest_model.pth",
        "checkpoint_epoch_.pth",
        "checkpoint_epoch_7.pth.tmp",
        "my_checkpoint_epoch_005.pth",
    ):
        (tmp_path / other).touch()
    names = [path.name for path in epoch_checkpoints(tmp_path)]
    assert names == [f"checkpoint_epoch_{number}.pth" for number in ("003", "020", "999", "1000")]

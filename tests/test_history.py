import json

import pytest

from dploss.errors import InputError
from dploss.history import TrainHistory


@pytest.fixture
def history() -> TrainHistory:
    history = TrainHistory(recall_k=5, recall_rows=100, pca_recall=0.5)
    for epoch in range(3):
        history.add_epoch(3.0 - epoch, 2.0 - epoch, 1.0, 1e-3, 0.5)
    history.add_recall(0.75)
    return history


def test_it_survives_its_file(history, tmp_path):
    history.save(tmp_path / "train_history.json")
    assert TrainHistory.load(tmp_path / "train_history.json") == history


def test_its_lists_have_one_length(history):
    written = history.as_dict()
    assert written["epochs"] == [1, 2, 3]
    assert written["cumulative_time"] == [0.5, 1.0, 1.5]
    assert (written["recall_epochs"], written["recall_history"]) == ([3], [0.75])
    lists = ("total_loss", "rank_loss", "pairdist_loss", "learning_rate", "epoch_times", "epoch_timestamps")
    assert {len(written[name]) for name in lists} == {3}


def test_what_is_not_finite_becomes_null(history, tmp_path):
    history.add_epoch(float("nan"), float("inf"), 1.0, 1e-3, 0.5)
    history.save(tmp_path / "train_history.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "train_history.json").read_text(), parse_constant=refuse)
    assert written["total_loss"][-1] is None and written["rank_loss"][-1] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable history"),
        ("[]", "a history is a JSON object, got list"),
        ('{"epochs": [1, 2], "total_loss": [1]}', "differ in length"),
        ('{"status": "dreaming"}', "status must be one of"),
    ],
)
def test_a_broken_file_is_named(text, message, tmp_path):
    path = tmp_path / "train_history.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"train_history.json: .*{message}"):
        TrainHistory.load(path)

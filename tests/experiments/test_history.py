import json
import math

import pytest

from dploss.errors import InputError
from dploss.experiments.history import TrainHistory


@pytest.fixture
def history() -> TrainHistory:
    history = TrainHistory(recall_k=5, recall_rows=100, pca_recall=0.5)
    for epoch in range(3):
        history.add_epoch(3.0 - epoch, 2.0 - epoch, 1.0, 1e-3, 0.5)
    history.add_recall(0.75, {8: 0.5, 16: 0.75})
    history.pca_recall_by_dim = {"8": 0.4, "16": 0.5}
    return history


def test_it_survives_its_file(history, tmp_path):
    history.save(tmp_path / "train_history.json")
    assert TrainHistory.load(tmp_path / "train_history.json") == history


def test_its_lists_have_one_length(history):
    written = history.as_dict()
    assert written["epochs"] == [1, 2, 3]
    assert written["cumulative_time"] == [0.5, 1.0, 1.5]
    assert (written["recall_epochs"], written["recall_history"]) == ([3], [0.75])
    assert written["recall_by_dim"] == {"8": [0.5], "16": [0.75]}
    lists = ("total_loss", "rank_loss", "pairdist_loss", "learning_rate", "epoch_times", "epoch_timestamps")
    assert {len(written[name]) for name in lists} == {3}


def test_what_is_not_finite_becomes_null(history, tmp_path):
    history.add_epoch(float("nan"), float("inf"), 1.0, 1e-3, 0.5)
    history.save(tmp_path / "train_history.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "train_history.json").read_text(), parse_constant=refuse)
    assert written["total_loss"][-1] is None and written["rank_loss"][-1] is None
    read = TrainHistory.load(tmp_path / "train_history.json")
    assert math.isnan(read.total_loss[-1]) and read.total_loss[:-1] == history.total_loss[:-1]


def test_a_history_of_another_program_needs_epochs_and_total_loss_alone():
    history = TrainHistory.from_dict({"epochs": [0, 1], "total_loss": [2, None], "accuracy": [0.1, 0.2]})
    assert (history.epochs, history.status, history.recall_history) == ([0, 1], "unknown", [])
    assert history.total_loss[0] == 2 and math.isnan(history.total_loss[1])
    assert all(map(math.isnan, history.rank_loss + history.cumulative_time))
    assert history.epoch_timestamps == ["", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable history"),
        ("[]", "a history is a JSON object, got list"),
        ("{}", "lacks epochs and total_loss"),
        ('{"epochs": [1, 2], "total_loss": [1]}', "differ in length"),
        ('{"epochs": [1], "total_loss": [1], "recall_history": [1]}', "differ in length"),
        ('{"epochs": [], "total_loss": [], "status": "dreaming"}', "status must be one of"),
        ('{"epochs": 3, "total_loss": [1]}', "epochs must be a list, got int"),
        ('{"epochs": [null], "total_loss": [1]}', "epochs must hold numbers, got None"),
        ('{"epochs": [1], "total_loss": ["low"]}', "total_loss must hold numbers, got low"),
        ('{"epochs": [1], "total_loss": [1' + 400 * "0" + "]}", "total_loss must hold numbers, got 1000"),
        (
            '{"epochs": [1], "total_loss": [1], "recall_by_dim": {"8": [1]}}',
            "lists of other lengths than recall_epochs",
        ),
        ('{"epochs": [1], "total_loss": [1], "recall_by_dim": {"8": 1}}', "recall_history must be a list, got int"),
        ('{"epochs": [1], "total_loss": [1], "pca_recall_by_dim": [1]}', "pca_recall_by_dim must be an object by size"),
        ('{"epochs": [1], "total_loss": [1], "recall_k": "five"}', "recall_k must hold numbers, got five"),
        ('{"epochs": [1], "total_loss": [1], "epoch_timestamps": [1]}', "epoch_timestamps must hold text"),
        ('{"epochs": [1], "total_loss": [1], "evaluations": [1]}', "evaluations must hold objects"),
    ],
)
def test_a_broken_file_is_named(text, message, tmp_path):
    path = tmp_path / "train_history.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"train_history.json: .*{message}"):
        TrainHistory.load(path)

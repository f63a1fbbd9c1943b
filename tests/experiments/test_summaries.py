import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from wcwidth import wcswidth

from dploss.evaluation.recall_history import recorded_recall
from dploss.experiments.catalog import Experiment, list_experiments
from dploss.experiments.comparison import compare
from dploss.experiments.history import TrainHistory
from dploss.experiments.listing import listing, records
from dploss.experiments.recalls import MeasuredRecall, Recall
from dploss.experiments.summary import data_name, extremes, summary
from dploss.files.atomic import json_text


@pytest.fixture
def experiments(trained):
    return list_experiments(trained)[0]


@pytest.fixture
def foreign():
    history = TrainHistory.from_dict({"epochs": [1, 2, 3], "total_loss": [2, 1, None]})
    return Experiment(Path("elsewhere"), {}, history, datetime.now(UTC))


def with_config(experiment, **config):
    return replace(experiment, config={**experiment.config, **config})


def test_best_is_the_lowest_and_nan_is_neither(foreign):
    found = extremes(foreign, "total_loss")
    assert math.isnan(found.final) and (found.best, found.best_epoch) == (1, 2)
    assert math.isnan(extremes(foreign, "rank_loss").best)


def test_the_list_has_a_numbered_row_for_each(experiments, foreign):
    lines = listing([*experiments, foreign])
    assert " ".join(lines[0].split()) == "# id created status epochs total loss best recall"
    for place, (line, experiment) in enumerate(zip(lines[1:-2:2], experiments, strict=True), start=1):
        history = experiment.history
        expected = [str(place), experiment.id[:8], "completed", "4/4"]
        expected += [f"{history.total_loss[-1]:.4g}", f"{max(history.recall_history):.4f}"]
        assert set(expected) <= set(line.split())
        loss = experiment.config["loss_function"]
        assert lines[2 * place] == f"   builtin, 768 -> 16, euclidean, MLP 32, {loss} tau 1, 40 held out"
    assert lines[-2].split()[:2] == ["4", "elsewhere"] and "unknown" in lines[-2] and lines[-1] == "   -"


def test_the_list_has_bytes_and_code_where_an_experiment_has_them(experiments, foreign):
    stored = with_config(experiments[0], bytes=64, code="pq")
    lines = listing([stored, experiments[1], foreign])
    assert "768 -> 16, 64 bytes pq, euclidean" in lines[2]
    assert "64 bytes a vector, pq" in "\n".join(summary(stored, []))
    assert "bytes" not in "\n".join([*listing(experiments), *summary(experiments[1], [])])


def test_the_summary_says_settings_losses_recall_and_time(experiments):
    experiment = experiments[0]
    text = "\n".join(summary(experiment, recorded_recall(experiment)))
    history = experiment.history
    for part in (
        experiment.id,
        "completed, epoch 4/4",
        "768 -> 16 dimensions",
        "tau 1",
        "hidden_dims 32, init pca",
        f"{history.total_loss[-1]:.4g} at the end, best {min(history.total_loss):.4g} in epoch",
        f"recall@5             {history.recall_history[-1]:.4f} in epoch 4",
        "40 held-out rows",
        f"start              {history.recall_history[0]:.4f}, ",
        f"PCA, renormalised  {history.pca_renormalised_recall:.4f}, ",
        f"PCA                {history.pca_recall:.4f}, "
        f"{max(history.recall_history) - history.pca_recall:+.4f} gained by the best",
    ):
        assert part in text
    assert "limit 400" in text


def test_a_summary_of_little_is_short(foreign):
    text = "\n".join(summary(foreign, []))
    assert "total loss     - at the end, best 1 in epoch 2" in text
    assert "recall" not in text and "nan" not in text


def test_only_settings_that_differ_are_compared(experiments):
    table = compare(experiments, [recorded_recall(one) for one in experiments])
    assert table.header[:3] == ["experiment", "loss_function", "done"]
    assert table.header[-5:] == ["recall@5", "start", "PCA, renormalised", "PCA", "time"]
    assert {row[-4] for row in table.rows} == {f"{one.history.recall_history[0]:.4f}" for one in experiments}
    changed = [with_config(experiments[0], tau=0.5, hidden_dims=[]), *experiments[1:]]
    table = compare(changed, [[]] * 3)
    assert table.header[1:5] == ["hidden_dims", "loss_function", "tau", "done"]
    assert [row[1] for row in table.rows] == ["none", "32", "32"]
    assert {row[-5] for row in table.rows} == {"-"}


def test_recalls_of_other_sizes_are_told_apart(experiments):
    recalls = [[MeasuredRecall(4, Recall(0.5, k, rows))] for k, rows in ((5, 40), (10, 40), (5, 30))]
    table = compare(experiments, recalls)
    assert table.header[-6:-3] == ["recall@k", "recall rows", "start"]
    assert [row[-5] for row in table.rows] == ["40", "40", "30"]


def test_records_are_plain_values(experiments, foreign):
    records = compare([*experiments, foreign], [*map(recorded_recall, experiments), []]).records
    read = json.loads(json_text(records))
    assert [one["experiment"] for one in read] == [one.id for one in [*experiments, foreign]]
    assert read[0]["settings"]["loss_function"] == experiments[0].config["loss_function"]
    assert read[0]["total_loss"]["final"] == experiments[0].history.total_loss[-1]
    assert read[0]["recall"]["rows"] == 40
    assert read[-1]["recall"] is None and read[-1]["seconds"] is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("builtin", "builtin"),
        ("/home/someone/with/a/long/way/to/vectors.npy", "vectors.npy"),
        ("/x/" + 50 * "y" + ".npy", "yyyyyyyyy…yyyyyyyyyyyyyy.npy"),
        (None, "-"),
    ],
)
def test_data_has_a_short_name(experiments, path, name):
    assert data_name(with_config(experiments[0], data={"path": path})) == name


def test_odd_configs_are_shown_not_fatal(experiments):
    odd = with_config(experiments[0], data="text", epochs="many", latent_dim=None, hidden_dims={"a": 1}, tau=[1, "b"])
    assert [line.split()[0] for line in listing([odd])] == ["#", "1", "-,"] and records([odd])
    assert summary(odd, []) and compare([odd, experiments[1]], [[], []]).lines()


def test_long_names_are_cut_where_a_line_ends(experiments, foreign):
    long = replace(foreign, folder=Path("실험_" * 20), config={**experiments[0].config, "data": {"path": "자료/" * 30}})
    long.history.epochs[-1] = 10**6
    for lines in (listing([long, *experiments]), compare([long, *experiments], [[]] * 4).lines()):
        assert max(map(wcswidth, lines)) <= 80 and "실험" in "".join(lines)


def test_settings_without_effect_are_neither_listed_nor_compared(experiments):
    linear = with_config(experiments[0], hidden_dims=[], dropout=0.5, code="pq", clip_model="other", quiet=False)
    table = compare([linear, experiments[1]], [[], []])
    assert table.settings[0] == {"hidden_dims": "none", "loss_function": linear.config["loss_function"]}
    assert table.settings[1]["dropout"] == "0.2"
    assert "tau" not in "".join(summary(with_config(linear, epochs=0), []))

import uuid
from dataclasses import replace

import numpy as np
import pytest
from drawn import assert_legible, drawn_texts, made, many, quickly_drawn, real
from matplotlib.text import Text

from dploss.evaluation.recall_history import recorded_recall
from dploss.experiments.comparison import compare
from dploss.experiments.history import Evaluation
from dploss.experiments.recalls import MeasuredRecall, Recall
from dploss.plots import comparison_figure, save
from dploss.plots.style import COLOURS
from dploss.text import elided


def drawn(experiments, recalls, history=False):
    """The legible figure, and its panels by their title."""
    figure = comparison_figure(experiments, recalls, compare(experiments, recalls), history)
    assert_legible(figure)
    return figure, {axes.get_title() or axes.get_title("left"): axes for axes in figure.axes}


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def run(place, levels, recall=0.6, error=None, **config):
    """A run with the levels of its start, renormalised PCA and PCA, and its recall."""
    start, renormalised, pca = levels
    config = {"loss_function": "DPLossV3", "latent_dim": 64, "lr": 0.001, "input_dim": 768, **config}
    more = {"recall_epochs": [0, 2], "recall_history": [start, recall], "recall_k": 5, "recall_rows": 900}
    more |= {"pca_renormalised_recall": renormalised, "pca_recall": pca, "cumulative_time": [1.0, 61.0]}
    experiment = made([2.0, 1.0], str(uuid.UUID(int=place + 1 << 96)), config, **more)
    return experiment, [MeasuredRecall(0, Recall(start, 5, 900)), MeasuredRecall(2, Recall(recall, 5, 900, error))]


LOSSES = ["Total Loss", "Rank Loss", "Pair Distance Loss"]


@pytest.mark.parametrize(("count", "history"), [(1, False), (2, True), (5, False), (12, True), (30, True)])
def test_a_comparison_of_any_size_is_legible(count, history):
    experiments, recalls = many(count)
    figure, panels = drawn(experiments, recalls, history)
    assert list(panels) == [*LOSSES, *(["KNN Recall@5 by Epoch"] if history else []), "KNN Recall@5"]
    assert [len(panels[loss].lines) for loss in LOSSES] == [count] * 3
    bars = panels["KNN Recall@5"].patches
    assert [bar.get_width() for bar in bars] == [0.7] * count
    # From above in the order of the runs.
    assert [bar.get_y() for bar in bars] == sorted((bar.get_y() for bar in bars), reverse=True)
    texts = texts_of(figure)
    for experiment in experiments:
        assert experiment.id[:8] in texts or experiment.id[:9] in "".join(texts)
        assert f"{experiment.history.total_loss[-1]:.4g}" in texts
    assert texts.count("0.7000") == count
    if count > 1:
        data = elided("vectors_of_text_embedding_model_1.parquet", 28)
        assert f"65 d · {data}" in texts and "tau 0.142857" in texts


def test_rows_are_labelled_with_the_settings_that_differ():
    runs = [
        run(0, (0.5, 0.5, 0.4), loss_function="DPLossV2", lr=0.003, data={"path": "/자료/벡터.npy"}, hidden_dims=[32]),
        run(1, (0.5, 0.5, 0.4), latent_dim=32, data={"path": "/b/words.npy"}, hidden_dims=[32], limit=400),
        run(2, (0.5, 0.5, 0.4), hidden_dims=[32, 16], prune=True),
    ]
    figure, _ = drawn(*map(list, zip(*runs, strict=True)))
    texts = texts_of(figure)
    assert "DPLossV2 · 64 d · /자료/벡터.npy · lr 0.003" in texts and "hidden dims 32" in texts
    assert "DPLossV3 · 32 d · /b/words.npy · lr 0.001" in texts and "limit 400 · hidden dims 32" in texts
    assert "DPLossV3 · 64 d · lr 0.001" in texts and "hidden dims 32 16 · prune" in texts
    # The id is below its label.
    heights = {text: box.y0 for text, box in drawn_texts(figure)}
    assert heights["limit 400 · hidden dims 32"] > heights["00000002"] > heights["DPLossV3 · 64 d · lr 0.001"]


def test_settings_that_find_no_room_are_left_to_the_terminal():
    names = (
        "tau",
        "lambda_rank",
        "lambda_pairdist",
        "batch_size",
        "epochs",
        "seed",
        "save_interval",
        "val_fraction",
        "k",
    )
    runs = [run(place, (0.5, 0.5, 0.4), **dict.fromkeys(names, 1000 + place)) for place in range(2)]
    figure, _ = drawn(*map(list, zip(*runs, strict=True)))
    assert len([text for text in texts_of(figure) if text.endswith(" · …")]) == 2


def test_levels_that_all_runs_share_are_one_line_with_its_value():
    runs = [run(place, (0.52, 0.52, 0.4), lr=place + 1.0) for place in range(3)]
    experiments, recalls = map(list, zip(*runs, strict=True))
    _, panels = drawn(experiments, recalls, history=True)
    bars, by_epoch = panels["KNN Recall@5"], panels["KNN Recall@5 by Epoch"]
    for panel, axis in ((bars, "get_xdata"), (by_epoch, "get_ydata")):
        labels = {text.get_text(): None for text in panel.get_legend().get_texts()}
        assert list(labels) == ["start = PCA, renormalised 0.5200", "PCA 0.4000"]
        levels = {line.get_label(): getattr(line, axis)() for line in panel.lines if line.get_label() in labels}
        assert {label: {*values} for label, values in levels.items()} == {
            "start = PCA, renormalised 0.5200": {0.52},
            "PCA 0.4000": {0.4},
        }


def test_levels_that_differ_are_marks_at_their_own_bars():
    runs = [run(place, (0.52 + place / 50, 0.5, 0.4 + place / 50), latent_dim=place + 8) for place in range(3)]
    experiments, recalls = map(list, zip(*runs, strict=True))
    _, panels = drawn(experiments, recalls, history=True)
    panel = panels["KNN Recall@5"]
    marks = {line.get_label(): line for line in panel.lines}
    for name, first in (("start", 0.52), ("PCA", 0.4)):
        np.testing.assert_allclose(marks[name].get_xdata(), [first, first + 0.02, first + 0.04])
        for bar, height in zip(panel.patches, marks[name].get_ydata(), strict=True):
            assert abs(height - bar.get_y() - bar.get_height() / 2) < bar.get_height()
    assert "PCA, renormalised 0.5000" in marks
    # Whose a line among curves would be, nobody could tell.
    by_epoch = panels["KNN Recall@5 by Epoch"]
    assert [text.get_text() for text in by_epoch.get_legend().get_texts()] == ["PCA, renormalised 0.5000"]


def test_losses_of_different_scales_have_axes_of_their_own(real):
    figure, panels = drawn([*real, made([2.0, 1.0])], [[]] * 4)
    names = [one.config["loss_function"] for one in real]
    expected = [f"{name}: {loss}" for name in names for loss in LOSSES]
    assert list(panels) == [*expected, "unknown loss: Total Loss"]
    for place, (name, experiment) in enumerate(zip(names, real, strict=True)):
        (line,) = panels[f"{name}: Rank Loss"].lines
        assert list(line.get_ydata()) == experiment.history.rank_loss and line.get_color() == COLOURS[place]
        low, high = panels[f"{name}: Rank Loss"].get_ylim()
        assert high / low < 3 * max(experiment.history.rank_loss) / min(experiment.history.rank_loss)
    assert "made" in texts_of(figure)


def test_names_of_losses_and_metrics_may_be_long():
    def odd(letter):
        evaluation = Evaluation(1, 1, {f"{letter * 60}_score": 0.5}, False)
        experiment = made(
            [2.0], letter, {"loss_function": letter * 60, "latent_dim": 4}, rank_loss=[1.0], pairdist_loss=[1.0]
        )
        return replace(experiment, history=replace(experiment.history, evaluations=[evaluation]))

    _, panels = drawn([odd("a"), odd("b")], [[]] * 2)
    assert f"{elided('a' * 60, 20)}: Pair Distance Loss" in panels and len(panels) == 8


def test_a_run_without_recall_is_said_to_have_none(real):
    figure, panels = drawn(real[:2], [recorded_recall(real[0]), []], history=True)
    assert texts_of(figure).count("not measured") == 1
    assert len(panels["KNN Recall@5"].patches) == 1 and len(panels["KNN Recall@5 by Epoch"].lines) >= 1


def test_recall_at_several_k_is_named_in_its_column():
    runs = [run(0, (0.5, 0.5, 0.4)), run(1, (0.5, 0.5, 0.4), latent_dim=8)]
    runs[1] = (runs[1][0], [MeasuredRecall(2, Recall(0.8, 10, 900))])
    figure, panels = drawn(*map(list, zip(*runs, strict=True)))
    assert {"0.6000 @5", "0.8000 @10"} <= {*texts_of(figure)} and "KNN Recall@k" in panels


def test_bars_have_their_standard_error():
    experiments, recalls = map(list, zip(run(0, (0.5, 0.5, 0.4), 0.6, 0.02), run(1, (0.5, 0.5, 0.4), 0.7), strict=True))
    _, panels = drawn(experiments, recalls)
    (bar,) = (one.lines[2][0] for one in panels["KNN Recall@5"].containers if hasattr(one, "lines"))
    ((low, high),) = bar.get_segments()
    assert (low[0], high[0]) == pytest.approx((0.58, 0.62))


def test_runs_on_images_are_compared_by_each_metric_that_one_has(real):
    def images(experiment, *names):
        evaluations = [
            Evaluation(e, e, {name: e + place / 7 for place, name in enumerate(names)}, False) for e in (2, 4)
        ]
        return replace(experiment, history=replace(experiment.history, evaluations=evaluations))

    experiments = [images(real[0], "psnr", "fid", "fid_se"), images(real[1], "psnr", "ssim", "lpips", "kid"), real[2]]
    _, panels = drawn(experiments, [[]] * 3)
    assert [title for title in panels if "Loss" not in title] == ["PSNR", "FID", "SSIM", "LPIPS", "KID"]
    assert [list(line.get_xdata()) for line in panels["PSNR"].lines] == [[2, 4], [2, 4]]
    (line,) = panels["FID"].lines
    assert list(line.get_ydata()) == [2 + 1 / 7, 4 + 1 / 7] and line.get_color() == COLOURS[0]


def test_letters_without_a_font_are_said_once(real, tmp_path, capsys, recwarn, monkeypatch):
    monkeypatch.setattr("dploss.plots.style._CJK_FONTS", ())
    odd = replace(real[0], config={**real[0].config, "data": {"path": "임베딩.parquet"}})
    figure = comparison_figure([odd, real[1]], [[]] * 2, compare([odd, real[1]], [[]] * 2), False)
    save(figure, tmp_path / "wide.png")
    assert (
        capsys.readouterr().err
        == f"{tmp_path / 'wide.png'}: no font for some of its letters; install one that has them\n"
    )
    assert not recwarn.list


def test_a_run_of_one_epoch_beside_longer_ones_is_a_point_that_is_seen():
    short, long = made([0.003], str(uuid.UUID(int=1 << 96))), made([2.0, 1.0], str(uuid.UUID(int=2 << 96)))
    _, panels = drawn([short, long], [[], []])
    point, line = panels["Total Loss"].lines
    # A share of a line's length as `markevery` marks no point of a line without length.
    assert (point.get_marker(), point.get_markevery()) == ("o", None) and line.get_markevery() == 0.1

import math
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from drawn import assert_legible, drawn_texts, made, pixels, quickly_drawn, real, share_of
from hypothesis import given
from hypothesis import strategies as st

from dploss.errors import InputError
from dploss.evaluation.recall_history import recorded_recall
from dploss.experiments.comparison import compare
from dploss.experiments.history import Evaluation
from dploss.experiments.recalls import MeasuredRecall, Recall
from dploss.plots import comparison_figure, experiment_figure, figure_path, quick_figure, save, show
from dploss.plots.style import COLOURS, _ReadableLocator, line_style, log_scale


def test_the_quick_figure_has_a_panel_for_each_loss_and_recall(real, tmp_path):
    figure = quick_figure(real[0], recorded_recall(real[0]))
    assert [axes.get_title() for axes in figure.axes] == [
        "Total Loss",
        "Rank Loss",
        "Pair Distance Loss",
        "KNN Recall@5",
    ]
    assert [axes.get_yscale() for axes in figure.axes] == ["log"] * 4
    assert_legible(figure)
    save(figure, tmp_path / "quick.png")
    image = pixels(tmp_path / "quick.png")
    assert image.shape == (607, 900, 3)
    assert all(share_of(colour, image) > 5e-4 for colour in COLOURS[:3])


def test_the_curves_are_the_history(real):
    history = replace(real[0].history, pca_renormalised_recall=real[0].history.start_recall)
    total, rank, pairdist, recall = quick_figure(replace(real[0], history=history), recorded_recall(real[0])).axes
    for axes, losses in ((total, history.total_loss), (rank, history.rank_loss), (pairdist, history.pairdist_loss)):
        assert list(axes.lines[0].get_xdata()) == [1, 2, 3, 4]
        assert list(axes.lines[0].get_ydata()) == losses
    assert list(recall.lines[0].get_xdata()) == [0, 2, 4]
    assert list(recall.lines[0].get_ydata()) == history.recall_history
    levels = {line.get_label(): line.get_ydata()[0] for line in recall.lines[2:]}
    assert levels[f"PCA {history.pca_recall:.4f}"] == history.pca_recall
    start = f"start = PCA, renormalised {history.start_recall:.4f}"
    assert levels[start] == history.start_recall


def test_baselines_apart_have_a_line_each(real):
    history = replace(real[0].history, pca_renormalised_recall=real[0].history.start_recall - 0.01)
    (*_, recall) = quick_figure(replace(real[0], history=history), recorded_recall(real[0])).axes
    labels = [line.get_label() for line in recall.lines]
    assert [label.rsplit(" ", 1)[0] for label in labels[-3:]] == ["start", "PCA, renormalised", "PCA"]
    assert len({line.get_color() for line in recall.lines[-3:]}) == 3


def test_a_start_without_training_is_drawn():
    start = made([], recall_epochs=[0], recall_history=[0.7], pca_recall=0.5, pca_renormalised_recall=0.7)
    recalls = recorded_recall(start)
    for figure in (quick_figure(start, recalls), experiment_figure(start, recalls, "")):
        assert_legible(figure)
        assert "start = PCA, renormalised 0.7000" in [text for text, _ in drawn_texts(figure)]


def test_one_epoch_is_a_point_in_every_panel_and_the_only_tick():
    one = made([0.7], rank_loss=[0.6], pairdist_loss=[0.05])
    figure = experiment_figure(one, [], "not measured")
    for axes in figure.axes[:4]:
        assert axes.lines and all(line.get_marker() == "o" for line in axes.lines)
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low < tick < high] == [1]
    assert_legible(figure)


def test_recall_has_its_standard_error_and_other_k():
    others = (Recall(0.4, 1, 99), Recall(0.7, 10, 99))
    recalls = [
        MeasuredRecall(0, Recall(0.5, 5, 99)),
        MeasuredRecall(2, Recall(0.55, 5, 99, 0.01), others),
        MeasuredRecall(4, Recall(0.6, 5, 99, 0.02), others),
    ]
    figure = quick_figure(made([3.0, 2.0, 1.0, 0.5]), recalls)
    panel = figure.axes[-1]
    (bars,) = (container.lines[2][0] for container in panel.containers)
    np.testing.assert_allclose(bars.get_segments(), [[[2, 0.54], [2, 0.56]], [[4, 0.58], [4, 0.62]]])
    curves = {line.get_label(): line for line in panel.lines}
    assert "epoch 4: 0.6000 ± 0.0200 standard error" in curves
    assert "recall@1, @10: 0.4000, 0.7000" in curves
    drawn = [line for line in panel.lines if line.get_color() == COLOURS[4]]
    assert [list(line.get_xdata()) for line in drawn] == [[2, 4]] * 2
    assert [list(line.get_ydata()) for line in drawn] == [[0.4] * 2, [0.7] * 2]
    assert_legible(figure)
    # Each curve is named where it ends.
    heights = {text.get_text(): text.get_window_extent() for text in panel.texts}
    for k, value in (("@1", 0.4), ("@10", 0.7)):
        assert heights[k].y0 < panel.transData.transform((4, value))[1] < heights[k].y1


def test_names_of_curves_that_end_together_do_not_overlap():
    others = tuple(Recall(0.6 + k / 1e5, k, 99) for k in (1, 10, 50))
    recalls = [MeasuredRecall(epoch, Recall(0.6, 5, 99), others) for epoch in (0, 2)]
    assert_legible(quick_figure(made([3.0, 2.0]), recalls))


def test_a_history_of_another_program_has_its_one_panel():
    figure = quick_figure(made([2.0, 1.0]), [])
    assert [axes.get_title() for axes in figure.axes] == ["Total Loss"]
    assert_legible(figure)


def test_a_matryoshka_encoder_has_its_recall_by_size(real):
    by_dim = {"16": [0.3, 0.4], "32": [0.4, 0.5], "64": [0.5, 0.6], "128": [0.7, 0.8]}
    history = replace(real[0].history, recall_by_dim=by_dim, pca_recall_by_dim=dict.fromkeys(by_dim, 0.35))
    nested = replace(real[0], history=history)
    for figure in (quick_figure(nested, recorded_recall(nested)), experiment_figure(nested, [], "not measured")):
        (panel,) = (axes for axes in figure.axes if axes.get_title() == "Recall@5 by Size, epoch 4")
        start, pca, latents = panel.lines
        assert list(latents.get_xdata()) == [16, 32, 64, 128]
        assert list(latents.get_ydata()) == [0.4, 0.5, 0.6, 0.8]
        assert list(start.get_ydata()) == [0.3, 0.4, 0.5, 0.7] and start.get_label() == "start"
        assert set(pca.get_ydata()) == {0.35}
        assert_legible(figure)


def test_the_six_panels(real, tmp_path):
    figure = experiment_figure(real[0], recorded_recall(real[0]), "")
    assert [axes.get_title() or axes.get_title("left") for axes in figure.axes] == [
        "Total Loss",
        "Rank Loss",
        "Pair Distance Loss",
        "All Losses",
        "KNN Recall@5",
        "Performance Summary",
    ]
    assert all(axes.get_yscale() == "log" and axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes[:5])
    assert len(figure.axes[3].lines) == 3
    assert_legible(figure)
    texts = "\n".join(text for text, _ in drawn_texts(figure))
    assert real[0].id in texts and f"{real[0].history.recall_history[-1]:.4f}" in texts and "PCA 0." in texts
    save(figure, tmp_path / "six.png")
    assert pixels(tmp_path / "six.png").shape == (660, 1200, 3)


def evaluated(experiment):
    """The same experiment with evaluations of images, the second of them the best."""
    names = ("clip_score", "lpips", "inception_score", "fid", "psnr", "ssim", "composite_score")
    evaluations = [
        Evaluation(
            epoch,
            step=10 * epoch,
            metrics={name: place + epoch / 7 for place, name in enumerate(names)} | {"recall": 0.5, "notes": ["x"]},
            is_best=epoch == 2,
        )
        for epoch in (2, 4)
    ]
    return replace(experiment, history=replace(experiment.history, evaluations=evaluations))


def test_evaluations_have_panels_and_the_best_a_star(real):
    experiment = evaluated(real[0])
    recalls = recorded_recall(experiment)
    for figure, before in ((quick_figure(experiment, recalls), 4), (experiment_figure(experiment, recalls, ""), 6)):
        assert_legible(figure)
        assert [axes.get_title("left") for axes in figure.axes[before:]] == [
            "CLIP Score",
            "LPIPS",
            "Inception Score",
            "FID",
            "PSNR",
            "SSIM",
            "Composite Score",
        ]
        stars = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "*"]
        assert len(stars) == 8 and {star.get_xdata()[0] for star in stars} == {2}
    assert ["best.pt", "of", "epoch", "2"] in [text.split() for text, _ in drawn_texts(figure)]


@pytest.mark.parametrize(
    "losses",
    [
        [1.0, 0.1, 0.0],
        [0.0, 0.0],
        [3.0],
        [1e140, 1e-140],
        [-1.0, 2.0, 0.5],
        [-3.0, -30.0],
        [math.nan, 1.0, math.nan],
        [math.nan, math.nan],
        [5.0, 5.0, 5.0],
        [1.2345678, 1.2345679],
        [1e5, 2e5, 9e9],
    ],
)
def test_no_losses_break_the_log_scale(losses):
    experiment = made(losses, rank_loss=losses, pairdist_loss=losses)
    for figure in (
        quick_figure(experiment, []),
        experiment_figure(experiment, [], "not measured"),
        comparison_figure([experiment] * 2, [[]] * 2, compare([experiment] * 2, [[]] * 2), True),
    ):
        assert_legible(figure)
        for axes in figure.axes:
            if axes.axison and np.isfinite(losses).any() and axes.lines:
                assert 1 <= len([text for text in axes.yaxis.get_ticklabels() if text.get_text()]) <= 12


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9786, 0.985, ["0.978", "0.98", "0.982", "0.984", "0.986"]),
        (0.012, 0.7, ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]),
        (0.062, 0.16, ["0.07", "0.1", "0.15"]),
        (0.716, 0.836, ["0.72", "0.74", "0.76", "0.78", "0.8", "0.82", "0.84"]),
        (1e-6, 2.0, ["1e-6", "1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (1e-12, 1.0, ["1e-12", "1e-10", "1e-8", "1e-6", "0.0001", "0.01", "1"]),
    ],
)
def test_ticks_can_be_read(low, high, ticks):
    axes = plt.figure().add_subplot()
    axes.plot([low, high])
    log_scale(axes, [low, high])
    axes.figure.canvas.draw()
    bottom, top = axes.get_ylim()
    labels = [tick.label1.get_text() for tick in axes.yaxis.get_major_ticks() if bottom <= tick.get_loc() <= top]
    assert set(labels) <= set(ticks) and len(labels) >= min(len(ticks), 3)


@given(st.floats(-12, 6), st.floats(0.001, 12))
def test_some_ticks_are_in_every_view_and_not_too_many(low, decades):
    bottom, top = 10.0**low, 10.0 ** (low + decades)
    ticks = _ReadableLocator(bottom).tick_values(bottom, top)
    assert 2 <= len(ticks) <= 12 and all(bottom <= tick <= top for tick in ticks)
    # No part of the view is far from a tick.
    heights = np.log(np.array([bottom, *ticks, top]))
    assert np.diff(heights).max() <= 0.62 * (heights[-1] - heights[0])


def test_zero_has_a_place_below_all_others():
    axes = plt.figure().add_subplot()
    axes.plot([1, 0.01, 0])
    log_scale(axes, [1, 0.01, 0])
    at = [axes.transData.transform((0, value))[1] for value in (0, 0.01, 0.1, 1)]
    assert at == sorted(at) and at[0] < at[1]
    assert at[3] - at[2] == pytest.approx(at[2] - at[1], rel=0.02)


def test_the_first_twenty_eight_lines_differ_by_colour_and_dash():
    styles = [line_style(place) for place in range(140)]
    assert len({(style["color"], style["linestyle"]) for style in styles[:28]}) == 28
    assert len({(style["color"], style["linestyle"], style["marker"]) for style in styles}) == 140


def test_names_may_hold_anything(real, tmp_path):
    odd = replace(real[0], folder=Path("_$cost^2$ 100%_{x}"), config={**real[0].config, "loss_function": "$\\frac{"})
    recalls = recorded_recall(odd)
    save(experiment_figure(odd, recalls, ""), tmp_path / "odd.png")
    figure = comparison_figure([odd, real[1]], [recalls, recalls], compare([odd, real[1]], [recalls] * 2), True)
    assert_legible(figure)
    save(figure, tmp_path / "odd.svg")


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")]
)
def test_formats(real, tmp_path, suffix, start):
    path = figure_path(tmp_path / f"figure.{suffix}")
    save(quick_figure(real[0], []), path)
    assert path.read_bytes().startswith(start)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "message"), [("a.bmp", "ends in .png, .pdf, .svg"), ("a", "ends in"), ("gone/a.png", "no folder gone")]
)
def test_a_picture_that_cannot_be_saved_is_said(name, message):
    with pytest.raises(InputError, match=message):
        figure_path(name)


@pytest.mark.parametrize(
    ("framework", "terminal", "windows"), [("qt", True, 1), ("qt", False, 0), (None, True, 0), (None, False, 0)]
)
def test_a_window_opens_only_at_a_screen_and_a_terminal(real, monkeypatch, framework, terminal, windows):
    opened = []
    monkeypatch.setattr(plt, "show", lambda: opened.append(1))
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    figure = quick_figure(real[0], [])
    monkeypatch.setattr(type(figure.canvas), "required_interactive_framework", framework)
    show(figure)
    assert len(opened) == windows and not plt.get_fignums()

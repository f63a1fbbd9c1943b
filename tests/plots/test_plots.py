import itertools
import math
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from dploss.errors import InputError
from dploss.evaluation.recall_history import MeasuredRecall, recorded_recall
from dploss.experiments.catalog import Experiment, list_experiments
from dploss.experiments.comparison import compare
from dploss.experiments.history import Evaluation, Recall, TrainHistory
from dploss.plots import comparison_figure, experiment_figure, figure_path, quick_figure, save, show
from dploss.plots.style import COLOURS, line_style, log_scale, monospace


@pytest.fixture(autouse=True)
def quickly_drawn(monkeypatch):
    """Half the resolution, a quarter of the time; the scripts' tests look at whole figures."""
    monkeypatch.setattr("dploss.plots.style.DPI", 75)
    yield
    plt.close("all")


@pytest.fixture
def real(trained):
    return list_experiments(trained)[0]


def made(losses, name="made", config=None, **more):
    history = TrainHistory.from_dict({"epochs": list(range(1, len(losses) + 1)), "total_loss": losses, **more})
    return Experiment(Path(name), config or {}, history, datetime.now(UTC))


def many(count, epochs=20):
    """Runs of falling losses with long names of data and some of the experiments."""
    random = np.random.default_rng(0)
    runs, recalls = [], []
    for place in range(count):
        falling = (1e-3 + np.exp(-np.arange(epochs) / 5)) * random.uniform(0.5, 2)
        name = f"a_run_with_quite_a_long_name_{place}" if place % 3 == 0 else str(uuid.UUID(int=place << 96))
        config = {"data": {"path": f"/data/vectors_of_text_embedding_model_{place}.parquet"}, "tau": place / 7, "lr": 1}
        config |= {"loss_function": "DPLossV2Norm", "latent_dim": 64 + place, "input_dim": 768, "epochs": epochs}
        more = {name: list(falling * scale) for name, scale in (("rank_loss", 0.9), ("pairdist_loss", 0.1))}
        runs.append(made(list(falling), name, config, pca_recall=0.5 + place / 1000, **more))
        recalls.append([MeasuredRecall(epoch, Recall(0.5 + epoch / 100, 5, 3000)) for epoch in (10, 20)])
    return runs, recalls


def drawn_texts(figure):
    """Every visible text and its box in pixels; tick labels only where their tick is in view."""
    figure.canvas.draw()
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not axes.axison or not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
            if not axes.axison:
                hidden.add(axis.label)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text not in hidden]


def assert_legible(figure):
    """No text overlaps another, and none leaves the figure."""
    texts = drawn_texts(figure)
    width, height = figure.canvas.get_width_height()
    for text, box in texts:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (one, box), (other, other_box) in itertools.combinations(texts, 2):
        across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        up = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        # Boxes have room for letters that reach high and low: a pixel or two is no overlap.
        assert across <= 1 or up <= 2 or slanted(box, other_box), (one, other)


def slanted(box, other):
    """Slanted names lie beside each other though their boxes do not."""
    return box.height > 20 and other.height > 20


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), float) / 255


def share_of(colour, image):
    return (np.abs(image - to_rgb(colour)).max(axis=-1) < 0.05).mean()


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
    history = real[0].history
    total, rank, pairdist, recall = quick_figure(real[0], recorded_recall(real[0])).axes
    for axes, losses in ((total, history.total_loss), (rank, history.rank_loss), (pairdist, history.pairdist_loss)):
        assert list(axes.lines[0].get_xdata()) == [1, 2, 3, 4]
        assert list(axes.lines[0].get_ydata()) == losses
    assert list(recall.lines[0].get_xdata()) == [0, 2, 4]
    assert list(recall.lines[0].get_ydata()) == history.recall_history
    levels = {line.get_label(): line.get_ydata()[0] for line in recall.lines[2:]}
    assert levels[f"PCA {history.pca_recall:.4f}"] == history.pca_recall
    start = f"start = PCA, renormalised {history.start_recall:.4f}"
    assert history.start_recall == history.pca_renormalised_recall == levels[start]


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
        [1e200, 1e-200],
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


def test_zero_has_a_place_below_all_others():
    axes = plt.figure().add_subplot()
    axes.plot([1, 0.01, 0])
    log_scale(axes, [1, 0.01, 0])
    at = [axes.transData.transform((0, value))[1] for value in (0, 0.01, 0.1, 1)]
    assert at == sorted(at) and at[0] < at[1]
    assert at[3] - at[2] == pytest.approx(at[2] - at[1], rel=0.02)


@pytest.mark.parametrize(
    ("count", "history"), [(1, False), (3, True), (8, True), (9, False), (20, True), (20, False), (60, True)]
)
def test_a_comparison_of_any_size_is_legible(count, history):
    experiments, recalls = many(count)
    table = compare(experiments, recalls)
    figure = comparison_figure(experiments, recalls, table, history)
    assert_legible(figure)
    titles = [axes.get_title() or axes.get_title("left") for axes in figure.axes]
    assert titles[:4] == ["Total Loss", "Rank Loss", "Pair Distance Loss", "KNN Recall@5"]
    assert (titles[4:] == ["KNN Recall@5 by Epoch"]) is history
    assert [len(axes.lines) for axes in figure.axes[:3]] == [count] * 3
    assert len(figure.axes[3].patches) == count
    texts = "\n".join(text for text, _ in drawn_texts(figure))
    assert all(cell in texts for row in table.rows for cell in row)


def test_a_comparison_without_recall_has_no_empty_panel(real):
    experiments = [*real, made([2.0, 1.0])]
    figure = comparison_figure(experiments, [[]] * 4, compare(experiments, [[]] * 4), False)
    assert [axes.get_title() for axes in figure.axes] == ["Total Loss", "Rank Loss", "Pair Distance Loss"]
    assert [len(axes.lines) for axes in figure.axes] == [4, 3, 3]
    assert_legible(figure)


def test_one_run_without_recall_is_said_to_have_none(real):
    recalls = [recorded_recall(real[0]), []]
    figure = comparison_figure(real[:2], recalls, compare(real[:2], recalls), True)
    assert "not measured" in [text for text, _ in drawn_texts(figure)]
    assert_legible(figure)


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


def test_wide_letters_leave_the_table_of_a_comparison_straight(real, tmp_path):
    names = ("임베딩.parquet", "cafe\u0301.parquet", "plain.parquet")
    runs = [replace(run, config={**run.config, "data": {"path": name}}) for run, name in zip(real, names, strict=True)]
    table = compare(runs, [[]] * 3)
    figure = comparison_figure(runs, [[]] * 3, table, False)
    cells = [text for text in figure.texts if text.get_fontfamily() == monospace()]
    assert [cell.get_text() for cell in cells] == [cell for row in (table.header, *table.rows) for cell in row]
    for place in range(len(table.header)):
        column = cells[place :: len(table.header)]
        assert {cell.get_ha() for cell in column} == {"right" if place else "left"}
        assert len({round(cell.get_position()[0], 9) for cell in column}) == 1
    save(figure, tmp_path / "wide.png")


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

"""Runs to draw, and what a drawn figure shows."""

import itertools
import uuid
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from dploss.experiments.catalog import Experiment, list_experiments
from dploss.experiments.history import TrainHistory
from dploss.experiments.recalls import MeasuredRecall, Recall


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
    """No text overlaps another, none leaves the figure, and no line runs behind a legend."""
    texts = drawn_texts(figure)
    width, height = figure.canvas.get_width_height()
    for text, box in texts:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (one, box), (other, other_box) in itertools.combinations(texts, 2):
        across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        up = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        # Boxes have room for letters that reach high and low: a pixel or two is no overlap.
        assert across <= 1 or up <= 2, (one, other)
    assert_legends_apart(figure)


def assert_legends_apart(figure):
    """No line of a panel runs behind its legend."""
    for axes in figure.axes:
        box = axes.get_legend() and axes.get_legend().get_window_extent()
        for line in axes.lines if box else ():
            points = line.get_transform().transform(line.get_xydata())
            along = np.linspace(0, len(points) - 1, 50 * len(points))
            x, y = (np.interp(along, np.arange(len(points)), column) for column in points.T)
            behind = (x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)
            assert not behind.any(), line.get_label()


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), float) / 255


def share_of(colour, image):
    return (np.abs(image - to_rgb(colour)).max(axis=-1) < 0.05).mean()

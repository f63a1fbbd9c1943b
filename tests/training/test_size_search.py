import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.experiments.catalog import list_experiments
from dploss.training.size_search import SizeSearch, next_size, size_step


@given(
    decay=st.floats(20, 400), share=st.floats(-0.3, 0.8), target=st.floats(0.05, 0.995), step=st.sampled_from([1, 4, 8])
)
def test_it_finds_the_smallest_size_on_any_rising_curve(decay, share, target, step):
    largest = 384

    def pca(size):
        return 1 - math.exp(-size / decay)

    tried: dict[int, float] = {}
    while (size := next_size(tried, pca, target, step, largest)) is not None:
        assert size not in tried and size % step == 0 and 0 < size <= largest
        tried[size] = 1 - (1 - share) * (1 - pca(size))
    expected = [size for size in range(step, largest + 1, step) if 1 - (1 - share) * (1 - pca(size)) >= target]
    assert min((size for size, recall in tried.items() if recall >= target), default=None) == next(iter(expected), None)


def test_pca_s_curve_saves_trainings():
    def pca(size):
        return 1 - math.exp(-size / 100)

    tried: dict[int, float] = {}
    while (size := next_size(tried, pca, 0.95, 8, 768)) is not None:
        tried[size] = 1 - 0.65 * (1 - pca(size))
    assert len(tried) <= 4


def test_sizes_are_of_the_vectors_measure():
    assert [size_step(dim) for dim in (3, 96, 384, 768, 1536)] == [1, 1, 4, 8, 16]


def small(tmp_path, **settings) -> TrainConfig:
    return TrainConfig(
        limit=300, hidden_dims=(16,), epochs=1, batch_size=128, checkpoints_dir=str(tmp_path), quiet=True, **settings
    )


def test_the_size_that_is_found_is_the_only_new_experiment(tmp_path):
    search = SizeSearch(small(tmp_path), 0.8)
    history = search.run(lambda: False)
    found = search.trials[-1]
    (experiment,), skipped = list_experiments(tmp_path)
    assert experiment.folder == found.folder and not skipped
    assert experiment.config["latent_dim"] == found.size and experiment.history == history
    recalls = {trial.size: trial.recall.value for trial in search.trials}
    assert recalls[found.size] >= 0.8 and recalls[found.size - 8] < 0.8
    assert all(trial.folder.is_dir() for trial in search.trials)


def test_a_stop_leaves_what_was_trained(tmp_path):
    search = SizeSearch(small(tmp_path), 0.8)
    assert search.run(lambda: True) is None
    assert len(list_experiments(search.folder)[0]) == 1


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        (1.0, {}, "target_recall must be above 0 and below 1, got 1.0"),
        (float("nan"), {}, "target_recall must be above 0"),
        (0.9, {"matryoshka": True}, "leave matryoshka out"),
        (0.9, {"val_fraction": 0}, "leave val_fraction 0 out"),
        (0.9, {"k": 40}, "recall@40 needs at least 41"),
    ],
)
def test_what_allows_no_search_is_refused(tmp_path, target, settings, message):
    with pytest.raises(InputError, match=message):
        SizeSearch(small(tmp_path, **settings), target)

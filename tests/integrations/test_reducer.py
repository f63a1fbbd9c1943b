import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from dploss import DPReducer
from dploss.config import TrainConfig
from dploss.data import open_vectors
from dploss.evaluation.recall import RecallEvaluator
from dploss.models.pca import PCA as OwnPCA
from dploss.training.launch import new_experiment

SMALL = {"epochs": 2, "batch_size": 64, "hidden_dims": (24,)}


@pytest.fixture(scope="module")
def fitted(builtin) -> DPReducer:
    """Fitted on the first 300 rows; not to be changed."""
    return DPReducer(16, random_state=3, **SMALL).fit(builtin[:300])


def expected_failures(estimator):
    zeros = {"check_estimators_dtypes": "it has rows of zeros, which have no direction"}
    return zeros if estimator.metric == "cosine" else {}


@parametrize_with_checks(
    [
        DPReducer(1, epochs=2, hidden_dims=(8,)),
        DPReducer(2, epochs=2, hidden_dims=(), loss="DPLossV1"),
        DPReducer(2, epochs=2, hidden_dims=(8,), metric="cosine"),
        DPReducer(bytes=2, code="binary", epochs=1, hidden_dims=(8,)),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_it_is_what_the_trainer_makes_of_the_same_settings(metric, builtin, tmp_path):
    rows = 3 * builtin[:300]
    reducer = DPReducer(16, metric=metric, loss="DPLossV2", tau=0.5, random_state=3, **SMALL).fit(rows)
    np.save(tmp_path / "rows.npy", rows)
    run = new_experiment(
        TrainConfig(
            data=str(tmp_path / "rows.npy"),
            metric=metric,
            loss_function="DPLossV2",
            tau=0.5,
            latent_dim=16,
            seed=3,
            val_fraction=0,
            checkpoints_dir=str(tmp_path),
            quiet=True,
            **SMALL,
        )
    )
    history = run.run()
    np.testing.assert_array_equal(reducer.transform(rows), run.encoder.encode(rows))
    assert reducer.history_.total_loss == history.total_loss and reducer.history_.status == "completed"


def test_its_defaults_are_those_of_train_py():
    names = {"n_components": "latent_dim", "loss": "loss_function"}
    defaults, config = inspect.signature(DPReducer).parameters, TrainConfig()
    shown = {name: defaults[name].default for name in defaults if name != "random_state"}
    fitted = {"n_components", "hidden_dims", "epochs"}
    assert {name: shown.pop(name) for name in fitted} == dict.fromkeys(fitted)
    assert shown == {name: getattr(config, names.get(name, name)) for name in shown}


def test_by_default_its_size_fits_the_rows(builtin):
    halved = DPReducer(epochs=0).fit(builtin[:40, :100])
    assert halved.n_components_ == 50 and halved.encoder_.hidden_dims == (768,)
    assert DPReducer(epochs=0).fit(builtin[:40]).n_components_ == 512


def test_without_epochs_it_is_pca_with_more_than_the_norm_restored(builtin):
    reduced, pca = DPReducer(16, epochs=0).fit_transform(builtin), OwnPCA.fit(builtin, 16)
    whole, kept = (np.linalg.norm(one, axis=1) for one in (builtin - pca.mean, pca.encode(builtin)))
    expected = pca.encode(builtin) * ((whole / kept) ** 1.25)[:, None]
    expected *= whole.mean() / np.linalg.norm(expected, axis=1).mean()
    np.testing.assert_allclose(reduced, expected, atol=1e-3)


def test_it_keeps_more_neighbours_of_new_rows_than_pca():
    rows = open_vectors(limit=3000).rows
    train, held_out = rows[:2500], rows[2500:]
    reducer = DPReducer(32, epochs=4, batch_size=128, hidden_dims=(128,), random_state=0).fit(train)

    def recall(transformer):
        return RecallEvaluator(k=10).evaluate(held_out, transformer.transform(held_out)).value

    assert recall(reducer) > recall(PCA(32).fit(train)) + 0.05


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_rows_stay_as_they_are_and_their_dtype_is_that_of_the_latents(dtype, builtin, fitted):
    rows = builtin[:100].astype(dtype)
    before = rows.copy()
    rows.flags.writeable = False
    latents = clone(fitted).fit_transform(rows)
    np.testing.assert_array_equal(rows, before)
    assert latents.dtype == dtype and latents.shape == (100, 16)
    assert fitted.transform((1000 * rows).astype(int)).dtype == np.float32


def test_the_same_random_state_gives_the_same_latents(builtin, fitted):
    rows = builtin[:300]
    latents = fitted.transform(rows)
    np.testing.assert_array_equal(clone(fitted).fit_transform(rows), latents)

    def states():
        return (clone(fitted).set_params(random_state=np.random.RandomState(5)).fit_transform(rows) for _ in range(2))

    np.testing.assert_array_equal(*states())
    unseeded = clone(fitted).set_params(random_state=None)
    assert not np.array_equal(unseeded.fit_transform(rows), unseeded.fit_transform(rows))


@pytest.mark.parametrize("random_state", [None, 3])
def test_global_random_states_are_left_as_they_were(random_state, builtin):
    before, (_, numpys, position, *_) = torch.get_rng_state(), np.random.get_state()
    DPReducer(4, random_state=random_state, **SMALL).fit(builtin[:100])
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpys)
    assert np.random.get_state()[2] == position


def test_it_leaves_no_files_and_says_nothing(builtin, fitted, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    clone(fitted).fit(builtin[:100])
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_clone_is_not_fitted_and_a_pickle_is(builtin, fitted):
    assert clone(fitted).get_params() == fitted.get_params() and not hasattr(clone(fitted), "encoder_")
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.transform(builtin), fitted.transform(builtin))
    assert copy.history_ == fitted.history_


def test_it_works_in_a_pipeline(builtin):
    labels = (builtin[:, 0] > builtin[:, 0].mean()).astype(int)
    pipeline = make_pipeline(StandardScaler(), DPReducer(16, random_state=0, **SMALL), KNeighborsClassifier())
    assert pipeline.fit(builtin[:500], labels[:500]).score(builtin[500:], labels[500:]) > 0.5
    assert list(pipeline[:-1].get_feature_names_out()) == [f"dpreducer{number}" for number in range(16)]


def test_a_search_finds_the_size_that_keeps_most(builtin):
    def recall(reducer, X, y=None):
        return RecallEvaluator(k=5).evaluate(X, reducer.transform(X)).value

    sizes = {"n_components": np.array([2, 8, 32]), "lr": np.logspace(-3, -2, 1)}
    search = GridSearchCV(DPReducer(random_state=0, **SMALL), sizes, scoring=recall, cv=2).fit(builtin[:300])
    assert search.best_params_["n_components"] == search.best_estimator_.n_components_ == 32
    assert (np.diff(search.cv_results_["mean_test_score"]) > 0).all()


def test_data_frames_in_and_out(builtin, fitted):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(builtin[:100], columns=[f"x{number}" for number in range(768)])
    frame.index += 7
    reducer = clone(fitted).set_output(transform="pandas")
    latents = reducer.fit_transform(frame)
    assert list(latents.columns) == [f"dpreducer{number}" for number in range(16)]
    assert list(latents.index) == list(frame.index) and list(reducer.feature_names_in_) == list(frame.columns)
    np.testing.assert_allclose(latents, reducer.encoder_.encode(builtin[:100]), atol=1e-5)


def test_as_few_as_three_rows_are_trained(builtin):
    assert DPReducer(5, epochs=1).fit_transform(builtin[:3]).shape == (3, 5)
    with pytest.raises(ValueError, match="2 sample.* minimum of 3 is required by DPReducer"):
        DPReducer(5).fit(builtin[:2])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 769}, "n_components=769 is above n_features=768: choose fewer"),
        ({"n_components": 0}, "n_components must be at least 1, got 0"),
        ({"n_components": 1.5}, "n_components must be a whole number, got 1.5"),
        ({"loss": "DPLossV9"}, "loss must be one of DPLossV1, .*, got 'DPLossV9'"),
        ({"hidden_dims": 24}, "hidden_dims must be a list of whole numbers, got 24"),
        ({"tau": -1.0}, "tau must be at least 1e-06, got -1.0"),
        ({"random_state": -1}, "random_state must be at least 0, got -1"),
        ({"random_state": "x"}, "'x' cannot be used to seed"),
        ({"metric": "cosine"}, "X: 1 of 10 rows .* row 1, is all zeros, which has no direction: use metric euclidean$"),
    ],
)
def test_what_cannot_be_used_is_named(parameters, message, builtin):
    rows = builtin[:10].copy()
    rows[1] = 0
    with pytest.raises(ValueError, match=message):
        DPReducer(**{"n_components": 4} | parameters).fit(rows)

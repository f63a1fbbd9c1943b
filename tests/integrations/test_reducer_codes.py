"""DPReducer(bytes=...): codes out, latents back."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from dploss import DPReducer
from dploss.config import TrainConfig
from dploss.evaluation.recall import RecallEvaluator
from dploss.training.launch import new_experiment

SMALL = {"epochs": 2, "batch_size": 64, "hidden_dims": (24,), "random_state": 3}


@pytest.fixture(scope="module")
def fitted(builtin) -> DPReducer:
    """Of 8 bytes, fitted on the first 300 rows; not to be changed."""
    return DPReducer(bytes=8, **SMALL).fit(builtin[:300])


def test_rows_become_the_bytes_that_train_py_stores(builtin, fitted, tmp_path):
    codes = fitted.transform(builtin)
    assert (codes.dtype, codes.shape, fitted.n_components_) == (np.uint8, (600, 8), 256)
    np.save(tmp_path / "rows.npy", builtin[:300])
    settings = {"epochs": 2, "batch_size": 64, "hidden_dims": (24,), "seed": 3, "val_fraction": 0, "quiet": True}
    config = TrainConfig(data=str(tmp_path / "rows.npy"), bytes=8, checkpoints_dir=str(tmp_path), **settings)
    run = new_experiment(config)
    run.run()
    np.testing.assert_array_equal(codes, run.encoder.encode_to_codes(builtin))


def test_the_inverse_is_the_latents_as_they_are_stored(builtin, fitted):
    codes = fitted.transform(builtin)
    latents = fitted.inverse_transform(codes)
    np.testing.assert_array_equal(latents, fitted.encoder_.code.decode(codes))
    exact = fitted.encoder_.encode(builtin)
    assert latents.shape == exact.shape == (600, 256)
    lost = np.square(latents - exact).sum(axis=1) / np.square(exact - exact.mean(axis=0)).sum(axis=1)
    assert lost.mean() < 0.7
    with pytest.raises(ValueError, match=r"codes must be uint8 of shape \(rows, 8\), got float32"):
        fitted.inverse_transform(exact)


def test_without_bytes_there_is_nothing_to_decode(builtin):
    assert hasattr(DPReducer(bytes=8), "inverse_transform") and not hasattr(DPReducer(8), "inverse_transform")


def test_the_rows_of_any_floating_dtype_give_bytes(builtin, fitted):
    codes = fitted.transform(builtin[:40])
    np.testing.assert_array_equal(fitted.transform(builtin[:40].astype(np.float64)), codes)
    assert fitted.transform(builtin[:40].astype(np.float16)).dtype == np.uint8
    # A row has the same code in any batch.
    np.testing.assert_array_equal(fitted.transform(builtin[7:8]), codes[7:8])


def test_the_best_code_can_be_chosen(builtin):
    chosen = DPReducer(4, bytes=4, code="auto", **SMALL | {"epochs": 0}).fit(builtin[:300])
    assert chosen.encoder_.code.name in ("trellis", "scalar", "int8", "pq", "binary")
    assert chosen.transform(builtin[:5]).shape == (5, 4) and chosen.get_params()["code"] == "auto"


def test_names_frames_clones_and_pickles(builtin, fitted):
    pandas = pytest.importorskip("pandas")
    assert list(fitted.get_feature_names_out()) == [f"dpreducer{number}" for number in range(8)]
    copy = pickle.loads(pickle.dumps(fitted)).set_output(transform="pandas")
    frame = copy.transform(builtin[:20])
    assert isinstance(frame, pandas.DataFrame) and (frame.dtypes == np.uint8).all()
    np.testing.assert_array_equal(
        copy.inverse_transform(frame), fitted.inverse_transform(fitted.transform(builtin[:20]))
    )
    assert clone(fitted).get_params() == fitted.get_params() and not hasattr(clone(fitted), "encoder_")


def test_a_search_finds_the_bytes_that_keep_most(builtin):
    def recall(reducer, X, y=None):
        return RecallEvaluator(k=5).evaluate(X, reducer.inverse_transform(reducer.transform(X))).value

    reducer = DPReducer(32, **SMALL | {"epochs": 0})
    search = GridSearchCV(reducer, {"bytes": np.array([2, 8])}, scoring=recall, cv=2).fit(builtin[:300])
    assert search.best_params_["bytes"] == 8


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bytes": 1}, "bytes must be at least 2, got 1"),
        ({"bytes": 8.0}, "bytes must be a whole number, got 8.0"),
        ({"bytes": 8, "code": "zip"}, "code must be one of trellis, .*, got 'zip'"),
        ({"bytes": 8, "n_components": 4}, "bytes 8: 4 dimensions hold 1 to 32 bits, not 56"),
        ({"bytes": 9, "code": "float16"}, "bytes 9: 9 bytes of float16 are 4.5 numbers"),
        ({"bytes": 8, "code": "auto", "n_components": 769}, "n_components=769 is above n_features=768"),
    ],
)
def test_what_cannot_be_used_is_named(parameters, message, builtin):
    with pytest.raises(ValueError, match=message):
        DPReducer(**SMALL | parameters).fit(builtin[:10])

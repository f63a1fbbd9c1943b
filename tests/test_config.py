import json
from types import NoneType

import pytest

from dploss.config import DEVICES, OPTIONS, TrainConfig, applicable, flag_name
from dploss.errors import InputError, SettingError
from dploss.losses.distance_preserving import LOSSES


def test_defaults_are_those_people_know():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.save_interval, config.lr, config.latent_dim) == (
        100,
        512,
        10,
        0.001,
        512,
    )
    assert (config.loss_function, config.tau, config.k, config.lambda_rank, config.lambda_pairdist) == (
        "DPLossV3",
        1.0,
        5,
        1.0,
        0.3,
    )


def test_it_survives_json():
    config = TrainConfig(hidden_dims=(32, 16), tau=2, data="rows.npy", column="emb")
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epochs", -1, "epochs must be at least 0, got -1"),
        ("epochs", 2.5, "epochs must be a whole number, got 2.5"),
        ("epochs", True, "epochs must be a whole number, got True"),
        ("batch_size", 2, "batch_size must be at least 3, got 2"),
        ("lr", 0, "lr must be above 0, got 0"),
        ("lr", float("nan"), "lr must be finite, got nan"),
        ("lr", "fast", "lr must be a number, got 'fast'"),
        ("tau", -1.0, "tau must be at least 1e-06, got -1.0"),
        ("k", 0, "k must be at least 1, got 0"),
        ("val_fraction", 1.0, "val_fraction must be below 1, got 1.0"),
        ("hidden_dims", (32, 0), "hidden_dims must be at least 1, got 0"),
        ("dropout", 1.0, "dropout must be below 1, got 1.0"),
        ("matryoshka_dims", (32, "x"), "matryoshka_dims must be a whole number, got 'x'"),
        ("hidden_dims", 32, "hidden_dims must be a list of whole numbers, got 32"),
        ("min_delta", -0.1, "min_delta must be at least 0, got -0.1"),
        ("min_delta", "much", "min_delta must be a number or auto, got 'much'"),
        ("min_delta", True, "min_delta must be a number or auto, got True"),
        ("loss_function", "DPLossV9", "loss_function must be one of DPLossV1, .* got 'DPLossV9'"),
        ("limit", 2, "limit must be at least 3, got 2"),
        ("seed", 2**32, "seed must be below"),
    ],
)
def test_a_bad_value_is_named_by_its_setting_and_in_scripts_by_its_flag(setting, value, message):
    with pytest.raises(SettingError, match=message) as caught:
        TrainConfig(**{setting: value})
    assert caught.value.named(flag_name) == str(caught.value).replace(setting, flag_name(setting), 1)


def test_what_a_person_wrote_is_no_name_of_a_setting():
    with pytest.raises(SettingError) as caught:
        TrainConfig(metric="{lr} metric")
    assert caught.value.named(flag_name) == "--metric must be one of euclidean, cosine, ip, got '{lr} metric'"


def test_annotations_are_the_types_and_the_choices():
    assert (OPTIONS["min_delta"].kind, OPTIONS["min_delta"].choices) == (float, ("auto",))
    assert all(isinstance(getattr(TrainConfig(), name), one.kind | NoneType) for name, one in OPTIONS.items())
    assert {name for name, one in OPTIONS.items() if one.optional} == {
        "column",
        "limit",
        "images",
        "queries",
        "query_column",
        "database",
        "bytes",
        "lpips_weights",
        "inception_weights",
        "dinov2_weights",
    }
    assert OPTIONS["metric"].choices == ("euclidean", "cosine", "ip") and OPTIONS["device"].choices == DEVICES
    assert OPTIONS["loss_function"].choices == tuple(LOSSES)
    with pytest.raises(SettingError, match="latent_dim must be a whole number, got None"):
        TrainConfig(latent_dim=None)


@pytest.mark.parametrize(("input_dim", "latent_dim"), [(1, 1), (2, 1), (384, 192), (767, 383), (768, 512), (4096, 512)])
def test_a_latent_dim_that_is_not_given_fits_the_vectors(input_dim, latent_dim):
    fitted = TrainConfig(epochs=7).fitted_to(1000, input_dim)
    assert (fitted.latent_dim, fitted.epochs) == (latent_dim, 7)
    assert type(fitted.as_dict()["latent_dim"]) is int
    assert TrainConfig(latent_dim=512).fitted_to(1000, input_dim).latent_dim == 512
    assert TrainConfig(matryoshka=True).fitted_to(1000, 384).matryoshka_dims == (48, 96, 192)


@pytest.mark.parametrize(("n_rows", "widths"), [(3, (768,)), (49_999, (768,)), (50_000, (2048,))])
def test_hidden_dims_that_are_not_given_fit_the_number_of_rows(n_rows, widths):
    assert TrainConfig(latent_dim=64).fitted_to(n_rows, 768).hidden_dims == widths
    assert TrainConfig(hidden_dims=(768,)).fitted_to(n_rows, 768).hidden_dims == (768,)
    assert TrainConfig(hidden_dims=[]).fitted_to(n_rows, 768).hidden_dims == ()


def test_matryoshka_sizes_follow_from_what_is_given():
    assert TrainConfig().matryoshka_dims == () and not TrainConfig().matryoshka
    assert TrainConfig(matryoshka=True).matryoshka_dims == (32, 64, 128, 256, 512)
    assert TrainConfig(matryoshka=True, latent_dim=100).matryoshka_dims == (50, 100)
    assert TrainConfig(matryoshka=True, latent_dim=9).matryoshka_dims == (2, 4, 9)
    named = TrainConfig(matryoshka_dims=(64, 32))
    assert (named.matryoshka, named.matryoshka_dims, named.latent_dim) == (True, (32, 64), 64)
    assert TrainConfig(matryoshka_dims=(64, 32), latent_dim=96).matryoshka_dims == (32, 64, 96)
    assert TrainConfig.from_dict(named.as_dict()) == named
    with pytest.raises(InputError, match="matryoshka_dims must be at most latent_dim 48, got 64"):
        TrainConfig(matryoshka_dims=(64, 32), latent_dim=48)
    with pytest.raises(InputError, match="matryoshka is for vectors"):
        TrainConfig(matryoshka=True, images="builtin")


def test_a_stored_config_that_lacks_a_setting_is_refused():
    with pytest.raises(InputError, match="config.json lacks tau"):
        TrainConfig.from_dict({key: value for key, value in TrainConfig().as_dict().items() if key != "tau"})


def test_a_stored_config_from_before_a_setting_has_its_default():
    stored = TrainConfig(save_top_k=7, min_delta="auto").as_dict()
    assert TrainConfig.from_dict(stored).min_delta == "auto"
    del stored["save_top_k"], stored["min_delta"]
    config = TrainConfig.from_dict(stored)
    assert (config.save_top_k, config.min_delta) == (3, 0.0)


def test_images_have_defaults_of_their_own():
    vectors, images = TrainConfig(), TrainConfig(images="builtin")
    assert (vectors.batch_size, vectors.latent_dim, vectors.metric_name, vectors.prune) == (512, 512, "recall", False)
    assert (images.batch_size, images.latent_dim, images.metric_name, images.prune) == (
        64,
        128,
        "composite_score",
        True,
    )
    assert TrainConfig(images="builtin", prune=False, batch_size=512).as_dict()["prune"] is False


def test_images_keep_their_lengths():
    with pytest.raises(InputError, match="metric must be euclidean with images"):
        TrainConfig(images="builtin", metric="cosine")
    with pytest.raises(InputError, match="image_size must be a multiple of 8, got 20"):
        TrainConfig(image_size=20)


@pytest.mark.parametrize(
    ("settings", "there", "absent"),
    [
        ({}, {"data", "metric", "dropout", "tau", "lr", "bytes"}, {"images", "image_size", "code", "matryoshka_dims"}),
        ({"hidden_dims": ()}, {"hidden_dims"}, {"dropout"}),
        ({"bytes": 64}, {"code"}, {"clip_model"}),
        ({"matryoshka_dims": (8, 16)}, {"matryoshka_dims"}, {"matryoshka"}),
        (
            {"epochs": 0},
            {"k", "seed", "hidden_dims", "init"},
            {"tau", "loss_function", "lr", "save_interval", "dropout"},
        ),
        ({"eval_every": 0}, {"val_fraction"}, {"metric_name", "save_top_k"}),
        ({"prune": True}, {"keep_every_n_steps"}, {"num_evaluation_samples"}),
        (
            {"images": "builtin"},
            {"image_size", "lambda_recon", "clip_model"},
            {"data", "metric", "hidden_dims", "bytes"},
        ),
        ({"images": "builtin", "eval_every": 0}, {"images"}, {"clip_model", "num_evaluation_samples", "prune"}),
    ],
)
def test_settings_without_effect_do_not_apply(settings, there, absent):
    names = applicable(TrainConfig(**settings).as_dict())
    assert there <= set(names) and not absent & set(names)
    assert not {"quiet", "checkpoints_dir", "no_tensorboard"} & set(names)
    assert [name for name in OPTIONS if name in names] == names

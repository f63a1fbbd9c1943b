import numpy as np
import pytest
import torch
from small_models import trained_like

from dploss.config import TrainConfig, flag_name
from dploss.errors import InputError, SettingError
from dploss.experiments.checkpoints import CheckpointManager
from dploss.models.build import load_encoder
from dploss.models.encoder import DPEncoder
from dploss.models.layers import EqualizedLinear
from dploss.models.pca import PCA


@pytest.fixture
def encoder() -> DPEncoder:
    torch.manual_seed(0)
    return DPEncoder(6, (5,), 3)


@pytest.mark.parametrize("hidden_dims", [(), (32,), (32, 16)])
def test_it_starts_exactly_at_pca(builtin, hidden_dims):
    pca = PCA.fit(builtin, 24)
    encoder = DPEncoder(768, hidden_dims, 24)
    encoder.initialize_from_pca(pca)
    np.testing.assert_allclose(encoder.encode(builtin), pca.encode(builtin), atol=1e-5)


def test_the_branch_learns_from_its_start_at_nothing(builtin):
    encoder = DPEncoder(768, (32,), 24)
    encoder.initialize_from_pca(PCA.fit(builtin, 24))
    optimizer = torch.optim.Adam(encoder.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        encoder(torch.from_numpy(builtin)).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad.abs().max() > 0 for parameter in encoder.branch.parameters())


def test_scale_of_the_vectors_is_the_scale_of_the_latents(builtin):
    big, small = DPEncoder(768, (8,), 24), DPEncoder(768, (8,), 24)
    big.load_state_dict(small.state_dict())
    small.standardize(PCA.fit(builtin, 24))
    big.standardize(PCA.fit(1000 * builtin, 24))
    np.testing.assert_allclose(big.encode(1000 * builtin), 1000 * small.encode(builtin), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.25])
def test_lengths_are_given_back(builtin, power):
    pca = PCA.fit(builtin, 24)
    encoder = DPEncoder(768, (32,), 24)
    encoder.initialize_from_pca(pca)
    encoder.length_power.fill_(power)
    short, long = (np.linalg.norm(rows, axis=1) for rows in (pca.encode(builtin), builtin - pca.mean))
    expected = pca.encode(builtin) * ((long / short) ** power)[:, None]
    np.testing.assert_allclose(encoder.encode(builtin), expected, atol=1e-5)
    if power == 1:
        np.testing.assert_allclose(np.linalg.norm(encoder.encode(builtin), axis=1), long, rtol=1e-5)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.25])
def test_a_cut_is_the_encoder_of_fewer_numbers(builtin, power):
    long, short = (DPEncoder(768, (32,), dim) for dim in (24, 8))
    for encoder in (long, short):
        encoder.initialize_from_pca(PCA.fit(builtin, encoder.latent_dim))
        encoder.length_power.fill_(power)
    np.testing.assert_allclose(long.encode(builtin, dim=8, any_dim=True), short.encode(builtin), atol=1e-5)
    np.testing.assert_array_equal(long.encode(builtin, dim=24), long.encode(builtin))
    none, half, whole = (long.truncate(torch.from_numpy(long.encode(builtin)), 8, share) for share in (0, 0.5, 1))
    torch.testing.assert_close(half.square(), none * whole)
    with pytest.raises(ValueError, match="dim must be within 1 and 24, got 25"):
        long.encode(builtin, dim=25)


def with_gain(rows: np.ndarray) -> DPEncoder:
    encoder = DPEncoder(rows.shape[1], (32,), 24)
    encoder.initialize_from_pca(PCA.fit(rows, 24))
    encoder.length_power.fill_(1.25)
    torch.manual_seed(1)
    encoder.log_gain.set_matrix(torch.randn(1, rows.shape[1]) / rows.shape[1])
    encoder.log_gain.bias.data.fill_(0.01)
    encoder.log_gain.offset.fill_(0.3)
    return encoder


def test_norms_have_the_learned_gain_of_their_direction(builtin):
    encoder = with_gain(builtin)
    layer, dim = encoder.log_gain, builtin.shape[1]
    pca = PCA.fit(builtin, 24)
    expected = []
    for row in builtin[:50].astype(np.float64) - pca.mean.astype(np.float64):
        y = pca.components.astype(np.float64) @ row
        direction = row / np.sqrt(sum(value * value for value in row))
        log_gain = 0.3 + 0.01 / 0.05 + sum(layer.weight.double().numpy(force=True)[0] * direction) / 0.05
        expected.append(y * (np.linalg.norm(row) / np.linalg.norm(y)) ** 1.25 * np.exp(log_gain))
    latents = encoder.encode(builtin[:50])
    np.testing.assert_allclose(latents, expected, atol=1e-5)
    ungained = DPEncoder(dim, (32,), 24)
    ungained.load_state_dict({k: v for k, v in encoder.state_dict().items() if "log_gain" not in k})
    gains = np.linalg.norm(latents, axis=1) / np.linalg.norm(ungained.encode(builtin[:50]), axis=1)
    assert gains.std() > 0.01 and (gains > 0).all()


def test_a_row_far_from_all_others_has_the_gain_of_a_near_one(builtin):
    encoder = with_gain(builtin)
    mean = encoder.mean.double().numpy()
    far = (mean + 1e6 * (builtin[:5] - mean)).astype(np.float32)
    np.testing.assert_allclose(encoder.encode(far) / 1e6, encoder.encode(builtin[:5]), atol=1e-4)


def test_encoders_saved_before_there_was_a_gain_are_read_as_they_were(builtin):
    encoder = with_gain(builtin)
    saved = {name: value for name, value in encoder.state_dict().items() if not name.startswith("log_gain")}
    restored = DPEncoder(768, (32,), 24)
    restored.load_state_dict(saved)
    assert restored.state_dict().keys() == saved.keys()
    encoder.log_gain.set_matrix(torch.zeros(1, 768))
    encoder.log_gain.offset.zero_()
    np.testing.assert_array_equal(restored.encode(builtin), encoder.encode(builtin))
    half = {**saved, "log_gain.bias": encoder.log_gain.bias}
    with pytest.raises(RuntimeError, match="log_gain"):
        DPEncoder(768, (32,), 24).load_state_dict(half)


def test_rows_without_a_length_have_finite_latents_and_gradients():
    encoder = DPEncoder(4, (8,), 2)
    encoder.initialize_from_pca(PCA.fit(np.eye(4, dtype=np.float32), 2))
    encoder.length_power.fill_(1)
    latents = encoder(torch.full((3, 4), 0.25))
    latents.sum().backward()
    assert latents.isfinite().all() and all(one.grad.isfinite().all() for one in encoder.parameters())


def test_dropout_is_for_training_only(builtin):
    encoder = DPEncoder(768, (32,), 24, dropout=0.5)
    x = torch.from_numpy(builtin)
    assert not torch.equal(encoder(x), encoder(x))
    np.testing.assert_array_equal(encoder.encode(builtin), encoder.encode(builtin))


def test_cosine_brings_vectors_to_length_one():
    encoder = DPEncoder(4, (), 2, metric="cosine")
    x = torch.rand(5, 4)
    torch.testing.assert_close(encoder(3 * x), encoder(x))


def test_equalized_weights_keep_the_size_of_what_goes_through():
    torch.manual_seed(0)
    for width, size in ((8, 1.0), (512, 0.05)):
        assert EqualizedLinear(width, 256, size)(torch.randn(400, width)).std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_encode_gives_numpy_back_for_numpy(encoder, dtype):
    array = np.random.default_rng(0).normal(size=(7, 6)).astype(dtype)
    array.flags.writeable = False
    latents = encoder.encode(array, batch_size=2)
    assert isinstance(latents, np.ndarray) and latents.dtype == dtype and latents.shape == (7, 3)
    expected = encoder(torch.tensor(array.astype(np.float32))).detach().numpy()
    np.testing.assert_allclose(latents, expected, atol=2e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_encode_gives_a_tensor_back_for_a_tensor(encoder, dtype):
    latents = encoder.encode(torch.randn(4, 6).to(dtype))
    assert latents.dtype == dtype and latents.shape == (4, 3) and not latents.requires_grad


def test_encode_takes_no_rows_at_all(encoder):
    assert encoder.encode(np.empty((0, 6))).shape == (0, 3)


def test_encode_leaves_the_mode_as_it_was(encoder):
    encoder.train().encode(np.zeros((2, 6)))
    assert encoder.training


class Series:
    """A column of a data frame, which has a dtype and is no array."""

    dtype = np.dtype(np.float64)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((2, 5)), ValueError, r"shape \(rows, 6\), got \(2, 5\)"),
        (np.zeros(6), ValueError, r"got \(6,\)"),
        (np.zeros((2, 6), bool), TypeError, "real numbers, got bool"),
        ([[0.0] * 6], TypeError, "got list"),
        (np.zeros((1, 2, 6)), ValueError, r"got \(1, 2, 6\)"),
        (np.full((2, 6), "0.5"), TypeError, "array must be a NumPy array or a tensor .* got <U3"),
        (Series(), TypeError, "got Series"),
    ],
)
def test_encode_refuses_what_is_no_batch_of_its_vectors(encoder, array, error, message):
    with pytest.raises(error, match=message):
        encoder.encode(array)


def test_encode_takes_the_sizes_that_the_encoder_was_trained_for():
    encoder, array = DPEncoder(6, (5,), 4, dims=(2, 3)), np.ones((2, 6))
    assert encoder.dims == (2, 3, 4) and encoder.encode(array, dim=3).shape == (2, 3)
    with pytest.raises(SettingError) as refused:
        encoder.encode(array, dim=1)
    message = "must be one of 2, 3, 4, the sizes that the encoder was trained for, got 1;"
    assert str(refused.value) == f"dim {message} any_dim allows others"
    assert refused.value.named(flag_name) == f"--dim {message} --any-dim allows others"
    assert encoder.encode(array, dim=1, any_dim=True).shape == (2, 1)
    with pytest.raises(ValueError, match="dims must be within 1 and 4, got 5"):
        DPEncoder(6, (), 4, dims=(5,))
    with pytest.raises(ValueError, match="metric must be euclidean or cosine, got 'l2'"):
        DPEncoder(6, (), 4, "l2")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("hidden_dims", [(), (5,)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_encode_names_the_first_row_that_is_not_finite(value, hidden_dims, metric, convert):
    encoder, array = DPEncoder(6, hidden_dims, 3, metric), np.ones((9, 6))
    array[7, 2] = array[5, 4] = value
    shown = "inf" if value == 1e300 else value
    with pytest.raises(InputError, match=f"^array: row 5, dimension 4 is {shown} as float32; every value must be fin"):
        encoder.encode(convert(array), batch_size=2)


def save(tmp_path, encoder, **changes):
    settings = TrainConfig(hidden_dims=(5,), latent_dim=3).as_dict()
    config = settings | {"input_dim": 6, "data": {"path": "builtin"}} | changes
    manager = CheckpointManager(tmp_path)
    manager.folder.mkdir()
    empty = ("optimizer_state_dict", "scheduler_state_dict", "train_history", "rng_state", "partial_epoch")
    state = {"epoch": 1, "step": 9, "model_state_dict": encoder.state_dict(), "config": config}
    return manager.save_latest(state | {key: {} for key in empty})


def test_load_encoder_rebuilds_it(encoder, tmp_path):
    path = save(tmp_path, encoder)
    array = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    loaded = load_encoder(path)
    assert not loaded.training
    np.testing.assert_array_equal(loaded.encode(array), encoder.encode(array))


def test_load_encoder_names_a_file_whose_weights_do_not_fit(encoder, tmp_path):
    path = save(tmp_path, encoder, latent_dim=4)
    with pytest.raises(InputError, match="latest_model.pth: weights do not fit the config"):
        load_encoder(path)


@pytest.mark.parametrize("unit", [2.0**-100, 2.0**-30, 2.0**83])
def test_truncation_is_the_same_in_any_unit(builtin, unit):
    encoder = trained_like(builtin, power=1.0)
    latents = torch.from_numpy(encoder.encode(builtin))
    plain = encoder.truncate(latents, 4)
    torch.testing.assert_close(plain.norm(dim=1), latents.norm(dim=1))
    assert torch.equal(encoder.truncate(latents * unit, 4), plain * unit)


@pytest.mark.parametrize("unit", [1e-40, 1e-25, 1e25])
def test_cosine_takes_vectors_of_any_unit(builtin, unit):
    encoder = trained_like(builtin, metric="cosine")
    small = (builtin * np.float64(unit)).astype(np.float32)
    np.testing.assert_allclose(encoder.encode(small), encoder.encode(builtin), atol=1e-3 if unit < 1e-38 else 1e-5)

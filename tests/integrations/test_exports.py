import numpy as np
import pytest
from small_models import trained_like

from dploss.errors import InputError
from dploss.integrations.onnx_export import export_onnx, linear_map


@pytest.mark.parametrize(
    ("hidden_dims", "metric", "power"),
    [((), "euclidean", 0), ((32,), "euclidean", 1), ((32, 24), "cosine", 0.75), ((), "cosine", 0)],
)
def test_onnx_gives_the_latents_for_any_number_of_rows(hidden_dims, metric, power, builtin, tmp_path):
    pytest.importorskip("onnx"), pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    encoder = trained_like(builtin, hidden_dims, metric, power).train()
    export_onnx(encoder, tmp_path / "encoder.onnx")
    assert encoder.training and [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 7, 600):
        (latents,) = session.run(["latents"], {"vectors": builtin[:count]})
        expected = encoder.encode(builtin[:count])
        np.testing.assert_allclose(latents, expected, atol=1e-5 * np.abs(expected).max())


def test_onnx_takes_a_checkpoint_and_names_one_that_is_none(trained, builtin, tmp_path):
    pytest.importorskip("onnx"), pytest.importorskip("onnxscript")
    path = next(trained.glob("*/latest_model.pth"))
    export_onnx(path, tmp_path / "encoder.onnx")
    assert (tmp_path / "encoder.onnx").stat().st_size > 4 * 768 * 16
    with pytest.raises(InputError, match="gone.pth"):
        export_onnx(tmp_path / "gone.pth", tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_a_linear_encoder_is_one_matrix_and_a_bias(builtin):
    encoder = trained_like(builtin, ())
    encoder.linear.bias.data.normal_()
    matrix, bias = linear_map(encoder)
    assert matrix.shape == (16, 768) and matrix.dtype == bias.dtype == np.float32
    np.testing.assert_allclose(builtin @ matrix.T + bias, encoder.encode(builtin), atol=1e-5)
    with pytest.raises(ValueError, match="it has hidden layers"):
        linear_map(trained_like(builtin))
    with pytest.raises(ValueError, match="its metric is cosine"):
        linear_map(trained_like(builtin, (), "cosine"))

import numpy as np
import pytest
import torch
from small_models import rows_and_queries, trained_like, two_sides

from dploss.codes.build import fit_code
from dploss.errors import InputError
from dploss.integrations.onnx_codes import code_module
from dploss.integrations.onnx_export import export_onnx, linear_map
from dploss.losses import DPLossV3


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


def exported(encoder, path, **options):
    pytest.importorskip("onnx"), pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    export_onnx(encoder, path, **options)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("name", "n_bytes"), [("float16", 16), ("int8", 12), ("int4", 8), ("binary", 2), ("binary", 5)]
)
def test_onnx_has_the_codes_that_databases_read(name, n_bytes, builtin, tmp_path):
    encoder = trained_like(builtin)
    code = encoder.code = fit_code(name, encoder.encode(builtin[:400]), n_bytes)
    session = exported(encoder, tmp_path / "encoder.onnx")
    assert [output.name for output in session.get_outputs()] == ["latents", "codes"]
    expected = encoder.encode_to_codes(builtin)
    for count in (1, 7, 600):
        latents, codes = session.run(None, {"vectors": builtin[:count]})
        assert (codes.dtype, codes.shape) == (np.uint8, (count, n_bytes))
        np.testing.assert_allclose(latents, encoder.encode(builtin[:count]), atol=1e-5)
    assert (codes == expected).mean() > 0.99
    if name == "binary":
        assert np.unpackbits(codes ^ expected, axis=1).sum(axis=1).max() <= 1
    else:
        apart = np.abs(code.elements(codes) - code.elements(expected))
        assert apart.max() <= (1e-2 if name == "float16" else 1)


def test_onnx_flips_the_bits_of_a_trained_code(builtin, tmp_path, monkeypatch):
    # Of few rows it would be the start.
    monkeypatch.setattr("dploss.codes.by_loss.shares_kept", lambda *_: (0, 1))
    monkeypatch.setattr("dploss.codes.by_loss._BATCH", 64)
    encoder = trained_like(builtin)
    encoder.code = fit_code("binary", encoder.encode(builtin), 12, DPLossV3())
    assert encoder.code.name == "trained binary" and encoder.code.most_flips == 3
    codes = exported(encoder, tmp_path / "encoder.onnx").run(None, {"vectors": builtin})[1]
    expected = encoder.encode_to_codes(builtin)
    assert (codes.dtype, codes.shape) == (np.uint8, (len(builtin), 12)) and (codes == expected).mean() > 0.99
    plain = encoder.code.rotation.rotate(encoder.code.rotation.centre(encoder.encode(builtin)))
    assert (np.packbits(plain > encoder.code.thresholds, axis=1) != expected).mean() > 0.05


def test_onnx_has_the_numbers_of_a_trained_code(builtin, tmp_path, monkeypatch):
    monkeypatch.setattr("dploss.codes.by_loss.shares_kept", lambda *_: (0, 1))
    monkeypatch.setattr("dploss.codes.by_loss._BATCH", 64)
    encoder = trained_like(builtin)
    encoder.code = fit_code("int8", encoder.encode(builtin), 12, DPLossV3())
    assert encoder.code.name == "trained int8"
    codes = exported(encoder, tmp_path / "encoder.onnx").run(None, {"vectors": builtin})[1]
    expected = encoder.encode_to_codes(builtin)
    assert (codes == expected).mean() > 0.99
    assert np.abs(encoder.code.elements(codes) - encoder.code.elements(expected)).max() <= 1


@pytest.mark.parametrize("name", ["trellis", "scalar", "pq"])
def test_onnx_has_only_the_latents_of_other_codes(name, builtin, tmp_path):
    encoder = trained_like(builtin, ())
    encoder.code = fit_code(name, encoder.encode(builtin), 4)
    session = exported(encoder, tmp_path / "encoder.onnx")
    assert [output.name for output in session.get_outputs()] == ["latents"]


@pytest.mark.parametrize("name", ["float16", "int8", "int4", "binary"])
def test_rows_at_the_mean_have_codes_in_a_graph_too(name, builtin):
    code = fit_code(name, builtin[:, :16].copy(), 4)
    mean = code.rotation.mean[None]
    np.testing.assert_array_equal(code_module(code)(torch.from_numpy(mean)).numpy(), code.encode(mean))


def test_a_graph_rounds_to_float16_as_numpy_does(builtin):
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].astype(np.float32)
    border = (halves + np.roll(halves, 1)) / 2
    numbers = np.concatenate([halves, border, np.nextafter(border, np.float32(9e9)), 7 * halves]).reshape(-1, 2)
    module = code_module(fit_code("float16", builtin[:, :16].copy(), 4))
    made = module.to_bytes(torch.from_numpy(numbers)).to(torch.uint8).numpy().view("<f2")
    np.testing.assert_array_equal(made, numbers.clip(-65504, 65504).astype(np.float16))


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
    np.testing.assert_array_equal(linear_map(encoder, queries=True)[0], matrix)


@pytest.mark.parametrize(
    ("metric", "hidden_dims", "of_rows", "of_queries"),
    [
        ("ip", (), None, None),
        ("ip", (16,), "it has hidden layers", None),
        ("euclidean", (), "rows have their squared norm beside them", None),
        ("cosine", (), "its metric is cosine", "its metric is cosine"),
    ],
)
def test_a_side_is_one_matrix_where_it_is_linear(metric, hidden_dims, of_rows, of_queries):
    vectors, asking = rows_and_queries()
    encoder = two_sides(vectors, asking, metric, hidden_dims)
    encoder.linear.bias.data.normal_(), encoder.query_linear.bias.data.normal_()
    for queries, encode, refused in ((False, encoder.encode, of_rows), (True, encoder.encode_queries, of_queries)):
        if refused:
            with pytest.raises(ValueError, match=refused):
                linear_map(encoder, queries)
            continue
        matrix, bias = linear_map(encoder, queries)
        assert matrix.shape == (16, 32) and matrix.dtype == bias.dtype == np.float32
        expected = encode(vectors)
        np.testing.assert_allclose(vectors @ matrix.T + bias, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "ip"])
def test_onnx_has_either_side(metric, tmp_path):
    vectors, asking = rows_and_queries()
    encoder = two_sides(vectors, asking, metric)
    encoder.code = fit_code("int8", encoder.encode(vectors), 12, metric="ip")
    rows = exported(encoder, tmp_path / "rows.onnx")
    queries = exported(encoder, tmp_path / "queries.onnx", queries=True)
    assert [output.name for output in queries.get_outputs()] == ["latents"]
    for count in (1, 7, 200):
        latents, codes = rows.run(None, {"vectors": vectors[:count]})
        expected, asked = encoder.encode(vectors[:count]), encoder.encode_queries(asking[:count])
        np.testing.assert_allclose(latents, expected, atol=1e-5 * np.abs(expected).max())
        assert (codes == encoder.encode_to_codes(vectors[:count])).mean() > 0.99
        found = queries.run(None, {"vectors": asking[:count]})[0]
        np.testing.assert_allclose(found, asked, atol=1e-5 * np.abs(asked).max())


def test_queries_of_an_encoder_with_one_side_are_its_vectors(builtin, tmp_path):
    encoder = trained_like(builtin)
    encoder.code = fit_code("int8", encoder.encode(builtin), 12)
    (latents,) = exported(encoder, tmp_path / "queries.onnx", queries=True).run(None, {"vectors": builtin[:5]})
    np.testing.assert_allclose(latents, encoder.encode_queries(builtin[:5]), atol=1e-5)

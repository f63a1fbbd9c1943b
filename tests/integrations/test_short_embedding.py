import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from small_models import TEXTS, tiny_model, trained_like, two_sides

import dploss
from dploss.codes.build import fit_code
from dploss.errors import InputError
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.build import load_encoder

# Imported by the tests that need it: every process would wait for it 3 s.
pytestmark = pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="no sentence-transformers")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Texts to 48 dimensions; not to be changed."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), 48)


@pytest.fixture(scope="module")
def vectors(base) -> np.ndarray:
    """The embeddings of TEXTS, (200, 48) float32."""
    return base.encode(TEXTS)


def shortened(base, encoder, dim=None):
    modules = [*base, dploss.ShortEmbedding(encoder, dim, any_dim=True)]
    return type(base)(modules=modules, similarity_fn_name="euclidean", device="cpu")


@pytest.mark.parametrize(
    ("hidden_dims", "metric", "dim"),
    [((32,), "euclidean", None), ((32, 24), "cosine", None), ((), "euclidean", None), ((32,), "euclidean", 8)],
)
def test_the_model_encodes_and_its_copy_on_the_disk_too(hidden_dims, metric, dim, base, vectors, tmp_path):
    encoder = trained_like(vectors, hidden_dims, metric)
    model = shortened(base, encoder, dim)
    expected = encoder.encode(vectors, dim=dim, any_dim=True)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
    assert model.get_embedding_dimension() == (dim or 16)

    model.save(str(tmp_path / "model"))
    copy = type(base)(str(tmp_path / "model"), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(copy.encode(TEXTS), expected, atol=1e-5)
    assert copy.get_embedding_dimension() == (dim or 16) and copy.similarity_fn_name == "euclidean"
    assert copy[-1].encoder.dropout == 0.5 and copy[-1].get_config_dict() == model[-1].get_config_dict()


def test_what_is_saved_is_numbers_alone(base, vectors, tmp_path):
    shortened(base, trained_like(vectors), 8).save(str(tmp_path))
    (saved,) = [one for one in json.loads((tmp_path / "modules.json").read_text()) if "dploss" in one["type"]]
    assert saved["type"] == "dploss.integrations.sentence_transformer.ShortEmbedding"
    folder = tmp_path / saved["path"]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text()) == {
        "input_dim": 48,
        "hidden_dims": [32],
        "latent_dim": 16,
        "metric": "euclidean",
        "dropout": 0.5,
        "dims": [16],
        "dim": 8,
    }


@pytest.mark.parametrize("name", ["trellis", "scalar", "pq", "float16", "int8", "int4", "binary"])
def test_the_code_goes_along(name, base, vectors, tmp_path):
    encoder = trained_like(vectors)
    encoder.code = fit_code(name, encoder.encode(vectors), 4)
    model = shortened(base, encoder)
    model.save(str(tmp_path / "model"))
    assert not list((tmp_path / "model").rglob("*.bin"))
    copy = type(base)(str(tmp_path / "model"), trust_remote_code=True, device="cpu")
    code = copy[-1].encoder.code
    assert (type(code), copy[-1].get_config_dict()["code"]) == (type(encoder.code), {"name": name, "bytes": 4})
    latents = copy.encode(TEXTS)
    np.testing.assert_array_equal(code.encode(latents), encoder.code.encode(latents))
    # Half precision is the model's; the code stays as it was fitted.
    np.testing.assert_array_equal(copy.half()[-1].encoder.code.encode(latents), code.encode(latents))


def test_a_code_that_is_missing_or_another_one_is_refused(base, vectors, tmp_path):
    encoder = trained_like(vectors)
    encoder.code = fit_code("int8", encoder.encode(vectors), 4)
    shortened(base, encoder).save(str(tmp_path))
    (path,) = tmp_path.rglob("code.safetensors")
    config = json.loads((path.parent / "config.json").read_text())
    for wrong in (
        {"name": "int8", "bytes": 5},
        {"name": "zip", "bytes": 4},
        {"name": "int8"},
        [4],
        {"name": "binary", "bytes": 4},
    ):
        (path.parent / "config.json").write_text(json.dumps(config | {"code": wrong}))
        with pytest.raises(InputError, match="it does not fit the code that config.json names"):
            dploss.ShortEmbedding.load(str(path.parent))
    (path.parent / "config.json").write_text(json.dumps(config))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="code.safetensors: it does not fit"):
        dploss.ShortEmbedding.load(str(path.parent))
    path.unlink()
    with pytest.raises(InputError, match="no code.safetensors"):
        dploss.ShortEmbedding.load(str(path.parent))


def test_the_library_cuts_without_bringing_back_to_length(base, vectors):
    encoder = trained_like(vectors)
    cut = shortened(base, encoder).encode(TEXTS, truncate_dim=8)
    latents = encoder.encode(vectors)
    np.testing.assert_allclose(cut, latents[:, :8], atol=1e-5)
    lengths = np.linalg.norm(encoder.encode(vectors, dim=8, any_dim=True), axis=1) / np.linalg.norm(cut, axis=1)
    assert lengths.min() > 1 and lengths.max() > 1.1 * lengths.min()


def test_it_is_trained_with_the_rest(base, vectors):
    model = shortened(base, trained_like(vectors)).train()
    features = model(model.preprocess(TEXTS[:8]))
    (features["sentence_embedding"][0] - features["sentence_embedding"][1]).square().sum().backward()
    missing = [name for name, weights in model.named_parameters() if weights.grad is None]
    # Mean pooling has no use for BERT's own.
    assert all("pooler" in name for name in missing)
    assert model[-1].encoder.linear.weight.grad.abs().sum() > 0
    assert model[0].get_parameter("model.embeddings.word_embeddings.weight").grad.abs().sum() > 0
    model.zero_grad()


def test_it_takes_a_checkpoint_and_embeddings_of_less_precision(trained, builtin):
    path = next(trained.glob("*/latest_model.pth"))
    module, long = dploss.ShortEmbedding(path), torch.from_numpy(builtin[:20])
    short = module({"sentence_embedding": long})["sentence_embedding"]
    np.testing.assert_allclose(short.detach(), load_encoder(path).encode(builtin[:20]), atol=1e-5)
    rough = module({"sentence_embedding": long.bfloat16()})["sentence_embedding"]
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, short, atol=0.01, rtol=0.1)


def test_what_does_not_fit_is_named(base, vectors, builtin, tmp_path):
    with pytest.raises(InputError, match=r"gone\.pth: no such checkpoint"):
        dploss.ShortEmbedding(tmp_path / "gone.pth")
    with pytest.raises(InputError, match="must be a DPEncoder, an encoder of vectors, got a ConvAutoencoder"):
        dploss.ShortEmbedding(ConvAutoencoder(16, 4))
    with pytest.raises(InputError, match="dim must be within 1 and 16, got 17"):
        dploss.ShortEmbedding(trained_like(vectors), 17)
    with pytest.raises(InputError, match="dim must be 16, the only size that the encoder was trained for, got 8"):
        dploss.ShortEmbedding(trained_like(vectors), 8)
    with pytest.raises(ValueError, match="have 48 dimensions, the encoder was trained on vectors of 768"):
        shortened(base, trained_like(builtin)).encode(TEXTS[:2])


@pytest.mark.parametrize(("metric", "dim"), [("ip", None), ("euclidean", 8)])
def test_queries_and_documents_have_sides_of_their_own(metric, dim, base, vectors, tmp_path):
    encoder = two_sides(vectors[:150], vectors[150:], metric, hidden_dims=(24,))
    encoder.code = fit_code("int8", encoder.encode(vectors), 8, metric="ip")
    modules = [*base, dploss.ShortEmbedding(encoder, dim, any_dim=True)]
    model = type(base)(modules=modules, similarity_fn_name="dot", device="cpu")
    model.save(str(tmp_path / "model"))
    copy = type(base)(str(tmp_path / "model"), trust_remote_code=True, device="cpu")
    queries = encoder.encode_queries(vectors, dim=dim, any_dim=True)
    documents = encoder.encode(vectors, dim=dim, any_dim=True)
    for one in (model, copy):
        np.testing.assert_allclose(one.encode_query(TEXTS), queries, atol=1e-4)
        np.testing.assert_allclose(one.encode_document(TEXTS), documents, atol=1e-4)
        np.testing.assert_allclose(one.encode(TEXTS), documents, atol=1e-4)
        similarity = one.similarity(queries[:5], documents)
        np.testing.assert_allclose(similarity, queries[:5] @ documents.T, atol=1e-4)
    assert copy[-1].get_config_dict() == model[-1].get_config_dict()
    again = copy[-1].encoder.code
    assert (again.metric, copy.similarity_fn_name) == ("ip", "dot")
    np.testing.assert_array_equal(again.arrays()["axes"], encoder.code.arrays()["axes"])
    features = {"sentence_embedding": torch.from_numpy(vectors), "task": "query"}
    # A Router before it leaves the task there.
    np.testing.assert_allclose(model[-1](features)["sentence_embedding"].detach(), queries, atol=1e-4)


def test_an_encoder_with_one_side_encodes_queries_as_documents(base, vectors):
    model = shortened(base, trained_like(vectors))
    np.testing.assert_array_equal(model.encode_query(TEXTS[:5]), model.encode_document(TEXTS[:5]))

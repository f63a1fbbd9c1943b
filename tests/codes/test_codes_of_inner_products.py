"""Codes whose latents are compared by inner product: queries are not like rows, and may not be centred."""

import numpy as np
import pytest
import torch
from small_models import rows_and_queries, two_sides

from dploss.codes.build import ALL_CODES, CODES, TRAINED, code_of, fit_code
from dploss.codes.code import Code
from dploss.codes.encoded_file import open_codes, read_codes
from dploss.codes.stored_code import StoredCode
from dploss.data import open_vectors
from dploss.encoding.job import EncodeJob
from dploss.errors import InputError
from dploss.losses import DPLossV3
from dploss.models.build import code_for

N_BYTES = 4
BY_LOSS = ["float16", "int8", "int4", "binary"]


def sides(n: int = 600, n_queries: int = 200, dim: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents of rows and of queries, dim dimensions each."""
    rows, queries = rows_and_queries(n, n_queries, seed=seed)
    encoder = two_sides(*rows_and_queries(600, 200), latent_dim=dim)
    return encoder.encode(rows), encoder.encode_queries(queries)


def kept(code: Code, latents: np.ndarray, queries: np.ndarray, k: int = 10) -> float:
    """The share of the k largest inner products that the scores of a code keep."""
    exact, scores = queries.astype(float) @ latents.T, -code.score(queries, code.encode(latents))
    pairs = zip(*(np.argsort(-one, axis=1, kind="stable")[:, :k] for one in (exact, scores)), strict=True)
    return float(np.mean([len(np.intersect1d(*pair)) / k for pair in pairs]))


@pytest.fixture
def always_trained(monkeypatch):
    """Small batches, few steps, and the result whether or not it gains."""
    monkeypatch.setattr("dploss.codes.by_loss._BATCH", 64)
    monkeypatch.setattr("dploss.codes.by_loss._STEPS", 30)
    monkeypatch.setattr("dploss.codes.by_loss.shares_kept", lambda *_: (0, 1))
    monkeypatch.setattr("dploss.codes.refined_code.shares_kept", lambda *_: (1, 0))


@pytest.mark.parametrize("name", sorted(ALL_CODES))
def test_a_score_is_that_of_the_decoded_latent(name, always_trained, tmp_path):
    latents, queries = sides()
    start = next(one for one in CODES if name.endswith(one))
    code = fit_code(start, latents, N_BYTES, None if name in CODES else DPLossV3(), "ip", queries)
    assert (code.name, code.metric, code.bytes_per_vector) == (name, "ip", N_BYTES)
    torch.save(code.state_dict(), tmp_path / "state.pt")
    again = code_of(torch.load(tmp_path / "state.pt", weights_only=True))
    codes = code.encode(latents[:50])
    np.testing.assert_array_equal(again.encode(latents[:50]), codes)
    expected = np.array([[float(q @ x) for x in again.decode(codes).astype(float)] for q in queries.astype(float)])
    for one in (code, again, again.coarse):
        assert one.metric == "ip" and not one.points(codes)[1].any()
        found = (one.score(queries, codes) + one.constants(queries)[:, None]) * one.unit**2 / -2
        wanted = expected if one is not again.coarse else queries.astype(float) @ one.decode(codes).T.astype(float)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", sorted(CODES))
def test_codes_with_bytes_enough_keep_what_the_latents_do(name):
    latents, queries = sides()
    n_bytes = {"float16": 32, "int4": 8, "binary": 16}.get(name, 16)
    code = fit_code(name, latents, n_bytes, metric="ip")
    # A bit for each axis knows no norm.
    assert kept(code, latents, queries) > {"binary": 0.3, "int4": 0.8, "float16": 0.99}.get(name, 0.93)


@pytest.mark.parametrize("name", ["trellis", "scalar", "int4", "pq"])
def test_few_bytes_keep_more_than_a_code_for_distances(name):
    latents, queries = sides(1500)
    own, other = (fit_code(name, latents, N_BYTES, metric=metric) for metric in ("ip", "euclidean"))
    projected = other.project(queries) - other.project(np.zeros_like(queries[:1]))
    other.score = lambda queries, codes: -projected @ other.points(codes)[0].T
    assert kept(own, latents, queries) >= kept(other, latents, queries)


def test_the_step_of_integers_is_that_which_queries_keep_most_with():
    latents, queries = sides(2000)
    # Some rows are so long that all queries look for them.
    latents[::50] *= 3
    code = fit_code("int4", latents, 8, metric="ip", queries=queries)
    chosen, share = code.step, kept(code, latents, queries)
    code.step = code._best_step(code._rows(latents))
    assert chosen > 1.1 * code.step and share > kept(code, latents, queries) + 0.02


@pytest.mark.parametrize("name", sorted(CODES))
def test_codes_of_distances_are_others(name):
    latents, _ = sides()
    codes = [fit_code(name, latents, N_BYTES, metric=metric) for metric in ("euclidean", "ip")]
    euclidean, own = (StoredCode.of(code) for code in codes)
    assert euclidean.sha256 != own.sha256 and codes[0].metric == "euclidean"
    assert set(codes[1].arrays()) - set(codes[0].arrays()) == {"by_inner_product"}
    # Checkpoints that are older have none.
    state = codes[1].state_dict()
    if name != "pq":
        del state["arrays"]["by_inner_product"]
        assert code_of(state).metric == "euclidean"
    state["arrays"]["by_inner_product"] = torch.tensor([True])
    with pytest.raises(ValueError, match="by_inner_product"):
        code_of(state)
    encoder = two_sides(*rows_and_queries())
    assert code_for(codes[1].state_dict(), encoder).metric == "ip"
    with pytest.raises(ValueError, match="the code is for euclidean, latents are compared by ip"):
        code_for(codes[0].state_dict(), encoder)


@pytest.mark.parametrize(("name", "gain"), [("int8", 0.0), ("binary", 0.02)])
def test_training_keeps_as_many_neighbours_of_queries_that_it_has_not_seen(name, gain, monkeypatch):
    monkeypatch.setattr("dploss.codes.by_loss._BATCH", 128)
    monkeypatch.setattr("dploss.codes.by_loss._STEPS", 100)
    rows = np.asarray(open_vectors(limit=2700).rows[:, :64], np.float32)
    rows, known, others = np.split(rows, [1800, 2400])
    encoder = two_sides(rows, known, latent_dim=32)
    latents, known, others = encoder.encode(rows), encoder.encode_queries(known), encoder.encode_queries(others)
    closed, code = (fit_code(name, latents, 8, loss, "ip", known) for loss in (None, DPLossV3()))
    assert kept(code, latents, others) >= kept(closed, latents, others) + gain


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_what_training_would_lose_for_queries_is_the_start(name, monkeypatch):
    monkeypatch.setattr("dploss.codes.by_loss._BATCH", 32)
    monkeypatch.setattr("dploss.codes.by_loss._STEPS", 20)
    # So far that nothing is kept.
    monkeypatch.setattr("dploss.codes.by_loss._LR", 10.0)
    latents, queries = sides()
    code, start = (fit_code(name, latents, N_BYTES, loss, "ip", queries) for loss in (DPLossV3(), None))
    assert code.name == name or kept(code, latents, queries) >= kept(start, latents, queries)
    if name in BY_LOSS:
        np.testing.assert_array_equal(code.encode(latents), start.encode(latents))


def test_faiss_searches_a_product_quantiser_by_inner_product():
    faiss = pytest.importorskip("faiss")
    latents, queries = sides()
    code = fit_code("pq", latents, N_BYTES, metric="ip")
    codes = code.encode(latents)
    filled, added = code.to_faiss(codes), code.to_faiss()
    added.add(latents)
    np.testing.assert_array_equal(faiss.vector_to_array(faiss.downcast_index(added.index).codes), codes.ravel())
    scores = -code.score(queries, codes)
    for index in (filled, added):
        found = index.search(queries, 10)[1]
        np.testing.assert_allclose(
            np.take_along_axis(scores, found, 1), -np.sort(-scores, axis=1)[:, :10], rtol=1e-4, atol=1e-5
        )


def test_files_of_codes_are_read_as_their_own(tmp_path):
    rows, queries = rows_and_queries()
    encoder = two_sides(rows, queries, "euclidean")
    encoder.code = fit_code("trellis", encoder.encode(rows), 8, metric="ip")
    np.save(tmp_path / "rows.npy", rows)
    output, checkpoint = tmp_path / "codes.npy", tmp_path / "best.pt"
    checkpoint.write_bytes(b"any")
    job = EncodeJob(encoder, str(tmp_path / "rows.npy"), output, checkpoint=checkpoint, experiment_id=None)
    assert job.run()
    np.testing.assert_array_equal(np.load(output), encoder.encode_to_codes(rows))
    chosen = np.array([3, 500])
    decoded = encoder.code.decode(encoder.encode_to_codes(rows[chosen]))
    np.testing.assert_array_equal(read_codes(output, chosen, encoder.code)[0], decoded)
    with pytest.raises(InputError, match="the checkpoint has another code"):
        open_codes(output, fit_code("trellis", encoder.encode(rows), 8))

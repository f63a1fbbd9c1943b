"""test.py --peers: what others store in as many bytes, fitted to the encoder's own training rows."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dploss.config import TrainConfig
from dploss.data import open_vectors, split_rows
from dploss.evaluation import peers as module
from dploss.evaluation.peers import Peers
from dploss.evaluation.stored import score_stored
from dploss.training.launch import new_experiment

pytest.importorskip("faiss")

BYTES, ROWS, DIM, K = 12, 400, 48, 5
NAMES = ["PCA, int8", "RaBitQ", "PCA, pq", "OPQ", "OPQ, norm restored"]


@pytest.fixture(scope="module", autouse=True)
def few_iterations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_OPQ_ITERATIONS", 1)
        yield


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.ascontiguousarray(open_vectors(limit=ROWS).rows[:, :DIM])


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory) -> Path:
    """An experiment of 12 bytes a vector, on a file of its own; not to be changed."""
    home = tmp_path_factory.mktemp("peers")
    np.save(home / "rows.npy", rows)
    return trained(home, bytes=BYTES).folder


def trained(home, **settings):
    files = {"data": str(home / "rows.npy"), "checkpoints_dir": str(home / "checkpoints")}
    run = new_experiment(TrainConfig(epochs=1, quiet=True, no_tensorboard=True, **files, **settings))
    run.run()
    return run


@pytest.fixture(scope="module")
def fitted(rows) -> tuple[Peers, list[str]]:
    """The peers of the same training rows, and what was logged."""
    lines = []
    return Peers.fit(rows[split_rows(ROWS, 0.1, 0)[0]], BYTES, lines.append), lines


def by_a_plain_loop(rows, distances):
    """Mean share of each row's nearest others by float64 distance that are among its nearest by `distances`."""
    kept = 0
    for row in range(len(rows)):
        others = [other for other in range(len(rows)) if other != row]
        true = sorted(others, key=lambda other: ((rows[row].astype(np.float64) - rows[other]) ** 2).sum())[:K]
        kept += len({*true} & {*sorted(others, key=lambda other: distances[row, other])[:K]})
    return kept / (K * len(rows))


def squared_distances(queries, points):
    return ((queries.astype(np.float64)[:, None] - points.astype(np.float64)) ** 2).sum(axis=-1)


def test_the_report_has_them_beside_the_encoder(call, folder, fitted, rows):
    latest = folder / "latest_model.pth"
    done = call("test.py", "--checkpoint", latest, "--peers", "--k", K, "--json")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("fitting")] == fitted[1]
    assert fitted[1][0] == "fitting PCA, int8 to 360 training rows, 12 bytes a vector ..."
    report = json.loads(done.stdout)
    assert list(report["stored"]) == ["encoder", "start", *NAMES]
    history = json.loads((folder / "train_history.json").read_text())
    own = fitted[0].score(rows[split_rows(ROWS, 0.1, 0)[1]], [K])
    for name in NAMES:
        scores = report["stored"][name]
        assert scores["bytes_per_vector"] == BYTES and scores["model_bytes"] > 4 * DIM
        assert scores["recall"][str(K)] == own[name].recall[K]
        low, high = scores["interval"][str(K)]
        assert low < scores["recall"][str(K)] < high
        assert scores["reranked"]["2"][str(K)] >= scores["recall"][str(K)]
        assert 0 < scores["symmetric"][str(K)] <= 1 and 0 < scores["tail"][str(K)] <= 1
    assert report["stored"]["PCA, int8"]["recall"][str(K)] == pytest.approx(history["pca_int8_recall"])
    assert report["stored"]["PCA, pq"]["recall"][str(K)] == pytest.approx(history["pca_pq_recall"])


def test_the_text_has_a_line_for_each_search(call, folder):
    lines = call("test.py", "--experiment_id", folder, "--peers", "--k", K).stdout.splitlines()
    for search in ("float queries", "95 % interval", "rows rarely found", "coded queries", "re-ranked x 5"):
        under = [line for line in lines if search in line or line.endswith(f", {BYTES} bytes")]
        named = [name for name, line in pairwise(under) if search in line]
        assert named[-5:] == [f"{name}, {BYTES} bytes" for name in NAMES], search


@pytest.mark.parametrize("name", ["PCA, int8", "OPQ"])
def test_what_is_decoded_is_what_is_searched(fitted, rows, name):
    peer, held_out = fitted[0].fitted[name], rows[split_rows(ROWS, 0.1, 0)[1]]
    latents = peer.latents(held_out)
    codes = peer.code.encode(latents)
    assert (codes.dtype, codes.shape) == (np.uint8, (len(held_out), BYTES))
    decoded = peer.code.decode(codes)
    scores = score_stored(held_out, latents, peer.code, [K])
    float_queries, coded_queries = (squared_distances(queries, decoded) for queries in (latents, decoded))
    assert scores.recall[K] == pytest.approx(by_a_plain_loop(held_out, float_queries), abs=1e-9)
    assert scores.symmetric[K] == pytest.approx(by_a_plain_loop(held_out, coded_queries), abs=1e-9)


def test_rabitq_ranks_as_faiss_does(fitted, rows):
    peer, held_out = fitted[0].fitted["RaBitQ"], rows[split_rows(ROWS, 0.1, 0)[1]]
    latents = peer.latents(held_out)
    index = peer.code.index
    index.reset()
    index.add(latents)
    distances, found = index.search(latents, len(latents))
    by_row = np.empty_like(distances)
    np.put_along_axis(by_row, found, distances, axis=1)
    offsets = by_row - peer.code.score(latents, peer.code.encode(latents))
    assert np.ptp(offsets, axis=1).max() < 1e-5
    recall = score_stored(held_out, latents, peer.code, [K]).recall[K]
    assert recall == pytest.approx(by_a_plain_loop(held_out, by_row), abs=1e-9)


def test_opq_gains_by_the_norm(fitted, rows):
    peer, held_out = fitted[0].fitted["OPQ, norm restored"], rows[split_rows(ROWS, 0.1, 0)[1]]
    codes = peer.code.encode(held_out)
    points, biases = (one.astype(np.float64) for one in peer.code.points(codes))
    distances = biases - 2 * (held_out - peer.code.mean).astype(np.float64) @ points.T
    recall = score_stored(held_out, held_out, peer.code, [K]).recall[K]
    assert recall == pytest.approx(by_a_plain_loop(held_out, distances), abs=1e-9)
    assert np.allclose(peer.code.project(peer.code.decode(codes)), points, atol=1e-5)


def test_what_bytes_or_rows_do_not_allow_is_left_out(rows):
    few = Peers.fit(rows[:200], 4, lambda line: None)
    assert list(few.fitted) == ["PCA, int8", "PCA, pq"]
    assert few.left_out == {
        "RaBitQ": "at least 9 bytes, 8 of them floats",
        **dict.fromkeys(["OPQ", "OPQ, norm restored"], "200 training rows are too few for 256 centroids"),
    }
    assert few.fitted["PCA, int8"].code.bytes_per_vector == 4
    # PQ has the norm in a byte, and a dimension for every other.
    assert "PCA, pq" in Peers.fit(rows[:200], DIM + 2, lambda line: None).left_out


def test_many_training_rows_are_sampled(rows, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 100)
    lines = []
    assert len(Peers.fit(rows, 4, lines.append).fitted) == 2
    assert lines[0] == "fitting PCA, int8 to 100 training rows, 4 bytes a vector ..."


def test_what_cannot_be_is_said_in_a_line(call, rows, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "others.npy", rows[::-1] * 0.9)
    stored, plain = trained(tmp_path, bytes=BYTES).folder, trained(tmp_path, latent_dim=16).folder

    def refused(*flags):
        done = call("test.py", "--peers", *flags)
        assert done.returncode == 2 and not done.stdout
        return done.stderr.splitlines()[-1]

    assert refused("--experiment_id", plain).endswith("best.pt stores no bytes; train with --bytes")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "faiss", None)
        assert refused("--experiment_id", stored).endswith("pip install 'dploss[faiss]'")
    (tmp_path / "rows.npy").unlink()
    line = refused("--experiment_id", stored, "--data", "others.npy")
    assert "--peers are fitted to the training rows, which cannot be opened" in line and "rows.npy" in line
    assert "rows.npy" in refused("--experiment_id", stored)

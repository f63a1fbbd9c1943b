"""Trainings with queries: what a step minimises, and what the files of an experiment say of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import references
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import rows_and_queries, two_sides

from dploss.config import TrainConfig
from dploss.data.batches import query_batch
from dploss.data.experiment_data import ExperimentData, open_data
from dploss.data.split import split_queries, split_rows
from dploss.data.vectors import as_vectors, open_vectors
from dploss.errors import InputError
from dploss.evaluation.held_out import HeldOut
from dploss.experiments.checkpoints import load_checkpoint
from dploss.losses.distance_preserving import LOSSES
from dploss.models.asymmetric import AsymmetricEncoder, BothSides
from dploss.models.build import load_encoder
from dploss.models.encoder import DPEncoder
from dploss.training.launch import new_experiment, resumed_experiment
from dploss.training.objective import objective_of
from dploss.training.query_objective import QueryObjective
from dploss.training.query_side import choose_query_side

DIM = 24
METRICS = ("euclidean", "cosine", "ip")
TIMES = ("epoch_times", "epoch_timestamps", "cumulative_time")


@pytest.fixture(scope="module")
def rows(builtin):
    """300 rows of 24 dimensions, (300, 24)."""
    return np.ascontiguousarray(builtin[:300, :DIM])


@pytest.fixture(scope="module")
def queries(builtin):
    """80 queries unlike any row: turned about another mean."""
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((DIM, DIM)))[0]
    spread = np.exp(-np.arange(DIM) / 3)
    return (builtin[300:380, :DIM] @ turn * spread * 3 + builtin[:, :DIM].mean(axis=0)).astype(np.float32)


@pytest.fixture
def config(tmp_path, rows, queries) -> TrainConfig:
    """Two epochs of four steps, with files of rows, queries, many like the rows, and a database."""
    like = open_vectors(limit=1800).rows[300:, :DIM]
    files = {"rows": rows, "queries": queries, "like": like, "database": rows[100:220] * 1.01}
    for name, values in files.items():
        np.save(tmp_path / f"{name}.npy", values.astype(np.float32))
    return TrainConfig(
        data=str(tmp_path / "rows.npy"),
        queries=str(tmp_path / "queries.npy"),
        query_side="own",
        latent_dim=6,
        hidden_dims=(12,),
        epochs=2,
        batch_size=64,
        save_interval=1,
        checkpoints_dir=str(tmp_path / "checkpoints"),
        quiet=True,
    )


def measured(history) -> dict:
    """A history without what the clock decides."""
    return {key: value for key, value in history.as_dict().items() if key not in TIMES}


def weights(run) -> dict:
    return load_checkpoint(run.folder / "latest_model.pth")["model_state_dict"]


def assert_same_weights(first, second) -> None:
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def closeness(queries, rows, metric) -> np.ndarray:
    """(Q, N) of which the least is nearest, a plain float64 loop."""
    queries, rows = queries.astype(float).tolist(), rows.astype(float).tolist()
    if metric == "ip":
        return np.array([[-sum(a * b for a, b in zip(q, x, strict=True)) for x in rows] for q in queries])
    if metric == "cosine":
        queries, rows = ([[a / math.hypot(*one) for a in one] for one in side] for side in (queries, rows))
    return np.array([[math.dist(q, x) for x in rows] for q in queries])


def found_again(original, latent, k, are_rows=False) -> float:
    """Recall@k of (Q, N) closeness before and after."""
    kept = 0
    for i, (before, after) in enumerate(zip(original, latent, strict=True)):
        near, found = (
            [j for j in np.argsort(one, kind="stable") if not (are_rows and j == i)][:k] for one in (before, after)
        )
        kept += len({*near} & {*found})
    return kept / (k * len(original))


def written_out(encoder, rows, asking, z, z_asking):
    """Distances from queries to rows, and of their latents, as `QueryObjective` has them: float64, one by one."""
    scale, dim, mean = float(encoder.scale), encoder.input_dim, encoder.mean.double().numpy()
    x, q = rows.astype(float), asking.astype(float)
    z, z_asking = z.astype(float), z_asking.astype(float)
    longest = max(np.linalg.norm(one - mean) for one in x)
    d_x, d_z = np.empty((len(q), len(x))), np.empty((len(q), len(x)))
    for i, query in enumerate(q):
        for j, row in enumerate(x):
            if encoder.metric == "euclidean":
                squared = math.dist(query, row) ** 2
                added = (math.dist(query, mean) ** 2 + np.mean([math.dist(one, mean) ** 2 for one in FITTED])) / 2
            elif encoder.metric == "cosine":
                squared, added = math.dist(query, row) ** 2, 1 - query @ mean
            else:
                added = np.linalg.norm(query) * longest
                squared = 2 * (added - query @ (row - mean))
            d_x[i, j] = math.sqrt(squared / (scale**2 * dim))
            d_z[i, j] = math.sqrt(max(2 * (added - z_asking[i] @ z[j]) / (scale**2 * dim), 1e-6))
    return d_x, d_z


ROWS, QUERIES = rows_and_queries(14, 9, 6)
FITTED = ROWS


def unit(metric, values):
    return values / np.linalg.norm(values, axis=1, keepdims=True) if metric == "cosine" else values


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", LOSSES)
def test_the_objective_is_the_loss_of_the_distances_written_out(name, metric):
    rows, asking = unit(metric, ROWS), unit(metric, QUERIES)
    encoder = two_sides(rows, asking, metric, (5,), 3).eval()
    torch.manual_seed(0)
    for branch in (encoder.branch, encoder.query_branch):
        torch.nn.init.normal_(branch[-1].weight, std=0.3)
    settings = {"k": 2, "lambda_rank": 0.7, "lambda_pairdist": 0.2, "tau": 0.8}
    objective = QueryObjective(LOSSES[name](**settings), encoder, lambda z, _: z)
    x, q = torch.from_numpy(rows), torch.from_numpy(asking)
    z, z_q, z_x = BothSides(encoder)(x, q)
    latents = [one.detach().numpy() for one in (z, z_q, z_x)]
    of_queries = written_out(encoder, rows, asking, latents[0], latents[1])
    of_rows = map(references.others, written_out(encoder, rows, rows, latents[0], latents[2]))
    alone = references.terms(name, *of_rows, *settings.values())
    expected = np.add(alone, references.terms(name, *of_queries, *settings.values())) / 2
    terms = objective(x, z, q, z_q, z_x)
    np.testing.assert_allclose([one.item() for one in terms], expected, rtol=2e-3)
    without = objective(x, z, q[:0], z_q[:0], z_x)
    np.testing.assert_allclose([one.item() for one in without], alone, rtol=2e-3)
    terms.total.backward()
    for part in (encoder.linear, encoder.query_linear, encoder.branch, encoder.query_branch):
        for parameter in part.parameters():
            assert parameter.grad.isfinite().all()
        assert sum(parameter.grad.abs().sum() for parameter in part.parameters()) > 0


@pytest.mark.parametrize("metric", METRICS)
def test_several_sizes_are_the_mean_of_each(metric):
    rows, asking = unit(metric, ROWS), unit(metric, QUERIES)
    config = TrainConfig(metric=metric, queries="q.npy", query_side="own", latent_dim=3, matryoshka_dims=(1, 2))
    encoder = AsymmetricEncoder(6, (5,), 3, metric, dims=(1, 2))
    encoder.load_state_dict(two_sides(rows, asking, metric, (5,), 3).state_dict())
    x, q = torch.from_numpy(rows), torch.from_numpy(asking)
    z, z_q, z_x = (one.detach() for one in BothSides(encoder.eval())(x, q))
    terms = objective_of(config, encoder)(x, z, q, z_q, z_x)
    each = []
    for size in (1, 2, 3):
        short = AsymmetricEncoder(6, (5,), 3, metric)
        short.load_state_dict(encoder.state_dict())
        truncated = encoder.truncate(z, size, 0.5)
        each.append(
            QueryObjective(LOSSES["DPLossV3"](), short, lambda z, _: z)(x, truncated, q, z_q[:, :size], z_x[:, :size])
        )
    np.testing.assert_allclose(terms, np.mean(each, axis=0), rtol=1e-5)


def test_values_that_are_not_finite_are_refused():
    encoder = two_sides(ROWS, QUERIES, "euclidean", (), 3)
    objective = QueryObjective(LOSSES["DPLossV3"](), encoder, lambda z, _: z)
    x, q, z = torch.from_numpy(ROWS), torch.from_numpy(QUERIES), torch.zeros(14, 3)
    for bad in ((z * torch.nan, z[:9]), (z, z[:9] / 0)):
        with pytest.raises(ValueError, match="latents must be finite"):
            objective(x, bad[0], q, bad[1], z)


@pytest.mark.parametrize(
    ("metric", "side", "database"), [("euclidean", "own", False), ("cosine", "shared", True), ("ip", "auto", True)]
)
def test_the_files_say_what_was_trained_and_its_recall_can_be_measured_again(config, tmp_path, metric, side, database):
    config = replace(
        config, metric=metric, query_side=side, database=str(tmp_path / "database.npy") if database else None
    )
    run = new_experiment(config)
    history = run.run()
    written = json.loads((run.folder / "config.json").read_text())
    assert written["queries"].pop("fingerprint").startswith("sha256:")
    assert written["queries"] == {"path": config.queries, "rows": 80, "rows_left_out": 0}
    assert written["query_side"] == ("own" if metric == "ip" else side) and written["database"] == config.database

    rows, queries = np.load(config.data), np.load(config.queries)
    train, held_out = split_queries(80, config.val_fraction, config.seed)
    assert len(held_out) == 40 and run.trainer.steps == 8
    if written["query_side"] == "own":
        np.testing.assert_array_equal(np.asarray(run.trainer.queries[:]), unit(metric, queries[train]))
    asked = queries[held_out]
    searched = rows[split_rows(300, config.val_fraction, config.seed)[1]]
    if database:
        searched = np.load(config.database)
    saved = json.loads((run.folder / "train_history.json").read_text())
    assert saved["recall_history"] == history.recall_history and saved["recall_epochs"] == [0, 1, 2]
    assert (saved["recall_rows"], saved["recall_queries"]) == (len(searched), 40)
    original = closeness(asked, searched, metric)
    for epoch in (0, 2):
        encoder = load_encoder(run.folder / f"checkpoint_epoch_{epoch:03d}.pth")
        assert type(encoder) is (AsymmetricEncoder if written["query_side"] == "own" else DPEncoder)
        latents = closeness(encoder.encode_queries(asked), encoder.encode(searched), encoder.latent_metric)
        assert saved["recall_history"][epoch] == pytest.approx(found_again(original, latents, 5), abs=1e-9)
    best = load_encoder(run.folder)
    assert best.encode_queries(asked).shape == (40, 6)


def test_the_start_knows_the_queries_and_a_training_lowers_the_loss(config):
    run = new_experiment(replace(config, epochs=4, init="random", val_fraction=0, save_interval=4))
    history = run.run()
    assert history.total_loss[-1] < 0.8 * history.total_loss[0]
    started = new_experiment(replace(config, epochs=0, latent_dim=4))
    assert started.held_out.recall(started.encoder).value > started.history.pca_recall + 0.05


@pytest.mark.parametrize(
    ("steps", "settings"), [(0, {}), (3, {}), (4, {"metric": "ip", "queries": None, "query_side": "auto"})]
)
def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(config, steps, settings):
    config = replace(config, **settings)
    whole = new_experiment(config)
    expected = whole.run()
    asked = iter(range(steps))
    stopped = new_experiment(config)
    assert stopped.run(lambda: next(asked, None) is None).status == "interrupted"
    resumed = resumed_experiment(str(stopped.folder), {})
    assert measured(resumed.run()) == measured(expected)
    assert_same_weights(whole, resumed)


def test_resuming_refuses_other_queries_and_another_side(config, tmp_path):
    config = replace(config, epochs=0)
    first = new_experiment(config)
    first.run()
    for changed, message in [
        ({"query_side": "shared"}, "query_side shared: experiment .* has own"),
        ({"queries": str(tmp_path / "like.npy")}, "like.npy: the data differs from what experiment"),
    ]:
        with pytest.raises(InputError, match=message):
            resumed_experiment(str(first.folder), changed)
    (tmp_path / "queries.npy").rename(tmp_path / "moved.npy")
    moved = resumed_experiment(str(first.folder), {"queries": str(tmp_path / "moved.npy"), "epochs": 1})
    assert moved.run().epochs == [1]


def test_the_side_that_finds_more_is_chosen(config, tmp_path):
    auto = replace(config, query_side="auto")
    assert choose_query_side(auto, open_data(auto)).query_side == "own"
    alike = replace(auto, queries=str(tmp_path / "like.npy"), latent_dim=20)
    chosen = new_experiment(alike)
    assert chosen.trainer.config.query_side == "shared" and type(chosen.encoder) is DPEncoder
    shared = chosen.run()
    plain = new_experiment(replace(alike, queries=None))
    alone = plain.run()
    assert_same_weights(chosen, plain)
    assert shared.total_loss == alone.total_loss and shared.recall_queries == 750 and alone.recall_queries is None
    named = replace(config, query_side="shared")
    assert choose_query_side(named, open_data(named)) is named
    without = replace(config, queries=None, query_side="auto")
    assert choose_query_side(without, open_data(without)) is without


def test_held_out_queries_and_rows_change_no_weights(config, tmp_path, rows, queries):
    first = new_experiment(config)
    first.run()
    other = queries.copy()
    other[split_queries(80, config.val_fraction, config.seed)[1]] += 5
    np.save(tmp_path / "queries.npy", other)
    noised = rows.copy()
    noised[split_rows(300, config.val_fraction, config.seed)[1]] += 1
    np.save(tmp_path / "rows.npy", noised)
    second = new_experiment(config)
    second.run()
    assert_same_weights(first, second)


def test_inner_products_among_rows_are_those_of_faiss(config, tmp_path, rows):
    faiss = pytest.importorskip("faiss")
    # Of many norms: an own product may be anything.
    norms = np.exp(np.random.default_rng(0).normal(size=(300, 1)))
    uneven = (rows * norms).astype(np.float32)
    np.save(tmp_path / "rows.npy", uneven)
    config = replace(config, metric="ip", queries=None, query_side="auto")
    run = new_experiment(config)
    assert type(run.encoder) is AsymmetricEncoder and len(run.trainer.queries) == 0
    history = run.run()
    held_out = uneven[split_rows(300, config.val_fraction, config.seed)[1]]
    encoder = load_encoder(run.folder / "latest_model.pth")

    def nearest(asked, stored):
        index = faiss.IndexFlatIP(stored.shape[1])
        index.add(np.ascontiguousarray(stored))
        ids = index.search(np.ascontiguousarray(asked), len(stored))[1]
        return [[j for j in found if j != i] for i, found in enumerate(ids.tolist())]

    before, after = nearest(held_out, held_out), nearest(encoder.encode_queries(held_out), encoder.encode(held_out))
    kept = [len({*near[:5]} & {*found[:5]}) / 5 for near, found in zip(before, after, strict=True)]
    assert history.recall_history[-1] == pytest.approx(np.mean(kept), abs=1e-9)
    assert history.recall_rows == 30 and history.recall_queries is None
    data = ExperimentData.split(config, as_vectors(uneven, "rows", "ip"))
    originals = HeldOut.of(config, data)._originals()
    order = originals.closeness(torch.arange(30)).argsort(dim=1)[:, :-1]
    assert order.tolist() == before


@given(
    n=st.integers(0, 5000),
    batch_size=st.integers(3, 600),
    seed=st.integers(0, 2**32 - 1),
    step=st.integers(0, 10**6),
    processes=st.integers(1, 4),
)
def test_the_queries_of_a_step(n, batch_size, seed, step, processes):
    batch_size = -(-batch_size // processes) * processes
    chosen = query_batch(n, batch_size, seed, step, processes)
    np.testing.assert_array_equal(chosen, query_batch(n, batch_size, seed, step, processes))
    if not n:
        assert not len(chosen)
        return
    assert ((chosen >= 0) & (chosen < n)).all() and len(chosen) % processes == 0
    assert len(chosen) == max(min(n, batch_size) // processes, 1) * processes
    # Each once, unless there are fewer than processes.
    assert len({*chosen.tolist()}) == len(chosen) or n < processes
    if len(chosen) >= 10 and n > 100:
        assert (query_batch(n, batch_size, seed, step + 1, processes) != chosen).any()


@given(n=st.integers(1, 6000), val_fraction=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9]), seed=st.integers(0, 2**32 - 1))
def test_the_split_of_queries_is_one(n, val_fraction, seed):
    train, held_out = split_queries(n, val_fraction, seed)
    again = split_queries(n, val_fraction, seed)
    assert all(map(np.array_equal, again, (train, held_out)))
    assert sorted([*train, *held_out]) == list(range(n))
    for one in (train, held_out):
        assert (np.diff(one) > 0).all()
    wanted = max(round(n * val_fraction), min(1000, n // 2)) if val_fraction else 0
    assert len(held_out) == wanted

"""test.py with real queries: of a tiny experiment, and of one that was trained with queries."""

import json

import numpy as np
import pytest

from dploss.commands import test as script
from dploss.config import TrainConfig
from dploss.data import open_vectors, split_rows
from dploss.data.split import split_queries
from dploss.models.build import load_encoder
from dploss.training.launch import new_experiment

SMALL = {"limit": 400, "latent_dim": 16, "hidden_dims": (8,), "epochs": 0, "quiet": True, "no_tensorboard": True}
FORMS = ["encoder", "encoder, 16 bytes", "PCA, renormalised", "PCA"]
RERANKED = [*(f", re-ranked x {factor}" for factor in (2, 5, 10))]


@pytest.fixture(scope="module")
def rows():
    return open_vectors(limit=400).rows


@pytest.fixture(scope="module")
def queries(rows):
    """60 queries: mixtures of neighbouring rows."""
    return np.ascontiguousarray((rows[:60] + 0.7 * rows[1:61]) / 1.7)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory, queries):
    """Two experiments of --epochs 0: the first of rows alone, stored in 16 bytes, the second with the queries."""
    folder = tmp_path_factory.mktemp("queries")
    np.save(folder / "trained.npy", queries)
    dirs = {}
    for name, settings in {
        "plain": {"bytes": 16, "code": "int8"},
        "asked": {"queries": str(folder / "trained.npy")},
    }.items():
        run = new_experiment(TrainConfig(checkpoints_dir=str(folder / name), **SMALL, **settings))
        run.run()
        dirs[name] = run.folder
    return dirs


@pytest.fixture
def files(tmp_path, monkeypatch, rows, queries):
    """The folder of the files that the flags name."""
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", queries)
    np.save("rows.npy", rows)
    np.save("other.npy", open_vectors(limit=700).rows[300:])
    (tmp_path / "qrels.txt").write_text(
        "".join(f"{query} 0 {query} 2\n{query} 0 {query + 1} 1\n" for query in range(50))
    )
    return tmp_path


@pytest.fixture
def tested(experiments, files, capsys):
    """test.py of an experiment with these flags: its exit code, stdout and stderr."""

    def test_script(name, *flags):
        code = script.main(["--experiment_id", str(experiments[name]), "--k", "1", "5", *flags])
        return code, *capsys.readouterr()

    return test_script


@pytest.fixture
def report(tested):
    def printed(name, *flags):
        code, out, _ = tested(name, *flags, "--json")
        assert code == 0
        return json.loads(out)

    return printed


def nearest(queries, rows, k):
    """(Q, k): a plain float64 search."""
    distance = [[((query - row) ** 2).sum() for row in rows] for query in queries.astype(float)]
    return np.argsort(distance, axis=1, kind="stable")[:, :k]


def kept(queries, rows, latents_of, k):
    found = zip(nearest(queries, rows, k), nearest(latents_of(queries), latents_of(rows), k), strict=True)
    return np.mean([len({*a} & {*b}) / k for a, b in found])


def test_queries_search_the_held_out_rows(report, experiments, rows, queries):
    found = report("plain", "--queries", "q.npy")
    assert "retrieval" not in found
    found = found["queries"]
    counts = {"count": 60, "held_out": False, "database": "builtin", "database_rows": 40, "training_rows_left_out": 360}
    assert {name: found[name] for name in counts} == counts
    assert found["training_rows_among_them"] == 0 and found["training_queries_left_out"] == 0
    assert list(found["recall"]) == [form + more for form in FORMS for more in ("", *RERANKED)]
    held_out = rows[split_rows(400, 0.1, 0)[1]]
    encoder = load_encoder(experiments["plain"] / "latest_model.pth")
    recall = found["recall"]["encoder"]
    assert recall["5"] == pytest.approx(kept(queries, held_out, encoder.encode, 5), abs=1e-6)
    low, high = found["intervals"]["encoder"]["5"]
    assert low < recall["5"] < high
    # 5 x 10 rows of 40 cannot be fetched.
    assert list(found["recall"]["encoder, re-ranked x 10"]) == ["1"]


def test_judged_queries_search_all_rows(report, rows, queries):
    found = report("plain", "--queries", "q.npy", "--qrels", "qrels.txt")
    asked, retrieval = found["queries"], found["retrieval"]
    assert (asked["database_rows"], asked["training_rows_among_them"]) == (400, 360)
    assert (asked["judged"], asked["without_relevant_rows"], asked["judgements_left_out"]) == (50, 10, 0)
    assert list(retrieval) == ["original", *(form + more for form in FORMS for more in ("", *RERANKED))]
    ndcg = []
    for query, ranked in enumerate(nearest(queries[:50], rows, 10).tolist()):
        gains = [{query: 2, query + 1: 1}.get(row, 0) for row in ranked]
        ndcg.append(sum(g / np.log2(rank + 2) for rank, g in enumerate(gains)) / (2 + 1 / np.log2(3)))
    assert retrieval["original"]["ndcg@10"] == pytest.approx(np.mean(ndcg))
    encoder = retrieval["encoder"]
    assert {"ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10"} < {*encoder}
    assert encoder["share"] == pytest.approx(encoder["ndcg@10"] / np.mean(ndcg))
    assert encoder["difference"]["ndcg@10"]["value"] == pytest.approx(encoder["ndcg@10"] - np.mean(ndcg))
    low, high = encoder["intervals"]["ndcg@10"]
    assert low < encoder["ndcg@10"] < high and 0 < encoder["p_value"] <= 1
    # 50 queries show nothing.
    assert encoder["keeps_99_percent"] in ("no", "not shown")


@pytest.mark.parametrize(
    ("flags", "searched"),
    [(["--database"], True), (["--data"], False), (["--qrels", "qrels.txt", "--data"], True)],
)
def test_training_rows_of_another_file_are_searched_where_they_are_stored(report, flags, searched):
    asked = report("plain", "--queries", "q.npy", *flags, "other.npy")["queries"]
    trained = int((split_rows(400, 0.1, 0)[0] >= 300).sum())
    assert asked["database"].endswith("/other.npy")
    assert asked["database_rows"] == 400 - (0 if searched else trained)
    assert asked["training_rows_left_out"] == (0 if searched else trained)
    assert asked["training_rows_among_them"] == (trained if searched else 0)


def test_held_out_queries_of_the_experiment_are_evaluated_by_themselves(report, tested, queries):
    train, _ = split_queries(60, 0.1, 0)
    found = report("asked")["queries"]
    assert (found["count"], found["held_out"], found["training_queries_left_out"]) == (30, True, 30)
    given = report("asked", "--queries", "q.npy")["queries"]
    assert (given["count"], given["held_out"], given["training_queries_left_out"]) == (30, False, 30)
    assert given["recall"] == found["recall"] and given["recall"]["encoder"]["5"] > 0.5
    np.save("q.npy", queries[train])
    code, _, told = tested("asked", "--queries", "q.npy")
    assert code == 2 and "no query of it was held out of the training" in told


def test_an_experiment_whose_queries_are_gone_is_still_tested(tested, experiments, queries):
    path = experiments["asked"].parent.parent / "trained.npy"
    path.unlink()
    try:
        code, out, told = tested("asked")
        assert code == 0 and "real queries" not in out and "queries are left out" in told and "no such file" in told
        code, out, _ = tested("asked", "--queries", "q.npy")
        assert code == 0 and "whether training queries are among them could not be checked" in " ".join(out.split())
    finally:
        np.save(path, queries)


def test_a_person_reads_narrow_tables(tested):
    code, out, _ = tested("plain", "--queries", "q.npy", "--qrels", "qrels.txt")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert "real queries   60 queries of" in out and "training rows  360 of them" in out
    assert "keeps 99 %" in out and "with 50 queries it is never shown" in " ".join(out.split())
    np.save("one.npy", np.load("q.npy")[:1])
    code, out, _ = tested("plain", "--queries", "one.npy")
    assert code == 0 and "real queries   1 query of" in out


BAD = [
    (["--query-column", "emb"], "--query-column needs --queries"),
    (["--database", "rows.npy"], "--database needs --queries"),
    (["--qrels", "qrels.txt"], "--qrels needs --queries"),
    (["--skip-bad-rows"], "--skip-bad-rows needs --data, --queries or --database"),
    (["--queries", "missing.npy"], "no such file"),
    (["--queries", "narrow.npy"], "its vectors have 5 dimensions, those of builtin 768"),
    (["--queries", "q.npy", "--database", "narrow.npy"], "have 5 dimensions, the encoder takes 768"),
    (["--queries", "rows.npy"], "400 of 400 rows cannot be used (400 equal to a row); the first, row 0"),
    (["--queries", "q.npy", "--database", "mixed.npy"], "1 of 60 rows cannot be used (1 equal to a row); the first"),
    (["--queries", "q.npy", "--database", "one.npy"], "1 row is too few for that many neighbours"),
    (["--queries", "q.npy", "--qrels", "far.txt"], "names no row of builtin (rows are 0 to 399)"),
]


@pytest.mark.parametrize(("flags", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_used_is_one_line(tested, files, rows, queries, flags, message):
    np.save("narrow.npy", rows[:, :5])
    np.save("mixed.npy", np.concatenate([rows[100:120] + 1e-3, queries[4:5]]))
    np.save("one.npy", rows[:1] + 1e-3)
    (files / "far.txt").write_text("0 0 400 1\n")
    code, out, told = tested("plain", *flags)
    assert (code, out) == (2, "") and told.count("\n") == 1
    assert message in told
    if "equal" in message and "400" not in message:
        code, out, _ = tested("plain", *flags, "--skip-bad-rows")
        assert code == 0 and "59 queries" in out

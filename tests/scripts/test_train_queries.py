"""Trainings with queries as people run them: what is refused in a line, and what the scripts say of them."""

import json

import numpy as np
import pytest

TINY = ("--latent-dim", 6, "--hidden-dims", 8, "--batch-size", 64, "--epochs", 1, "--no-tensorboard")
DIM = 24


@pytest.fixture
def files(tmp_path, builtin):
    """rows.npy, queries.npy that are none of them, and some that cannot be used."""
    rows, queries = builtin[:300, :DIM], builtin[300:360, :DIM] + np.float32(0.01)
    for name, values in {
        "rows": rows,
        "queries": queries,
        "one": queries[:1],
        "narrow": queries[:, :5],
        "mixed": np.concatenate([queries[:9], rows[3:4]]),
        "empty": queries[:0],
        "nan": queries * np.float32(np.nan),
        "database": builtin[400:500, :DIM],
    }.items():
        np.save(tmp_path / f"{name}.npy", np.ascontiguousarray(values))
    np.savez(tmp_path / "two.npz", a=queries, b=queries[:, :5])
    return tmp_path


def only_experiment(folder):
    (experiment,) = folder.glob("checkpoints/[!.]*/")
    return experiment


def test_the_built_in_queries_are_trained_tested_and_drawn(call, tmp_path):
    done = call("train.py", "--queries", "builtin", "--query-side", "own", "--limit", 300, *TINY)
    assert done.returncode == 0, done.stderr
    experiment = only_experiment(tmp_path)
    config = json.loads((experiment / "config.json").read_text())
    assert config["queries"]["path"] == "builtin" and config["queries"]["rows"] == 2000
    history = json.loads((experiment / "train_history.json").read_text())
    assert (history["recall_queries"], history["recall_rows"]) == (1000, 30)

    found = json.loads(call("test.py", "--json").stdout)["queries"]
    assert (found["count"], found["held_out"], found["training_queries_left_out"]) == (1000, True, 1000)
    assert found["recall"]["encoder"]["5"] == pytest.approx(history["recall_history"][-1], abs=1e-9)
    tested = call("test.py")
    assert tested.returncode == 0 and "1,000 held-out queries of builtin" in tested.stdout
    for script, flags in (
        ("visualize_training.py", ("--list",)),
        ("visualize_training.py", ("--compare",)),
        ("visualize_training.py", ()),
        ("quick_plot.py", ()),
    ):
        done = call(script, *flags)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80
        # Of a record, nothing but its path is for a person.
        assert "fingerprint" not in done.stdout and "{" not in done.stdout
    (listed,) = json.loads(call("visualize_training.py", "--list", "--json").stdout)
    assert listed["settings"]["queries"] == "builtin" and listed["settings"]["query_side"] == "own"


def test_two_trainings_are_compared_by_what_they_differ_in(call, files):
    for flags in (
        ("--metric", "ip"),
        ("--queries", "queries.npy", "--query-side", "own", "--database", "database.npy"),
    ):
        done = call("train.py", "--data", "rows.npy", *flags, *TINY)
        assert done.returncode == 0, done.stderr
    done = call("visualize_training.py", "--compare")
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert f"queries={files}"[:12] in shown and "database=database.npy" in shown and "metric=ip" in shown
    records = json.loads(call("visualize_training.py", "--compare", "--json").stdout)
    assert {one["settings"]["queries"] for one in records} == {None, str(files / "queries.npy")}
    assert "{" not in shown and "fingerprint" not in shown and max(map(len, shown.splitlines())) <= 80


def test_the_chosen_side_is_said_and_one_query_is_trained(call, files):
    done = call("train.py", "--data", "rows.npy", "--queries", "one.npy", *TINY)
    assert done.returncode == 0, done.stderr
    assert "--query-side shared: one training query is too few to compare by" in done.stderr
    experiment = only_experiment(files)
    config = json.loads((experiment / "config.json").read_text())
    assert config["queries"]["rows"] == 1 and config["query_side"] == "shared"
    # None is left to measure with.
    assert json.loads((experiment / "train_history.json").read_text())["recall_history"] == []


BAD = [
    (("--queries", "missing.npy"), "no such file"),
    (("--queries", ""), "--queries"),
    (("--queries", "narrow.npy"), "its vectors have 5 dimensions, those of "),
    (("--queries", "empty.npy"), "empty.npy"),
    (("--queries", "nan.npy"), "60 of 60 rows cannot be used (60 not finite)"),
    (("--queries", "mixed.npy"), "1 of 10 rows cannot be used (1 equal to a row); the first, row 9"),
    (("--queries", "rows.npy"), "300 of 300 rows cannot be used (300 equal to a row)"),
    (
        ("--queries", "database.npy", "--database", "database.npy"),
        "100 of 100 rows cannot be used (100 equal",
    ),
    (("--queries", "queries.npy", "--database", "narrow.npy"), "its vectors have 5 dimensions"),
    (("--queries", "queries.npy", "--database", "missing.npy"), "no such file"),
    (("--queries", "two.npz"), "two.npz"),
    (("--queries", "two.npz", "--query-column", "c"), "c"),
    (("--query-column", "a"), "--query-column goes with --queries"),
    (("--query-side", "own"), "--query-side goes with --queries"),
    (("--database", "database.npy"), "--database goes with --queries"),
    (
        ("--metric", "ip", "--queries", "queries.npy", "--query-side", "shared"),
        "--query-side shared: under --metric",
    ),
    (("--queries", "queries.npy", "--query-side", "both"), "--query-side"),
    (("--queries", "https://example.org/q.npy"), "a URL is not read"),
]


@pytest.mark.parametrize(("flags", "message"), BAD, ids=[" ".join(flags) for flags, _ in BAD])
def test_what_cannot_be_used_is_one_line(call, files, flags, message):
    done = call("train.py", "--data", "rows.npy", *TINY, "--quiet", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("reading")]
    assert len(lines) == 1 and message in lines[0], done.stderr
    assert not (files / "checkpoints").exists()


def test_bad_queries_can_be_left_out(call, files):
    done = call("train.py", "--data", "rows.npy", "--queries", "mixed.npy", "--skip-bad-rows", *TINY)
    assert done.returncode == 0, done.stderr
    config = json.loads((only_experiment(files) / "config.json").read_text())
    assert (config["queries"]["rows"], config["queries"]["rows_left_out"]) == (9, 1)


def test_a_column_of_queries_is_named(call, files):
    done = call("train.py", "--data", "rows.npy", "--queries", "two.npz", "--query-column", "a", *TINY, "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads((only_experiment(files) / "config.json").read_text())["queries"]["rows"] == 60

"""Every kind of file, with the same rows: what reads vectors reads it alike."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from file_kinds import IDS, KINDS, LISTS, ROWS, SMALL, npy, small_checkpoint, table

from dploss.data import open_vectors, read_texts
from dploss.data.stream import VectorStream
from dploss.models.build import load_encoder

TEXTS = [
    "parquet",
    "arrow stream",
    "arrow file",
    "dataset",
    "jsonl.gz",
    "ndjson.zst",
    "csv",
    "csv.zst, semicolons",
    "tsv",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def encoded(checkpoint) -> np.ndarray:
    """The latents of the rows."""
    return load_encoder(checkpoint).encode(ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_same_rows(kind, tmp_path):
    write, flags = KINDS[kind]
    source, column = write(tmp_path), flags[1] if flags else None
    vectors = open_vectors(source, column)
    np.testing.assert_array_equal(vectors.rows[:], ROWS)
    assert vectors.fingerprint == open_vectors(npy(tmp_path)).fingerprint
    np.testing.assert_array_equal(open_vectors(source, column, limit=7).rows[:], ROWS[:7])
    stream = VectorStream(str(source), column)
    assert (stream.rows, stream.dim) == ROWS.shape
    for start in (0, 26):
        np.testing.assert_array_equal(np.concatenate([rows for rows, _ in stream.batches(start, 9)]), ROWS[start:])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_encoded(kind, checkpoint, encoded, call, tmp_path):
    write, flags = KINDS[kind]
    done = call("encode.py", write(tmp_path), "short.npy", "--checkpoint", checkpoint, "--quiet", *flags)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "short.npy"), encoded, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_on_and_evaluated(kind, checkpoint, call, tmp_path):
    write, flags = KINDS[kind]
    source = write(tmp_path)
    trained = call("train.py", "--data", source, *flags, *SMALL, "--epochs", 0)
    assert trained.returncode == 0, trained.stderr
    tested = call("test.py", "--checkpoint", checkpoint, "--data", source, *flags, "--k", 3, "--json")
    assert tested.returncode == 0, tested.stderr
    assert json.loads(tested.stdout)["held_out"] is True


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_beside_are_read(kind, checkpoint, call, tmp_path):
    source = KINDS[kind][0](tmp_path)
    assert read_texts(str(source), np.array([59, 0, 31])) == ["id 59", "id 0", "id 31"]
    if kind == "csv":
        shown = call("test.py", "--checkpoint", checkpoint, "--data", source, "--k", 3, "--neighbours", 2)
        assert shown.returncode == 0 and "id " in shown.stdout, shown.stderr


def test_texts_in_a_struct_or_a_field_are_named_with_a_dot(tmp_path):
    pq.write_table(table(pa.array([{"title": text} for text in IDS]), "meta"), tmp_path / "rows.parquet")
    lines = [json.dumps({"v": row, "meta": {"title": text}}) for text, row in zip(IDS, LISTS, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    for name in ("rows.parquet", "rows.jsonl"):
        assert read_texts(str(tmp_path / name), np.array([8]), "meta.title") == ["id 8"]


@pytest.mark.parametrize("kind", ["arrow file", "dataset", "arrow, a struct's field"])
def test_parquet_made_of_arrow_has_the_columns_beside(kind, checkpoint, encoded, call, tmp_path):
    write, flags = KINDS[kind]
    done = call("encode.py", write(tmp_path), "short.parquet", "--checkpoint", checkpoint, "--quiet", *flags)
    assert done.returncode == 0, done.stderr
    short = pq.read_table(tmp_path / "short.parquet")
    assert short.column("text").to_pylist() == IDS
    if flags:
        assert short.column("embedding").to_pylist() == [{"tokens": [1, 2], "words": 3}] * 60
    np.testing.assert_allclose(
        short.column(flags[1] if flags else "embedding").to_pylist(), encoded, rtol=1e-5, atol=1e-4
    )

import json

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dploss.data import MappedRows, open_vectors
from dploss.data import memmap as mapped_module
from dploss.data.bad_rows import BadRows
from dploss.data.formats.arrow import to_rows

ROWS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
WIDTH = 3
values = st.sampled_from([0.0, 1.0, -2.5, 1e15, 2e15, -1e30, float("nan"), float("inf"), None])
entries = st.none() | st.lists(values, max_size=5) | st.lists(values, min_size=WIDTH, max_size=WIDTH)


def kind_of(entry: list | None, zeros: bool) -> str | None:
    """What is wrong with a row, by the words of the message."""
    if entry is None:
        return "null"
    if None in entry:
        return "with a null inside"
    if len(entry) != WIDTH:
        return "of other dimensions" if entry else "empty"
    if not np.isfinite(entry).all():
        return "not finite"
    if np.abs(entry).max() > 1e15:
        return "beyond 1e+15"
    return None if zeros or any(entry) else "all zeros"


@given(rows=st.lists(entries, max_size=30), zeros=st.booleans(), cut=st.integers(0, 30), large=st.booleans())
def test_rows_of_every_kind_are_counted_and_the_others_are_as_they_were(rows, zeros, cut, large):
    bad, found = BadRows(zeros), []
    above = np.empty((0, WIDTH))
    kind = (pa.large_list if large else pa.list_)(pa.float64())
    for part in (rows[:cut], rows[cut:]):
        # A slice, whose offsets do not begin at 0.
        array = pa.array([[7.0], *part], kind)[1:]
        if part:
            found.append((to_rows("x", array, 0, above).astype(np.float32), part))
    for matrix, part in found:
        assert matrix.shape == (len(part), WIDTH)
        usable = bad.look(matrix)
        assert usable.tolist() == [kind_of(row, zeros) is None for row in part]
        expected = [row for row in part if kind_of(row, zeros) is None]
        np.testing.assert_array_equal(matrix[usable], np.array(expected, np.float32).reshape(-1, WIDTH))
    kinds = [kind_of(row, zeros) for row in rows]
    assert bad.n_rows == len(rows)
    assert bad.kinds == {kind: kinds.count(kind) for kind in {*kinds} - {None}}
    assert bad.first_row == next((index for index, kind in enumerate(kinds) if kind), None)
    again = BadRows.from_dict(json.loads(json.dumps(bad.as_dict())), zeros, bad.n_rows)
    assert (again.count, again.n_rows, again.first_row) == (bad.count, len(rows), bad.first_row)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.int8(), pa.int64(), pa.uint64()])
@pytest.mark.parametrize("fixed", [False, True])
def test_every_kind_of_number_stays_as_it_is_beside_rows_that_are_null(kind, fixed):
    rows = [[1, 2, 3], None, [100, 50, 25], [1, None, 3]]
    if pa.types.is_floating(kind):
        rows = [None if row is None else [None if one is None else np.float16(one) for one in row] for row in rows]
    found = to_rows("x", pa.array(rows, pa.list_(kind, 3) if fixed else pa.list_(kind)), 0, None)
    assert found.dtype == np.float32 and BadRows().look(found).tolist() == [True, False, True, False]
    assert found[[0, 2]].tolist() == [[1, 2, 3], [100, 50, 25]]


def test_the_first_rows_may_be_no_vectors(tmp_path):
    for first in (None, [], [1.0]):
        lists = [first, *ROWS.tolist()]
        for size in (1, 16) if not first else (16,):
            pq.write_table(pa.table({"emb": lists}), tmp_path / "a.parquet", row_group_size=size)
            np.testing.assert_array_equal(open_vectors(tmp_path / "a.parquet", skip_bad_rows=True).rows, ROWS)


@pytest.mark.parametrize("column", ["meta.emb", None])
@pytest.mark.parametrize("first", [{}, {"meta": None}, {"meta": {"emb": None}}])
def test_the_first_line_may_lack_the_field_of_an_object(first, column, tmp_path):
    lines = [first, *({"meta": {"emb": row}} for row in ROWS.tolist())]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    vectors = open_vectors(tmp_path / "a.jsonl", column, skip_bad_rows=True)
    np.testing.assert_array_equal(vectors.rows, ROWS)
    assert vectors.kept[0] == 1


@pytest.mark.parametrize("suffix", [".arrow", ".csv"])
def test_the_first_blocks_may_have_no_vectors(suffix, tmp_path, monkeypatch):
    lists, path = [None] * 30 + ROWS.tolist(), tmp_path / f"a{suffix}"
    if suffix == ".arrow":
        table = pa.table({"emb": lists})
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=10)
    else:
        monkeypatch.setattr("dploss.data.formats.csv._BLOCK_BYTES", 170)
        path.write_text("id,emb\n" + "".join(f'{i},"{one or ""}"\n' for i, one in enumerate(lists)))
    vectors = open_vectors(path, skip_bad_rows=True)
    np.testing.assert_array_equal(vectors.rows, ROWS)
    assert vectors.kept.tolist() == list(range(30, 70))


def test_lines_without_a_vector_may_come_first(tmp_path):
    path = tmp_path / "a.jsonl"
    first = ['{"text": "a"}', '{"text": "b", "v": null}', '{"text": "c", "v": []}']
    path.write_text("\n".join(first + [json.dumps({"text": "d", "v": row}) for row in ROWS.tolist()]))
    for column in (None, "v"):
        vectors = open_vectors(path, column, skip_bad_rows=True)
        np.testing.assert_array_equal(vectors.rows, ROWS)
        assert vectors.kept.tolist() == list(range(3, 43)) and vectors.bad.kinds == {"null": 2, "empty": 1}
    with pytest.raises(ValueError, match="no column 'w'; there are text"):
        open_vectors(path, "w")


def test_the_limit_counts_rows_of_the_file(tmp_path):
    rows = ROWS.copy()
    rows[[3, 4, 20]] = np.nan
    np.save(tmp_path / "a.npy", rows)
    vectors = open_vectors(tmp_path / "a.npy", limit=10, skip_bad_rows=True)
    np.testing.assert_array_equal(vectors.rows, ROWS[[0, 1, 2, 5, 6, 7, 8, 9]])
    assert str(vectors.bad).startswith("2 of 10 rows cannot be used (2 not finite); the first, row 3, has nan in")


def test_rows_on_the_disk_stay_there(tmp_path, monkeypatch):
    rows = ROWS.copy()
    rows[[0, 7]] = np.inf
    np.save(tmp_path / "a.npy", rows.astype(np.float64))
    monkeypatch.setattr(mapped_module, "_SHARE_OF_MEMORY", 0)
    pq.write_table(pa.table({"emb": [None, *rows[1:].tolist()]}), tmp_path / "a.parquet", row_group_size=9)
    clean = np.delete(ROWS, [0, 7], axis=0)
    for name in ("a.npy", "a.parquet"):
        for metric in ("euclidean", "cosine"):
            vectors = open_vectors(tmp_path / name, metric=metric, skip_bad_rows=True)
            assert isinstance(vectors.rows, MappedRows)
            norms = np.linalg.norm(clean, axis=1, keepdims=True) if metric == "cosine" else 1
            np.testing.assert_allclose(vectors.rows[:], clean / norms, rtol=1e-6)
            assert vectors.in_source(np.array([0, 5, 6, 37])).tolist() == [1, 6, 8, 39]
            assert vectors.fingerprint == open_vectors(tmp_path / name, skip_bad_rows=True).fingerprint

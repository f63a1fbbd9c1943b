import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dploss.data import open_vectors
from dploss.data.qrels import match_qrels, read_qrels
from dploss.data.queries import qrels_file
from dploss.errors import InputError

TREC = "q1 0 d2 1\nq1\t0\td0\t0\nq2 0 d1 2\n\nq3 0 d2 -2\n"
BEIR = "query-id\tcorpus-id\tscore\nq1\td2\t1\nq1\td0\t0\nq2\td1\t2\nq3\td2\t-2\n"
COLUMNS = {"score": [1.0, 0.0, 2.0, -2.0], "query-id": ["q1", "q1", "q2", "q3"], "corpus-id": ["d2", "d0", "d1", "d2"]}


@pytest.fixture
def vectors(tmp_path):
    """Write and open vectors of one dimension, beside them a column of ids or none; `left_out` are null."""

    def made(name, n, column=None, ids=None, left_out=()):
        rows = [None if row in left_out else [float(row), 1.0] for row in range(n)]
        columns = {"emb": pa.array(rows, pa.list_(pa.float32()))} | ({} if column is None else {column: ids})
        pq.write_table(pa.table(columns), tmp_path / name)
        return open_vectors(tmp_path / name, skip_bad_rows=True, fewest=1)

    return made


def matched(path, queries, rows, evaluated=None):
    evaluated = np.arange(len(queries.rows)) if evaluated is None else np.array(evaluated)
    qrels = match_qrels(read_qrels(str(path)), queries, evaluated, rows)
    return list(zip(qrels.query.tolist(), qrels.row.tolist(), qrels.gain.tolist(), strict=True)), qrels.unused


def text(path, content):
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["trec", "beir", "parquet", "packed"])
def test_the_forms_of_judgements(tmp_path, kind):
    path = tmp_path / {"trec": "qrels.txt", "beir": "test.tsv", "parquet": "q.parquet", "packed": "q.tsv.gz"}[kind]
    if kind == "parquet":
        pq.write_table(pa.table(COLUMNS), path)
    elif kind == "packed":
        path.write_bytes(gzip.compress(BEIR.encode()))
    else:
        text(path, TREC if kind == "trec" else BEIR)
    found = read_qrels(str(path))
    assert (found.query_ids, found.row_ids) == (["q1", "q1", "q2", "q3"], ["d2", "d0", "d1", "d2"])
    assert found.scores.tolist() == [1, 0, 2, -2]


def test_ids_are_values_of_columns(tmp_path, vectors):
    path = text(tmp_path / "qrels.txt", TREC)
    queries = vectors("q.parquet", 3, "qid", ["q2", "q1", "q3"])
    rows = vectors("d.parquet", 3, "_id", ["d0", "d1", "d2"])
    assert matched(path, queries, rows) == ([(0, 1, 2.0), (1, 2, 1.0)], 0)


def test_numbers_are_ids_where_a_column_knows_them_and_row_numbers_where_not(tmp_path, vectors):
    path = text(tmp_path / "qrels.txt", "0 0 7 1\n1 0 5 1\n")
    rows = vectors("d.parquet", 3, "doc_id", [5, 6, 7])
    assert matched(path, vectors("q.parquet", 2), rows)[0] == [(0, 2, 1.0), (1, 0, 1.0)]
    rows = vectors("other.parquet", 8, "id", [f"d{row}" for row in range(8)])
    assert matched(path, vectors("q.parquet", 2), rows)[0] == [(0, 7, 1.0), (1, 5, 1.0)]


def test_ids_of_lines_and_of_tables_of_text(tmp_path):
    lines = [json.dumps({"_id": f"d{row}", "emb": [row, 1.0]}) for row in range(3)]
    text(tmp_path / "d.jsonl", "\n".join(lines))
    text(tmp_path / "q.csv", "query_id,x0,x1\nq1,0.5,1.0\nq2,1.5,1.0\nq3,2.5,1.0\n")
    queries, rows = open_vectors(tmp_path / "q.csv", "x*"), open_vectors(tmp_path / "d.jsonl")
    assert matched(text(tmp_path / "q.txt", TREC), queries, rows)[0] == [(0, 2, 1.0), (1, 1, 2.0)]


def test_rows_that_are_left_out_move_no_number(tmp_path, vectors):
    path = text(tmp_path / "qrels.txt", "0 0 3 1\n1 0 0 1\n2 0 1 1\n3 0 2 1\n3 0 3 2\n")
    queries, rows = vectors("q.parquet", 4, left_out=[1]), vectors("d.parquet", 4, left_out=[2])
    # Query 1 and row 2 cannot be used, and query 2, the second that can, is not evaluated.
    assert matched(path, queries, rows, [0, 2]) == ([(0, 2, 1.0), (1, 2, 2.0)], 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there are no judgements in it"),
        ("query-id\tcorpus-id\tscore\n", "there are no judgements in it"),
        ("0 0 1 1\n0 0 2\n", "line 2 cannot be read: 3 fields, not 4, query, 0, row and relevance"),
        ("query-id\tcorpus-id\tscore\n0\t1\n", "line 2 cannot be read: 2 fields, not 3, as its first line has"),
        ("0 0 1 much\n", "line 1 cannot be read: its relevance is 'much', not a number"),
        ("0 0 1 nan\n", "line 1 cannot be read: its relevance is 'nan', not a number"),
        ("0 0 1 1\n0 0 1 2\n", "line 2 judges query '0' and row '1' otherwise than line 1 does"),
        (
            "0 0 1 1\n0 0 5 1\n1 0 -1 1\n",
            r"2 ids of it name no row of .*d.parquet \(rows are 0 to 2\); .*line 2, is '5'",
        ),
        ("0 0 1 1\n9 0 1 1\n", "1 id of it names no query of .*q.parquet .* the first, in line 2, is '9'"),
        ("0 0 1 0\n1 0 1 -1\n", "no query that is evaluated has a relevant row"),
        ("\xff\xfe", "not readable judgements|cannot be read"),
    ],
)
def test_judgements_that_cannot_be_used(tmp_path, vectors, content, message):
    path = text(tmp_path / "qrels.txt", content)
    with pytest.raises(InputError, match=message):
        matched(path, vectors("q.parquet", 2), vectors("d.parquet", 3))


def test_an_id_that_stands_twice_or_is_unknown(tmp_path, vectors):
    path, queries = text(tmp_path / "q.txt", "0 0 a 1\n0 0 b 1\n"), vectors("q.parquet", 2)
    with pytest.raises(InputError, match="its column docid has the id 'b' more than once"):
        matched(path, queries, vectors("d.parquet", 3, "docid", ["a", "b", "b"]))
    with pytest.raises(InputError, match=r"1 id of it names no row of .* \(by its column docid\); .* is 'b'"):
        matched(path, queries, vectors("d.parquet", 3, "docid", ["a", "c", "c"]))


def test_a_parquet_file_without_the_columns_or_with_nulls(tmp_path):
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table({"query-id": [1], "score": [1]}), path)
    with pytest.raises(InputError, match="no column corpus-id or .* among query-id, score"):
        read_qrels(str(path))
    pq.write_table(pa.table({"query-id": [1, None], "corpus-id": [1, 2], "score": [1, 1]}), path)
    with pytest.raises(InputError, match="row 1 cannot be read: a value is null"):
        read_qrels(str(path))


def test_the_built_in_judgements():
    found = read_qrels("builtin")
    assert found.source == str(qrels_file("builtin")) and len(found.scores) == 2000
    with pytest.raises(InputError, match="a URL is not read"):
        read_qrels("https://example.org/qrels.tsv")

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dploss.data import read_texts
from dploss.errors import InputError
from dploss.evaluation.neighbour_texts import neighbour_lines


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_the_builtin_vectors_have_texts():
    texts = read_texts("builtin", np.array([9999, 0]))
    assert len(texts) == 2 and all(text for text in texts) and texts[0] != texts[1]
    assert read_texts("builtin", np.array([0, 9999])) == texts[::-1]


def test_shards_are_counted_through(tmp_path):
    parquet(tmp_path / "b.parquet", title=["two", "three"], emb=[[1.0], [2.0]])
    parquet(tmp_path / "a.parquet", title=["zero", "one"], emb=[[1.0], [2.0]])
    for source in (tmp_path, tmp_path / "*.parquet"):
        assert read_texts(str(source), np.array([3, 0, 2])) == ["three", "zero", "two"]


def test_jsonl_rows_are_counted_without_blank_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps({"note": f"n{i}", "v": [i]}) + "\n" for i in range(3)]), encoding="utf-8")
    assert read_texts(str(path), np.array([2, 0])) == ["n2", "n0"]


@pytest.mark.parametrize(
    ("columns", "wanted", "chosen"),
    [
        ({"url": ["u"], "text": ["t"]}, None, "t"),
        ({"title": ["a title"], "text": ["t"]}, None, "t"),
        ({"word": ["w"], "embedding_json": ["[1]"]}, None, "w"),
        ({"url": ["u"], "text": ["t"]}, "url", "u"),
        ({"id": [7], "text": ["t"]}, "id", "7"),
    ],
)
def test_the_column_is_found_or_named(tmp_path, columns, wanted, chosen):
    assert read_texts(parquet(tmp_path / "a.parquet", **columns), np.array([0]), wanted) == [chosen]


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        ({"a": ["1"], "b": ["2"]}, None, "several columns of text: a, b; choose with text_column"),
        ({"a": [1]}, None, "no column of text among a; choose with text_column"),
        ({"a": ["1"]}, "b", "no column 'b'; there are a"),
    ],
)
def test_no_or_several_columns_are_said(tmp_path, columns, wanted, message):
    path = parquet(tmp_path / "a.parquet", **columns)
    rows = tmp_path / "a.jsonl"
    rows.write_text(json.dumps({name: values[0] for name, values in columns.items()}))
    for source in (path, str(rows)):
        with pytest.raises(InputError, match=message):
            read_texts(source, np.array([0]), wanted)


def test_other_formats_have_none(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    with pytest.raises(InputError, match="this format has no texts"):
        read_texts(str(tmp_path / "a.npy"), np.array([0]))


@pytest.mark.parametrize("content", ["", "nonsense", "[1]", '{"text": "a"}\n{"text'])
def test_broken_lines_are_an_error(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=r"a\.jsonl: the texts cannot be read"):
        read_texts(str(path), np.array([1]))


@pytest.mark.parametrize("unit", [1e-25, 1, 1e25])
def test_neighbours_are_marked_as_kept_lost_or_new(unit):
    original = np.array([[0.0], [1.0], [2.0], [10.0]], np.float32) * np.float32(unit)
    latent = np.array([[0.0], [1.0], [20.0], [2.0]], np.float32) * np.float32(unit)
    lines = neighbour_lines(original, latent, ["zero", "one", "two", "ten " * 20], 2, 40, seed=0)
    start = lines.index("zero")
    assert lines[start : start + 7] == [
        "zero",
        "  nearest of 4 rows by 1 dimension",
        "      one",
        "    - two",
        "  by 1 dimension: 1 of 2 kept",
        "      one",
        "    + ten ten ten ten ten ten ten ten t…",
    ]
    assert max(map(len, lines)) <= 40

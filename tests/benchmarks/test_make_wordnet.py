import random
import sys
from importlib import import_module

import numpy as np
import pytest
from conftest import ROOT
from small_wordnet import TEXTS, write_wordnet

from dploss.errors import InputError

sys.path.append(str(ROOT / "benchmarks"))
make_wordnet = import_module("make_wordnet")


@pytest.fixture
def wordnet(tmp_path):
    """A folder of WordNet's four files."""
    return write_wordnet(tmp_path / "wordnet")


@pytest.fixture
def script(wordnet, tmp_path, monkeypatch, capsys):
    """Run the script with a model that stands for the real one; its exit code, what it printed, and the rows."""

    def embed(texts):
        rows = np.array([[len(text), text.count(" "), *map(ord, text[:6])] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    monkeypatch.setattr(make_wordnet, "load_model", lambda name: embed)

    def run_script(*flags, out=tmp_path / "made" / "rows.npy"):
        given = ["--wordnet", wordnet, "--rows", 6, "--out", out, *flags]
        code = make_wordnet.main([str(flag) for flag in given])
        printed = capsys.readouterr()
        return code, printed.out, printed.err, np.load(out) if code == 0 else None

    run_script.embed = embed
    return run_script


def test_texts_are_lemmas_and_the_definition_without_its_examples(wordnet):
    assert make_wordnet.read_entries(wordnet) == TEXTS


def test_rows_are_unit_float16_in_the_order_of_the_texts(script, tmp_path):
    code, printed, errors, rows = script("--texts", tmp_path / "texts.txt")
    assert (code, printed, errors) == (0, f"{tmp_path / 'made' / 'rows.npy'}\n", "")
    assert rows.dtype == np.float16 and rows.shape == (6, 8)
    assert np.linalg.norm(rows.astype(np.float32), axis=1) == pytest.approx(np.ones(6), abs=1e-3)
    texts = (tmp_path / "texts.txt").read_text().splitlines()
    assert sorted(texts) == sorted(TEXTS)
    assert np.array_equal(rows, script.embed(texts).astype(np.float16))


def test_the_seed_alone_decides_the_order_and_rows_are_its_first(script):
    whole, again, other, few = (script(*flags)[-1] for flags in ([], [], ["--seed", 8], ["--rows", 4]))
    assert np.array_equal(whole, again) and np.array_equal(whole[:4], few)
    assert not np.array_equal(whole, other)
    expected = list(TEXTS)
    random.Random(7).shuffle(expected)
    assert np.array_equal(whole, script.embed(expected).astype(np.float16))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--wordnet", "nowhere"], "nowhere: no such folder; --help says where WordNet comes from"),
        (["--rows", 7], "--rows must be within 1 and 6, the entries in"),
        (["--rows", 0], "--rows must be within 1 and 6, the entries in"),
        (["--out", "rows.parquet"], "--out must be a .npy file, got rows.parquet"),
    ],
)
def test_what_cannot_be_used_is_one_line(script, flags, message):
    code, printed, errors, _ = script(*flags)
    assert (code, printed, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"make_wordnet.py: {message}")


def test_a_missing_or_foreign_file_is_named(script, wordnet):
    (wordnet / "data.noun").write_text("offset,lemma\n")
    code, _, errors, _ = script()
    assert code == 2 and f"{wordnet / 'data.noun'}: not a data file of WordNet" in errors
    (wordnet / "data.noun").unlink()
    code, _, errors, _ = script()
    assert code == 2 and errors == f"make_wordnet.py: {wordnet / 'data.noun'}: no such file\n"


def test_a_stop_while_embedding_keeps_the_old_file(script, tmp_path, monkeypatch):
    *_, rows = script()

    def stop(texts):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_wordnet, "load_model", lambda name: stop)
    assert script("--seed", 8)[0] == 130
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["rows.npy"]
    assert np.array_equal(np.load(tmp_path / "made" / "rows.npy"), rows)


def test_a_missing_model_is_one_line(tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(InputError, match="nowhere: not a model that can be loaded; --help says where it comes from"):
        make_wordnet.load_model(str(tmp_path / "nowhere"))


def test_without_sentence_transformers_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"pip install 'dploss\[sentence-transformers\]'"):
        make_wordnet.load_model("any")

import json
import os
import re

import numpy as np
import pytest
from conftest import ROOT
from no_network import no_weights
from small_models import TEXTS, rows_and_queries, tiny_model, two_sides

from dploss import DPEncoder, load_encoder
from dploss.codes.build import fit_code
from dploss.commands import train
from dploss.config import TrainConfig
from dploss.training.launch import new_experiment

# Pages in English that there are in Korean, too.
PAGES = sorted(
    page.relative_to(ROOT)
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if not page.stem.endswith(".ko") and page.with_suffix(".ko.md").exists()
)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_both_languages_show_the_same_commands_and_code(page):
    def plain(block):
        # Comments are in the reader's language.
        return [re.sub(r"\s*#.*", "", line) for line in block.splitlines()]

    for language in ("bash", "python"):
        korean = page.with_suffix(".ko.md")
        assert [plain(one) for one in blocks(page, language)] == [plain(one) for one in blocks(korean, language)]


def test_the_training_loop_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    no_weights(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in blocks("docs/IMAGES.md", "python") if "BestCheckpointTracker" in block]
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 30
    exec(compile(code, "IMAGES.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "new best: " in printed and "Tracking metric: psnr" in printed and "Saved checkpoints: 3/3" in printed
    results = json.loads((tmp_path / "results/run1/best_checkpoint_results.json").read_text())
    # The loop draws its model's weights at random, so any of its four checkpoints may be the best.
    scores = [one["metrics"]["psnr"] for one in results["checkpoints"]]
    assert len(scores) == 3 and results["best"]["metrics"]["psnr"] == max(scores)
    assert (tmp_path / "results/run1/best.pt").resolve().name == results["best"]["path"]


def run_block(word, experiment="", **names):
    """Run the one block of Python that has a word in it, with what it takes from its surroundings; all its names."""
    (code,) = [block for page in ("README.md", "docs/USING.md") for block in blocks(page, "python") if word in block]
    exec(compile(code.replace("<uuid>", experiment), "documentation", "exec"), names)
    return names


def test_the_reducer_fits_as_it_is_written(builtin):
    vectors = builtin[:30, :70]
    labels = (vectors[:, 0] > np.median(vectors[:, 0])).astype(int)
    names = run_block("DPReducer(", vectors=vectors, labels=labels)
    assert names["latents"].shape == (30, 64)
    assert names["classifier"].predict(vectors).shape == (30,)
    assert names["codes"].shape == (30, 16) and names["decoded"].shape == (30, 70)
    assert (names["scores"].argmin(axis=1) == range(30)).mean() > 0.9


def test_the_exports_and_the_indexes_work_as_they_are_written(trained, builtin, tmp_path, monkeypatch):
    for package in ("faiss", "onnx", "onnxscript"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").symlink_to(trained)
    linear = DPEncoder(768, (), 16)
    run_block('export_onnx("checkpoints', next(trained.iterdir()).name, encoder=linear, vectors=builtin)
    assert (tmp_path / "encoder.onnx").stat().st_size > 1000
    names = run_block("IndexPreTransform(", encoder=linear, vectors=builtin, queries=builtin[:20])
    assert names["indices"].shape == (20, 10) and (names["indices"][:, 0] == range(20)).all()
    assert names["linear"].ntotal == 600


def test_codes_are_searched_as_it_is_written(builtin, tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    run = new_experiment(TrainConfig(bytes=128, code="int8", limit=400, epochs=0, hidden_dims=(24,), quiet=True))
    run.run()
    vectors, queries = builtin[400:], builtin[400:420]
    encoder = load_encoder(run.folder / "best.pt")
    scores = encoder.code.score(encoder.encode(queries), encoder.encode_to_codes(vectors))
    names = run_block("view(np.int8)", run.folder.name, vectors=vectors, queries=queries)
    rows, asked = (names[name].astype(float) for name in ("rows", "asked"))
    assert rows.shape == (200, 128) and names["rows"].dtype == names["asked"].dtype == np.int8
    distances = np.square(asked[:, None] - rows).sum(axis=2)
    assert (distances.argmin(axis=1) == scores.argmin(axis=1)).all()
    # As unsigned bytes they are as far apart.
    shifted = (names["rows"].view(np.uint8) ^ 128).astype(float)
    np.testing.assert_array_equal(shifted - 128, rows)

    encoder = names["encoder"]
    encoder.code = fit_code("pq", encoder.encode(builtin[:400]), 16)
    names = run_block("to_faiss(", encoder=encoder, codes=encoder.encode_to_codes(vectors), queries=queries)
    assert (names["indices"][:, 0] == range(20)).mean() > 0.9 and (tmp_path / "codes.faiss").is_file()


def test_the_sentence_transformer_encodes_as_it_is_written(trained, tmp_path, monkeypatch):
    library = pytest.importorskip("sentence_transformers")
    real, tiny = library.SentenceTransformer, tiny_model(tmp_path / "tiny", 768)

    def within_reach(name, **options):
        return real(modules=list(tiny), **options) if name == "all-mpnet-base-v2" else real(name, **options)

    monkeypatch.setattr(library, "SentenceTransformer", within_reach)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").symlink_to(trained)
    names = run_block("ShortEmbedding(", next(trained.iterdir()).name, texts=TEXTS[:20])
    assert names["embeddings"].shape == (20, 16)
    np.testing.assert_allclose(names["model"].encode(TEXTS[:20]), names["embeddings"], atol=1e-5)
    encoder = names["model"][-1].encoder
    encoder.code = fit_code("trellis", names["embeddings"], 8)
    names = run_block("model[-1].encoder.code", model=names["model"], texts=TEXTS[:20], queries=TEXTS[:5])
    assert names["codes"].shape == (20, 8) and names["scores"].shape == (5, 20)


def test_the_index_of_codes_finds_as_it_is_written(builtin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--limit", "600", "--bytes", "8", "--epochs", "0", "--checkpoints-dir", "checkpoints", "--quiet"]
    assert train.main(argv) == 0
    names = run_block("CodeIndex.load(", os.listdir("checkpoints")[0], vectors=builtin, queries=builtin[:20])
    assert names["ids"].shape == (20, 10) and (names["ids"][:, 0] == range(20)).all()
    assert len(names["index"]) == len(builtin)


def test_queries_have_a_side_as_it_is_written(tmp_path, monkeypatch):
    for package in ("faiss", "onnx", "onnxscript"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    vectors, queries = rows_and_queries()
    encoder = two_sides(vectors, queries)
    encoder.code = fit_code("trellis", encoder.encode(vectors), 16, metric="ip")
    names = run_block("encode_queries(", encoder=encoder, vectors=vectors, queries=queries)
    assert names["nearest"].shape == names["indices"].shape == (200, 10)
    assert (np.diff(names["products"], axis=1) <= 0).all() and (np.diff(names["scores"], axis=1) <= 0).all()
    assert (names["indices"][:, 0] == (queries @ vectors.T).argmax(axis=1)).mean() > 0.95
    np.testing.assert_allclose(queries @ names["matrix"].T + names["bias"], names["asked"], atol=1e-4)
    assert (tmp_path / "rows.onnx").is_file() and (tmp_path / "queries.onnx").is_file()


@pytest.mark.parametrize("page", [*PAGES, *(page.with_suffix(".ko.md") for page in PAGES)], ids=str)
def test_every_script_and_file_that_is_named_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    scripts = re.findall(r"(?<!\S)python ([\w/]+\.py)", text)
    linked = [(ROOT / page).parent / name for name in LINK.findall(text)]
    assert linked and all((ROOT / script).is_file() for script in scripts)
    assert not [name for name in linked if not name.exists()]


def test_every_promise_names_tests_that_there_are():
    promised = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "RELIABILITY.md").read_text(encoding="utf-8")))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(promised) > 20
    assert not [name for name in promised if f"\ndef {name}(" not in tests]

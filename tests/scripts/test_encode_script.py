import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from dploss.codes.encoded_file import read_codes, sidecar
from dploss.codes.quantizer import DTYPES, Quantizer
from dploss.data import open_vectors
from dploss.data.stream import VectorStream
from dploss.encoding import ray_engine, resumable
from dploss.encoding.job import EncodeJob
from dploss.errors import InputError
from dploss.experiments.catalog import list_experiments
from dploss.experiments.checkpoints import load_checkpoint
from dploss.models.build import load_encoder

SUFFIXES = (".npy", ".parquet", ".fvecs", ".fbin")


@pytest.fixture
def experiment(checkpoints):
    """The newest."""
    return list_experiments(checkpoints)[0][0].folder


@pytest.fixture
def encoder(experiment):
    return load_encoder(experiment / "best.pt")


def shards(folder, rows):
    """Two files of several row groups, with other columns beside."""
    folder.mkdir()
    for number, part in enumerate(np.array_split(rows, 2)):
        ids = list(range(len(part)))
        columns = {"id": ids, "embedding": list(part), "text": [f"{number} {row}" for row in ids]}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=50)
    return folder


def job(experiment, source, output, dtype="float32", batch_size=64, **more):
    path = experiment / "best.pt"
    more |= {"checkpoint": path, "experiment_id": load_checkpoint(path)["config"]["experiment_id"]}
    return EncodeJob(load_encoder(path), str(source), output, dtype=dtype, batch_size=batch_size, **more)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_each_format_holds_the_latents(suffix, request, checkpoints, experiment, encoder, builtin, tmp_path):
    shards(tmp_path / "shards", builtin)
    output = tmp_path / f"short{suffix}"
    reference = f"--experiment_id={experiment.name}"
    start = request.getfixturevalue("run" if suffix == ".npy" else "call")
    done = start("encode.py", tmp_path / "shards", output, reference, "--batch-size", 128)
    assert done.returncode == 0 and done.stdout.strip() == str(output)
    rows = open_vectors(output).rows[:]
    np.testing.assert_allclose(rows, encoder.encode(builtin), rtol=1e-4, atol=1e-5)
    if suffix == ".parquet":
        table = pq.read_table(output)
        assert table.column_names == ["id", "text", "embedding"]
        assert table["text"][300].as_py() == "1 0"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "shards", output.name, f"{output.name}.json"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_come_back_as_near_as_their_dtype_allows(dtype):
    latents = np.random.default_rng(0).normal(size=(200, 13)).astype(np.float32)
    quantizer = Quantizer.fit(dtype, latents)
    stored = quantizer.quantize(latents)
    assert (stored.dtype, stored.shape[1]) == quantizer.stored
    again = Quantizer.from_dict(json.loads(json.dumps(quantizer.as_dict())))
    back = again.dequantize(stored)
    if dtype == "binary":
        np.testing.assert_array_equal(back, np.where(latents > 0, 1, -1))
    else:
        tolerance = {"float32": 0, "float16": 2e-3, "int8": quantizer.scales.max() / 2 if dtype == "int8" else 0}[dtype]
        np.testing.assert_allclose(back, latents, atol=tolerance * 1.001)
    if dtype == "int8":
        np.testing.assert_array_equal(quantizer.quantize(100 * latents[:1]), 127 * np.sign(latents[:1]))


@pytest.mark.parametrize("source", ["rows.npy", "shards"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_stopped_run_goes_on_and_ends_with_the_same_file(source, suffix, dtype, experiment, builtin, tmp_path):
    if dtype == "int8" and suffix in (".fvecs", ".fbin"):
        return
    np.save(tmp_path / "rows.npy", builtin)
    shards(tmp_path / "shards", builtin)
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"short{suffix}"
    assert job(experiment, tmp_path / source, whole, dtype).run()
    runs = 0
    while not (one := job(experiment, tmp_path / source, output, dtype)).run(stop=lambda: True):
        runs += 1
        assert not output.exists() and one.done < 600
        # What was written after the last save of a killed run is not whole.
        partial = tmp_path / f".short{suffix}.partial"
        if partial.is_file():
            with open(partial, "ab") as file:
                file.write(b"half a row")
    assert runs >= 5
    if suffix == ".parquet":
        assert pq.read_table(output).equals(pq.read_table(whole))
    else:
        assert output.read_bytes() == whole.read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_task_does_not_go_on_with_what_is_there(experiment, builtin, tmp_path):
    np.save(tmp_path / "rows.npy", builtin)
    output = tmp_path / "short.npy"
    assert not job(experiment, tmp_path / "rows.npy", output).run(stop=lambda: True)
    assert job(experiment, tmp_path / "rows.npy", output).done == 64
    assert job(experiment, tmp_path / "rows.npy", output, "float16").done == 0
    os.utime(tmp_path / "rows.npy", ns=(1, 1))
    assert job(experiment, tmp_path / "rows.npy", output).done == 0


def test_a_fault_leaves_the_old_file_and_what_was_done(experiment, builtin, tmp_path, monkeypatch):
    rows = builtin.copy()
    rows[400, 3] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    output = tmp_path / "short.npy"
    output.write_bytes(b"old")
    monkeypatch.setattr(resumable, "FLUSH_BYTES", 0)
    with pytest.raises(InputError, match=r"rows.npy: row 400 has nan in .*, for which \.npy has no int8 values"):
        job(experiment, tmp_path / "rows.npy", output, "int8").run()
    assert output.read_bytes() == b"old"
    assert job(experiment, tmp_path / "rows.npy", output, "int8").done == 384


def test_test_py_judges_the_codes_with_and_without_reranking(call, checkpoints, experiment, tmp_path):
    for dtype in ("int8", "binary"):
        encoded = call("encode.py", "builtin", f"{dtype}.parquet", "--dtype", dtype, "--quiet")
        assert encoded.returncode == 0, encoded.stderr
        report = call("test.py", "--encoded", f"{dtype}.parquet", "--rows", 500, "--json")
        assert report.returncode == 0, report.stderr
        methods = json.loads(report.stdout)["methods"]
        codes, exact = methods[f"{dtype}.parquet ({dtype})"], methods["encoder"]
        assert codes["recall"]["10"] == pytest.approx(exact["recall"]["10"], abs=0.01 if dtype == "int8" else 0.9)
        assert codes["reranked"]["10"]["10"] > codes["recall"]["10"]


def test_read_codes_gives_the_rows_asked_for(experiment, encoder, builtin, tmp_path):
    np.save(tmp_path / "rows.npy", builtin)
    job(experiment, tmp_path / "rows.npy", tmp_path / "short.npy").run()
    rows, quantizer = read_codes(tmp_path / "short.npy", np.array([5, 2]))
    np.testing.assert_allclose(rows, encoder.encode(builtin[[5, 2]]), rtol=1e-4, atol=1e-5)
    assert (quantizer.dtype, quantizer.dim) == ("float32", 16)
    assert json.loads(sidecar(tmp_path / "short.npy").read_text())["experiment_id"] == experiment.name
    with pytest.raises(InputError, match="not the codes of these vectors"):
        read_codes(tmp_path / "short.npy", np.array([600]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("gone.npy", "short.npy"), "gone.npy: no such file"),
        (("builtin", "short.txt"), "short.txt: the output must be one of .npy, .parquet, .fvecs, .fbin"),
        (("builtin", "short.fbin", "--dtype", "int8"), "short.fbin: .fbin holds float32 alone"),
        (("builtin", "no/where.npy"), "no/where.npy: its folder does not exist"),
        (("other.npy", "short.npy"), "other.npy: its vectors have 5 dimensions, the encoder takes 768"),
        (("other.npy", "other.npy"), "other.npy: that is the input"),
        (("builtin", "short.npy", "--dim", "17"), "--dim must be within 1 and 16, got 17"),
        (
            ("builtin", "short.npy", "--dim", "8"),
            "--dim must be 16, the only size that the encoder was trained for, got",
        ),
        (("builtin", "short.npy", "--dim", "8"), "got 8; --any-dim allows others"),
        (("--decode", "codes.npy", "back.npy", "--any-dim"), "--any-dim does not go with --decode"),
        (("builtin", "short.npy", "--batch-size", "0"), "--batch-size must be at least 1, got 0"),
        (("builtin", "short.npy", "--checkpoint", "a", "--experiment_id", "b"), "give one"),
        (("builtin", "short.npy", "--checkpoint", "other.npy"), "other.npy"),
        (
            ("builtin", "checkpoints", "--engine", "ray"),
            "checkpoints: --engine ray writes a new folder, but this exists already",
        ),
        (
            ("builtin", "short.npy", "--engine", "ray"),
            "short.npy: --engine ray writes a new folder, but this is the name of a file",
        ),
        (("other.npy", "short", "--engine", "ray"), "other.npy: --engine ray reads parquet and Arrow IPC files alone"),
    ],
)
def test_what_cannot_be_done_is_one_line(flags, message, call, checkpoints, tmp_path):
    np.save(tmp_path / "other.npy", np.ones((10, 5)))
    before = {path.name for path in tmp_path.iterdir()}
    done = call("encode.py", *flags)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"dtype": "int8", "dim": 16, "scales": null}',
        b'{"dtype": "int8", "dim": 1, "scales": [1' + 400 * b"0" + b"]}",
        b'{"dtype": "bits", "dim": 1}',
    ],
)
def test_a_strange_file_beside_is_one_line(content, call, checkpoints, tmp_path):
    np.save(tmp_path / "short.npy", np.ones((10, 16), np.float32))
    (tmp_path / "short.npy.json").write_bytes(content)
    with pytest.raises(InputError, match=r"short.npy.json: not a sidecar that encode.py wrote"):
        read_codes(tmp_path / "short.npy", np.array([0]))
    done = call("test.py", "--encoded", "short.npy")
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_help_waits_for_neither_torch_nor_pyarrow():
    program = """
import sys, encode
try:
    encode.main(["--help"])
finally:
    print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "binary" in done.stdout, done.stderr
    assert not {"torch", "pyarrow"} & set(done.stdout.split())


def test_a_stream_gives_every_row_from_anywhere_on(builtin, tmp_path):
    np.save(tmp_path / "rows.npy", builtin)
    for source in (shards(tmp_path / "shards", builtin), tmp_path / "rows.npy"):
        stream = VectorStream(str(source))
        assert (stream.rows, stream.dim) == (600, 768)
        for start in (0, 49, 50, 299, 300, 599, 600):
            parts = [rows for rows, _ in stream.batches(start, 70)]
            assert all(len(part) <= 70 for part in parts)
            np.testing.assert_array_equal(np.concatenate([builtin[:0], *parts]), builtin[start:])
        sample = stream.sample(32)
        assert 16 <= len(sample) <= 48
        assert {row.tobytes() for row in sample} <= {row.tobytes() for row in builtin}


def test_parts_of_parquet_are_cut_between_row_groups(builtin, tmp_path):
    stream = VectorStream(str(shards(tmp_path / "shards", builtin)))
    assert stream.parts(120) == [(0, 150), (150, 300), (300, 450), (450, 600)]
    assert stream.parts(1000) == [(0, 600)]
    for start, stop in stream.parts(1):
        assert stop - start == 50
        rows = np.concatenate([rows for rows, _ in stream.batches(start, 70, stop=stop)])
        np.testing.assert_array_equal(rows, builtin[start:stop])


def test_ray_gives_what_the_local_engine_gives_row_by_row(run, call, checkpoints, experiment, builtin, tmp_path):
    pytest.importorskip("ray")
    shards(tmp_path / "shards", builtin)
    flags = ("--dtype", "int8", "--batch-size", 120)
    assert call("encode.py", "shards", "short.parquet", *flags).returncode == 0
    # Stopped after its second part.
    stopped = job(experiment, "shards", tmp_path / "short", "int8", batch_size=120, folder=True)
    with stopped.locked() as quantizer:
        stopped.partial.mkdir()
        stopped.save(quantizer)
        part = {"path": str(stopped.partial / "000001.parquet"), "start": 150, "stop": 300}
        done = ray_engine._encode_part(stopped.task, "cpu", 120, quantizer, part)
        assert done == {"rows": 150, "error": ""}
        inode = Path(part["path"]).stat().st_ino

    done = run("encode.py", "shards", "short", "--engine", "ray", *flags)
    assert (done.returncode, done.stdout) == (0, "short\n"), done.stderr
    assert done.stderr.splitlines()[0].startswith("encoding 600 rows") and "Traceback" not in done.stderr
    files = sorted((tmp_path / "short").glob("*"))
    assert [path.name for path in files] == [f"{number:06d}.parquet" for number in range(4)]
    assert files[1].stat().st_ino == inode
    local = pq.read_table(tmp_path / "short.parquet")
    assert pa.concat_tables(map(pq.read_table, files)).equals(local)
    rows, _ = read_codes(tmp_path / "short", np.array([0, 599]))
    np.testing.assert_array_equal(rows, read_codes(tmp_path / "short.parquet", np.array([0, 599]))[0])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_part_that_cannot_be_read_names_the_file(experiment, builtin, tmp_path):
    task = job(experiment, shards(tmp_path / "s", builtin), tmp_path / "short.parquet").task
    damaged = tmp_path / "s" / "1.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    part = {"path": str(tmp_path / "000000.parquet"), "start": 300, "stop": 600}
    done = ray_engine._encode_part(task, "cpu", 120, Quantizer("float32", 16), part)
    assert done["rows"] == 0 and "1.parquet: not a readable parquet file" in done["error"]
    assert not Path(part["path"]).exists()


@pytest.mark.parametrize("unit", [1e-25, 1e10])
def test_rows_of_any_unit_are_trained_encoded_and_evaluated(unit, builtin, call, tmp_path):
    np.save(tmp_path / "rows.npy", builtin * np.float32(unit))
    small = ("--latent-dim", 16, "--hidden-dims", 16, "--epochs", 1, "--batch-size", 64, "--quiet")
    assert call("train.py", "--data", "rows.npy", *small).returncode == 0
    for dtype in ("float32", "int8"):
        assert call("encode.py", "rows.npy", "short.npy", "--dtype", dtype, "--quiet").returncode == 0
        methods = json.loads(call("test.py", "--encoded", "short.npy", "--k", 5, "--json").stdout)["methods"]
        encoder, codes = methods["encoder"], methods[f"short.npy ({dtype})"]
        assert codes["recall"]["5"] == pytest.approx(encoder["recall"]["5"], abs=0 if dtype == "float32" else 0.05)
        assert methods["truncation"]["recall"]["5"] < encoder["recall"]["5"] < 0.9
    done = call("encode.py", "rows.npy", "half.npy", "--dtype", "float16", "--quiet")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not (tmp_path / "half.npy").exists()
    assert "which float16 cannot hold: use float32 or int8" in done.stderr


def test_a_size_that_was_not_trained_for_has_to_be_asked_for(checkpoints, call, encoder, builtin, tmp_path):
    np.save(tmp_path / "rows.npy", builtin[:50])
    done = call("encode.py", "rows.npy", "short.npy", "--dim", 8, "--any-dim", "--quiet")
    assert done.returncode == 0, done.stderr
    expected = encoder.encode(builtin[:50], dim=8, any_dim=True)
    np.testing.assert_allclose(np.load(tmp_path / "short.npy"), expected, rtol=1e-5, atol=1e-6)

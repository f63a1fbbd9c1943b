import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers.mutations import mutated

from dploss.codes.build import fit_code
from dploss.codes.code_stream import CodeStream
from dploss.codes.encoded_file import read_codes, sidecar
from dploss.codes.stored_code import StoredCode
from dploss.data import open_vectors
from dploss.encoding import ray_engine
from dploss.encoding.decode import DecodeJob
from dploss.encoding.job import EncodeJob
from dploss.errors import InputError
from dploss.experiments.catalog import list_experiments
from dploss.models.build import load_encoder

BYTES = 8


def add_code(path, rows):
    """Give a checkpoint the code that a training with --bytes would have fitted."""
    path = path.resolve()
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["code"] = fit_code("trellis", load_encoder(path).encode(rows), BYTES).state_dict()
    torch.save(checkpoint, path)


@pytest.fixture(scope="module")
def prepared(trained, builtin, tmp_path_factory):
    """The three experiments: the newest two have codes, the oldest has none."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("coded") / "checkpoints", symlinks=True)
    for experiment, count in zip(list_experiments(folder)[0], (600, 500), strict=False):
        add_code(experiment.folder / "best.pt", builtin[:count])
    return folder


@pytest.fixture
def experiments(prepared, tmp_path):
    """Folders of the experiments, the newest first, in the folder that scripts run in."""
    shutil.copytree(prepared, tmp_path / "checkpoints", symlinks=True)
    return [experiment.folder for experiment in list_experiments(tmp_path / "checkpoints")[0]]


@pytest.fixture
def encoder(experiments):
    return load_encoder(experiments[0] / "best.pt")


@pytest.fixture
def codes(encoder, builtin):
    return encoder.encode_to_codes(builtin)


@pytest.fixture
def table(builtin, tmp_path):
    """rows.parquet: vectors between an id of 8 bytes, as wide as a code, and a text."""
    ids = pa.array([f"{row:08d}".encode() for row in range(600)], pa.binary(8))
    columns = {"id": ids, "embedding": list(builtin), "text": [f"word {row}" for row in range(600)]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=50)
    return pq.read_table(tmp_path / "rows.parquet")


@pytest.fixture
def rows(builtin, tmp_path):
    np.save(tmp_path / "rows.npy", builtin)
    return tmp_path / "rows.npy"


def encode_job(experiment, source, output, batch_size=64, **more):
    path = experiment / "best.pt"
    more |= {"checkpoint": path, "experiment_id": experiment.name, "batch_size": batch_size}
    return EncodeJob(load_encoder(path), str(source), output, **more)


def decode_job(experiment, source, output, batch_size=64):
    path = experiment / "best.pt"
    code = load_encoder(path).code
    return DecodeJob(source, output, code, checkpoint=path, experiment_id=experiment.name, batch_size=batch_size)


def test_an_experiment_with_a_code_writes_it_and_gets_its_latents_back(run, call, rows, experiments, encoder, codes):
    done = run("encode.py", "rows.npy", "codes.npy")
    assert (done.returncode, done.stdout) == (0, "codes.npy\n"), done.stderr
    stored = np.load(rows.with_name("codes.npy"))
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, codes)
    told = json.loads(rows.with_name("codes.npy.json").read_text())
    assert told["experiment_id"] == experiments[0].name and told["checkpoint"].endswith("best.pt")
    expected = {"dtype": "uint8", "dim": 16, "code": "trellis", "bytes": BYTES, "rows": 600}
    assert expected.items() <= told.items() and told["code_sha256"] == StoredCode.of(encoder.code).sha256

    done = call("encode.py", "--decode", "codes.npy", "back.npy")
    assert (done.returncode, done.stdout) == (0, "back.npy\n"), done.stderr
    assert done.stderr.startswith("decoding 600 rows of codes.npy on cpu\nwith ")
    np.testing.assert_array_equal(np.load(rows.with_name("back.npy")), encoder.code.decode(codes))
    origins = json.loads(rows.with_name("back.npy.json").read_text())
    assert origins["decoded_from"] == str(rows.with_name("codes.npy")) and origins["data"] == str(rows)


def test_parquet_keeps_the_other_columns_there_and_back(call, table, encoder, codes, tmp_path):
    assert call("encode.py", "rows.parquet", "codes.parquet", "--batch-size", 70).returncode == 0
    stored = pq.read_table(tmp_path / "codes.parquet")
    assert stored.column_names == ["id", "text", "embedding"] and stored["embedding"].type == pa.binary(BYTES)
    assert b"".join(stored["embedding"].to_pylist()) == codes.tobytes()
    assert call("encode.py", "--decode", "codes.parquet", "back.parquet", "--batch-size", 70).returncode == 0
    back = pq.read_table(tmp_path / "back.parquet")
    assert back.column_names == stored.column_names
    for name in ("id", "text"):
        assert stored[name].equals(table[name]) and back[name].equals(table[name])
    np.testing.assert_array_equal(open_vectors(tmp_path / "back.parquet").rows[:], encoder.code.decode(codes))


def test_parquet_of_vectors_alone_goes_there_and_back(call, builtin, encoder, codes, tmp_path):
    pq.write_table(pa.table({"v": list(builtin)}), tmp_path / "rows.parquet")
    assert call("encode.py", "rows.parquet", "codes.parquet").returncode == 0
    assert call("encode.py", "--decode", "codes.parquet", "back.parquet").returncode == 0
    assert pq.read_schema(tmp_path / "back.parquet").names == ["v"]
    np.testing.assert_array_equal(open_vectors(tmp_path / "back.parquet").rows[:], encoder.code.decode(codes))


@pytest.mark.parametrize("suffix", [".fvecs", ".fbin"])
def test_latents_of_codes_in_other_formats(suffix, call, rows, encoder, codes):
    assert call("encode.py", "rows.npy", "codes.npy").returncode == 0
    assert call("encode.py", "--decode", "codes.npy", f"back{suffix}").returncode == 0
    back = open_vectors(rows.with_name(f"back{suffix}")).rows[:]
    np.testing.assert_array_equal(back, encoder.code.decode(codes))


def test_a_dtype_gives_latents_as_of_an_experiment_without_a_code(call, rows, experiments, encoder):
    for dtype, dim in (("float32", 16), ("binary", 2)):
        assert call("encode.py", "rows.npy", "short.npy", "--dtype", dtype).returncode == 0
        assert np.load(rows.with_name("short.npy")).shape == (600, dim)
        assert "code" not in json.loads(rows.with_name("short.npy.json").read_text())
    assert call("encode.py", "rows.npy", "plain.npy", "--experiment_id", experiments[2].name).returncode == 0
    assert np.load(rows.with_name("plain.npy")).dtype == np.float32


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_stopped_runs_end_with_the_file_of_an_undisturbed_one(suffix, experiments, table, tmp_path):
    def read(path):
        return path.read_bytes() if suffix == ".npy" else pq.read_table(path)

    def stopped_at_every_batch(make):
        runs = 1
        while not make().run(stop=lambda: True):
            runs += 1
        return runs

    whole, codes = tmp_path / f"whole{suffix}", tmp_path / f"codes{suffix}"
    assert encode_job(experiments[0], tmp_path / "rows.parquet", whole, 8192).run()
    assert stopped_at_every_batch(lambda: encode_job(experiments[0], tmp_path / "rows.parquet", codes)) >= 9
    assert read(codes) == read(whole)
    assert decode_job(experiments[0], codes, whole, 8192).run()
    back = tmp_path / f"back{suffix}"
    assert stopped_at_every_batch(lambda: decode_job(experiments[0], codes, back)) >= 9
    assert read(back) == read(whole)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_killed_at_any_instant_the_same_command_ends_with_the_same_bytes(call, experiments, builtin, tmp_path):
    np.save(tmp_path / "rows.npy", np.tile(builtin, (5, 1)))
    whole, codes = tmp_path / "whole.npy", tmp_path / "codes.npy"
    assert encode_job(experiments[0], tmp_path / "rows.npy", whole, 8192).run()
    program = "import encode, sys; from dploss.encoding import resumable; resumable.FLUSH_BYTES = 0; encode.main()"
    command = [sys.executable, "-c", program, str(tmp_path / "rows.npy"), str(codes), "--batch-size", "16", "--quiet"]
    state = tmp_path / ".codes.npy.partial.json"
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        while process.poll() is None and not state.exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert not codes.exists() and 0 < json.loads(state.read_text())["done"] < 3000
    done = call("encode.py", "rows.npy", "codes.npy")
    assert done.returncode == 0 and "rows were encoded by an earlier run" in done.stderr
    assert codes.read_bytes() == whole.read_bytes()


def test_test_py_judges_decoded_codes(call, rows, experiments, encoder, codes):
    assert call("encode.py", "rows.npy", "codes.npy").returncode == 0
    report = call("test.py", "--encoded", "codes.npy", "--k", 5, "--json")
    assert report.returncode == 0, report.stderr
    methods = json.loads(report.stdout)["methods"]
    assert 0.3 < methods["codes.npy (trellis, 8 bytes)"]["recall"]["5"] <= methods["encoder"]["recall"]["5"] + 0.05
    other = call("test.py", "--encoded", "codes.npy", "--experiment_id", experiments[1].name)
    assert other.returncode == 2 and "the checkpoint has another code" in other.stderr
    np.testing.assert_array_equal(
        read_codes(rows.with_name("codes.npy"), np.array([5, 599, 2]), encoder.code)[0],
        encoder.code.decode(codes[[5, 599, 2]]),
    )
    with pytest.raises(InputError, match="600 rows of 8, not the codes of these vectors"):
        read_codes(rows.with_name("codes.npy"), np.array([600]), encoder.code)


def test_a_part_of_ray_holds_the_codes(experiments, table, encoder, codes, tmp_path):
    job = encode_job(experiments[0], tmp_path / "rows.parquet", tmp_path / "codes", folder=True)
    with job.locked() as form:
        job.partial.mkdir()
        for number, (start, stop) in enumerate(((0, 150), (150, 600))):
            part = {"path": str(job.partial / f"{number}.parquet"), "start": start, "stop": stop}
            assert ray_engine._encode_part(job.task, "cpu", 64, form, part)["error"] == ""
        job.finish(form, lambda output: job.partial.rename(output))
    assert pq.read_schema(tmp_path / "codes" / "1.parquet").field("embedding").type == pa.binary(BYTES)
    rows, _ = read_codes(tmp_path / "codes", np.array([599, 0, 150]), encoder.code)
    np.testing.assert_array_equal(rows, encoder.code.decode(codes[[599, 0, 150]]))
    assert decode_job(experiments[0], tmp_path / "codes", tmp_path / "back.parquet").run()
    assert pq.read_table(tmp_path / "back.parquet")["text"].equals(table["text"])


def test_what_cannot_be_done_is_one_line(call, rows, table, experiments, tmp_path):
    for name, dtype in (("codes.npy", None), ("codes.parquet", None), ("float.npy", "float32")):
        assert encode_job(experiments[0], tmp_path / "rows.parquet", tmp_path / name, 600, dtype=dtype).run()
    before = {path.name for path in tmp_path.iterdir()}
    for flags, message in (
        (
            ("rows.npy", "short.fbin"),
            "short.fbin: .fbin holds no codes; .npy and .parquet do, or write latents by",
        ),
        (("rows.npy", "short.fvecs"), "short.fvecs: .fvecs holds no codes"),
        (("rows.npy", "short.npy", "--dim", 8), "--dim cuts latents, but codes are of all dimensions"),
        (("--decode", "gone.npy", "back.npy"), "gone.npy.json: no such file"),
        (("--decode", "rows.npy", "back.npy"), "rows.npy.json: no such file"),
        (("--decode", "codes.npy", "back.txt"), "back.txt: the output must be one of .npy"),
        (("--decode", "codes.npy", "no/back.npy"), "no/back.npy: its folder does not exist"),
        (("--decode", "codes.npy", "codes.npy"), "codes.npy: that is the input"),
        (("--decode", "codes.npy", "back.npy", "--dtype", "int8"), "--dtype does not go with --decode"),
        (("--decode", "codes.npy", "back.npy", "--dim", 0), "--dim does not go with --decode"),
        (("--decode", "codes.npy", "back", "--engine", "ray"), "--engine ray does not go with --decode"),
        (("--decode", "codes.npy", "back.npy", "--column", "a"), "codes.npy: a .npy file has no columns"),
        (("--decode", "codes.parquet", "back.npy", "--column", "a"), "codes.parquet: no column 'a'"),
        (("--decode", "codes.parquet", "back.npy", "--column", "text"), "codes.parquet: it holds string"),
        (("--decode", "float.npy", "back.npy"), "float.npy: it holds float32 latents, not codes"),
    ):
        done = call("encode.py", *flags)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, (flags, done.stderr)
        assert {path.name for path in tmp_path.iterdir()} == before


def test_codes_are_not_decoded_by_another_code(call, rows, experiments, builtin, tmp_path):
    assert call("encode.py", "rows.npy", "codes.npy").returncode == 0

    def refused(message, *flags):
        done = call("encode.py", "--decode", "codes.npy", "back.npy", *flags)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not (tmp_path / "back.npy").exists()

    other = f"codes.npy: codes of experiment {experiments[0].name}, and the checkpoint has another code, or none"
    refused(other, "--experiment_id", experiments[1].name)
    refused(other, "--checkpoint", experiments[2] / "best.pt")
    whole = (tmp_path / "codes.npy").read_bytes()
    (tmp_path / "codes.npy").write_bytes(whole[:-1])
    refused("codes.npy: not a readable .npy file: it is cut short")
    for array, message in (
        (np.zeros((599, BYTES), np.uint8), "codes.npy: it has 599 rows, codes.npy.json is of 600 rows"),
        (np.zeros((600, 9), np.uint8), "codes.npy: it holds 9 bytes a row, not codes of 8 bytes"),
        (np.zeros((600, BYTES), np.float32), "codes.npy: it holds float32"),
        (np.zeros(600, np.uint8), "codes.npy: it holds uint8 of another shape"),
        (np.zeros((0, BYTES), np.uint8), "codes.npy: there are no rows in it"),
    ):
        np.save(tmp_path / "codes.npy", array)
        refused(message)
    (tmp_path / "codes.npy").write_bytes(whole)
    # Trained on since, its code is another.
    add_code(experiments[0] / "best.pt", builtin[:300])
    refused(other)
    (experiments[0] / "best.pt").unlink()
    refused("no such checkpoint, which made codes.npy; name it by --checkpoint")


def test_a_strange_sidecar_is_one_line(call, rows, experiments):
    """Each of the keys that decoding looks at is missing, or is something else."""
    assert call("encode.py", "rows.npy", "codes.npy").returncode == 0
    path = sidecar(rows.with_name("codes.npy"))
    told = json.loads(path.read_text())
    strange = {
        "code": (None, "none", 1, ["trellis"], {"trellis": 1}),
        "bytes": (None, True, 0, -1, 8.0, "8", 2**70, [8]),
        "dim": (None, 15, "16"),
        "dtype": (None, "float32"),
        "code_sha256": (None, 64 * "0"),
        "checkpoint": (None, "\0", 9000 * "a", "gone.pth", "rows.npy", ".", {}),
        "data": (None, 1),
        "column": (1,),
        "rows": (None, 601, "600", -600, []),
    }
    for key, value in ((key, value) for key, values in strange.items() for value in values):
        path.write_text(json.dumps({**told, key: value}))
        done = call("encode.py", "--decode", "codes.npy", "back.npy")
        assert done.returncode == 2 and done.stderr.count("\n") == 1, (key, value, done.stderr)
    for text in ("", "[]", "{}", "null", 10_000 * "[", json.dumps(told)[:-1]):
        path.write_text(text)
        done = call("encode.py", "--decode", "codes.npy", "back.npy")
        assert done.returncode == 2 and "codes.npy.json: not a sidecar that encode.py wrote" in done.stderr


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.binary(), b"1" * BYTES),
        (pa.list_(pa.uint8(), BYTES), [1] * BYTES),
        (pa.binary(BYTES + 1), b"1" * (BYTES + 1)),
    ],
)
def test_parquet_that_holds_no_codes_is_named(kind, value, tmp_path):
    pq.write_table(pa.table({"codes": pa.array([value], kind)}), tmp_path / "codes.parquet")
    with pytest.raises(InputError, match=r"codes.parquet: it holds .*not codes of 8 bytes"):
        CodeStream(tmp_path / "codes.parquet", BYTES)


def test_a_code_that_is_null_is_named_only_where_it_is_asked_for(tmp_path):
    values = [b"1" * BYTES, None, b"2" * BYTES]
    pq.write_table(pa.table({"codes": pa.array(values, pa.binary(BYTES))}), tmp_path / "codes.parquet")
    stream = CodeStream(tmp_path / "codes.parquet", BYTES)
    ((codes, present, _),) = stream.batches()
    assert present.tolist() == [True, False, True] and codes[present].tobytes() == b"1" * BYTES + b"2" * BYTES
    assert stream.pick(np.array([2, 0])).tobytes() == b"2" * BYTES + b"1" * BYTES
    with pytest.raises(InputError, match=r"codes.parquet: row 1 has no code"):
        stream.pick(np.array([0, 1]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), suffix=st.sampled_from([".npy", ".parquet"]), beside=st.booleans())
def test_a_damaged_file_is_decoded_or_named(seed, suffix, beside, prepared, tmp_path_factory, monkeypatch):
    """Decoding never ends in anything but latents or an InputError."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    experiment = list_experiments(prepared)[0][0].folder
    whole = folder / f"whole{suffix}"
    if not whole.exists():
        folder.mkdir(exist_ok=True)
        assert encode_job(experiment, "builtin", whole, 8192).run()
    damaged = folder / f"damaged{suffix}"
    for path, copy in ((whole, damaged), (sidecar(whole), sidecar(damaged))):
        sample = path.read_bytes()
        is_damaged = (copy == sidecar(damaged)) == beside
        copy.write_bytes(mutated(sample, [sample], seed) if is_damaged else sample)
    try:
        decode_job(experiment, damaged, folder / "back.parquet", 8192).run()
        read_codes(damaged, np.arange(5), load_encoder(experiment / "best.pt").code)
    except InputError as error:
        assert "\n" not in str(error)

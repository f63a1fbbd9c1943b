"""Files with rows that cannot be used, in every format, and each script that reads them."""

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from dploss.codes.build import fit_code
from dploss.codes.encoded_file import read_codes, sidecar
from dploss.config import TrainConfig
from dploss.data import open_vectors, read_texts, split_rows
from dploss.encoding import ray_engine
from dploss.encoding.decode import DecodeJob
from dploss.encoding.job import EncodeJob
from dploss.evaluation.eval_rows import own_rows
from dploss.experiments.record import ExperimentRecord
from dploss.models.build import load_encoder
from dploss.training.launch import new_experiment

N, DIM = 80, 6
CLEAN = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
# What a matrix can hold, and what lists can hold beside it.
VALUES = {20: np.nan, 25: np.inf, 30: 1e20, 40: 0.0}
LISTS = {5: None, 9: [], 12: [1.0, 2.0, 3.0], 15: [1.0, None, 1.0, 1.0, 1.0, 1.0]}
MATRIX_LINE = (
    "4 of 80 rows cannot be used (2 not finite, 1 beyond 1e+15, 1 all zeros); the first, row 20{place}, has nan in "
    "dimension 2 as float32"
)
LISTS_LINE = (
    "8 of 80 rows cannot be used (1 null, 1 with a null inside, 1 empty, 1 of other dimensions, 2 not finite, 1 beyond "
    "1e+15, 1 all zeros); the first, row 5{place}, is null"
)
ADVICE = "--skip-bad-rows leaves them out"
COSINE = ("--metric", "cosine", "--latent-dim", 3, "--hidden-dims", "--epochs", 0, "--k", 2, "--quiet")


def matrix() -> np.ndarray:
    rows = CLEAN.copy()
    for row, value in VALUES.items():
        rows[row, slice(None) if value == 0 else 2] = value
    return rows


def lists() -> list:
    return [LISTS.get(index, row) for index, row in enumerate(matrix().tolist())]


def texts() -> list[str]:
    return [f"text {row}" for row in range(N)]


def write_parquet(path: Path, kind: pa.DataType | None = None, values: list | None = None) -> None:
    values = lists() if values is None else values
    column = pa.array(values, kind or pa.list_(pa.float32()))
    pq.write_table(pa.table({"text": texts()[: len(values)], "emb": column}), path, row_group_size=16)


def write_fixed(path: Path) -> None:
    write_parquet(path, pa.list_(pa.float32(), DIM), [None if row == 5 else one for row, one in enumerate(matrix())])


def write_json_text(path: Path) -> None:
    values = [json.dumps(one) for one in lists()]
    values[5], values[9] = None, ""
    pq.write_table(pa.table({"text": texts(), "embedding_json": values}), path)


def write_shards(path: Path) -> None:
    path.mkdir()
    for shard, start in enumerate(range(0, N, 4)):
        values = lists()[start : start + 4]
        column = pa.array(values, pa.null() if values == [None] * 4 else pa.list_(pa.float64()))
        pq.write_table(pa.table({"text": texts()[start : start + 4], "emb": column}), path / f"{shard:02d}.parquet")


def write_jsonl(path: Path) -> None:
    rows = [{"text": text, "emb": one} for text, one in zip(texts(), lists(), strict=True)]
    # A row without the field is null, too.
    del rows[5]["emb"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train"] = matrix()


def write_vecs(path: Path) -> None:
    dims = np.full((N, 1), DIM, "<i4").view(np.float32)
    path.write_bytes(np.hstack([dims, matrix()]).tobytes())


def write_bin(path: Path) -> None:
    path.write_bytes(np.array([N, DIM], "<u4").tobytes() + matrix().tobytes())


def write_arrow(path: Path) -> None:
    table = pa.table({"text": texts(), "emb": pa.array(lists(), pa.list_(pa.float32()))})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)


def write_numbers(path: Path) -> None:
    rows = [list(map(str, row)) for row in matrix()]
    rows[5], rows[15][2] = [""] * DIM, ""
    head = ",".join(f"d{dim}" for dim in range(DIM))
    path.write_text("".join(f"{line}\n" for line in [head, *map(",".join, rows)]))


def write_cells(path: Path) -> None:
    values = {**dict(enumerate(lists())), 5: "", 15: [1.0, "nan", 1.0, 1.0, 1.0, 1.0]}
    lines = [f'text {row},"{value}"\n' for row, value in sorted(values.items())]
    path.write_text("text,emb\n" + "".join(lines).replace("'", ""))


NUMBERS_LINE = LISTS_LINE.replace("8 of", "6 of").replace(" 1 empty, 1 of other dimensions,", "")
CELLS_LINE = LISTS_LINE.replace("1 null, 1 with a null inside, 1 empty", "2 null").replace("2 not", "3 not")
FIXED_LINE = MATRIX_LINE.replace("4 of", "5 of").replace("(2", "(1 null, 2").replace("row 20", "row 5")
FIXED_LINE = FIXED_LINE.replace("has nan in dimension 2 as float32", "is null")
# name: writer, what is said of it, rows that cannot be used
FILES = {
    "lists.parquet": (write_parquet, LISTS_LINE, {*LISTS, *VALUES}),
    "fixed.parquet": (write_fixed, FIXED_LINE, {5, *VALUES}),
    "text.parquet": (write_json_text, LISTS_LINE, {*LISTS, *VALUES}),
    "shards": (write_shards, LISTS_LINE.format(place=" (row 1 of shards/01.parquet)"), {*LISTS, *VALUES}),
    "rows.jsonl": (write_jsonl, LISTS_LINE, {*LISTS, *VALUES}),
    "rows.arrow": (write_arrow, LISTS_LINE, {*LISTS, *VALUES}),
    "numbers.csv": (write_numbers, NUMBERS_LINE, {5, 15, *VALUES}),
    "cells.csv": (write_cells, CELLS_LINE, {*LISTS, *VALUES}),
    "rows.pt": (lambda path: torch.save(torch.from_numpy(matrix()), path), MATRIX_LINE, {*VALUES}),
    "rows.npy": (lambda path: np.save(path, matrix()), MATRIX_LINE, {*VALUES}),
    "rows.npz": (lambda path: np.savez(path, rows=matrix()), MATRIX_LINE, {*VALUES}),
    "rows.hdf5": (write_hdf5, MATRIX_LINE, {*VALUES}),
    "rows.safetensors": (lambda path: save_file({"rows": matrix()}, path), MATRIX_LINE, {*VALUES}),
    "rows.fvecs": (write_vecs, MATRIX_LINE, {*VALUES}),
    "rows.fbin": (write_bin, MATRIX_LINE, {*VALUES}),
}
WITH_TEXTS = ("lists.parquet", "shards", "rows.jsonl", "rows.arrow")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """An experiment of clean rows, under cosine."""
    folder = tmp_path_factory.mktemp("prepared")
    np.save(folder / "clean.npy", CLEAN)
    config = TrainConfig(
        data=str(folder / "clean.npy"), metric="cosine", latent_dim=3, hidden_dims=(), epochs=0, k=2, quiet=True
    )
    run = new_experiment(TrainConfig(**config.as_dict() | {"checkpoints_dir": str(folder / "checkpoints")}))
    run.run()
    return run.folder / "best.pt"


@pytest.fixture(params=FILES)
def dirty(request, tmp_path):
    """A dirty file: its name, what is said of it, and the rows of it that can be used."""
    write, line, bad = FILES[request.param]
    write(tmp_path / request.param)
    return request.param, line.format(place=""), np.array(sorted({*range(N)} - bad))


def test_train_refuses_the_rows_or_leaves_them_out(dirty, call, tmp_path):
    name, line, kept = dirty
    done = call("train.py", "--data", name, *COSINE)
    assert (done.returncode, done.stderr) == (2, f"train.py: {name}: {line}: {ADVICE}\n")
    assert not (tmp_path / "checkpoints").exists()
    done = call("train.py", "--data", name, *COSINE, "--skip-bad-rows")
    said = done.stderr.splitlines()
    assert done.returncode == 0 and said[0] == f"warning: {name}: {line}; they are left out", said
    (folder,) = (tmp_path / "checkpoints").iterdir()
    record = ExperimentRecord.load(folder)
    np.save(tmp_path / "kept.npy", CLEAN[kept])
    assert (record.data.rows, record.data.rows_left_out) == (len(kept), N - len(kept))
    assert record.config.skip_bad_rows and record.data.fingerprint == open_vectors(tmp_path / "kept.npy").fingerprint
    # The held-out rows, by their indices in the file.
    own = own_rows(record, 3000)
    _, held_out = split_rows(len(kept), 0.1, 0)
    np.testing.assert_array_equal(own.index, kept[held_out])
    units = CLEAN[own.index] / np.linalg.norm(CLEAN[own.index], axis=1, keepdims=True)
    np.testing.assert_allclose(own.rows, units, rtol=1e-6)
    if name in WITH_TEXTS:
        assert read_texts(name, own.index) == [f"text {row}" for row in own.index]
    resumed = call("train.py", "--resume", folder.name, "--epochs", 1, "--quiet")
    assert resumed.returncode == 0 and "they are left out" in resumed.stderr, resumed.stderr
    assert ExperimentRecord.load(folder).data == record.data


def test_test_refuses_the_rows_or_leaves_them_out(dirty, prepared, call):
    name, line, kept = dirty
    flags = ("--checkpoint", prepared, "--data", name, "--k", 2)
    done = call("test.py", *flags)
    assert (done.returncode, done.stderr) == (2, f"test.py: {name}: {line}: {ADVICE}\n")
    done = call("test.py", *flags, "--skip-bad-rows", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    # The clean rows were trained on, but for the eight that were held out.
    _, held_out = split_rows(N, 0.1, 0)
    assert report["bad_rows_left_out"] == N - len(kept)
    assert report["rows"] == len({*held_out.tolist()} & {*kept.tolist()})


def test_encode_writes_null_for_them(dirty, prepared, call, tmp_path):
    name, line, kept = dirty
    checkpoint = ("--checkpoint", prepared)
    encoder = load_encoder(prepared)
    bad = np.setdiff1d(np.arange(N), kept)
    latents = encoder.encode(CLEAN[kept])
    for output, word in (("short.parquet", "null"), ("short.npy", "NaN"), ("short.fvecs", "NaN")):
        done = call("encode.py", name, output, *checkpoint, "--quiet")
        warning = f"warning: {name}: {line}; they are {word} in {output}\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{output}\n", warning)
        told = json.loads(sidecar(tmp_path / output).read_text())
        assert told["rows"] == N and sum(told["bad_rows"]["kinds"].values()) == len(bad)
        assert told["bad_rows"]["first_row"] == bad[0]
        if word == "null":
            table = pq.read_table(tmp_path / output)
            column = table.column_names[-1]
            assert np.flatnonzero(table[column].is_null()).tolist() == bad.tolist()
            stored = np.stack(table[column].take(kept).to_numpy())
            assert "text" not in table.column_names or table["text"].to_pylist() == texts()
        else:
            rows = open_vectors(tmp_path / output, skip_bad_rows=True)
            assert rows.kept.tolist() == kept.tolist()
            stored = rows.rows[:]
        np.testing.assert_allclose(stored, latents, rtol=1e-5, atol=1e-6)
        if output == "short.fvecs":
            continue
        done = call("test.py", "--encoded", output, "--k", 2, "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["bad_rows_left_out"] == len(bad)
        (own,) = (scores for method, scores in report["methods"].items() if method.startswith("short"))
        assert own["recall"] == report["methods"]["encoder"]["recall"]
    done = call("encode.py", name, "short8.npy", *checkpoint, "--dtype", "int8", "--quiet")
    first = f"row {bad[0]} {'is null' if bad[0] == 5 else 'has nan in dimension 2 as float32'}"
    assert (
        done.stderr
        == f"encode.py: {name}: {first}, for which .npy has no int8 values; write .parquet, which has null\n"
    )
    assert done.returncode == 2 and not (tmp_path / "short8.npy").exists()


@pytest.mark.parametrize("name", ["lists.parquet", "shards"])
@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_a_stopped_encoding_counts_all_of_them(name, dtype, prepared, tmp_path):
    FILES[name][0](tmp_path / name)
    output = tmp_path / "short.parquet"

    def job(output, batch_size=11):
        source = str(tmp_path / name)
        return EncodeJob(
            load_encoder(prepared),
            source,
            output,
            checkpoint=prepared,
            experiment_id=None,
            dtype=dtype,
            batch_size=batch_size,
        )

    assert job(tmp_path / "whole.parquet").run()
    runs = 0
    while not job(output).run(stop=lambda: True):
        runs += 1
        state = output.with_name(".short.parquet.partial.json")
        if runs == 3:
            # A damaged state costs a new start.
            state.write_text(state.read_text().replace('"first_row": 5', '"first_row": Infinity'))
            assert job(output).done == 0
            runs = 4
    assert runs > 5 and pq.read_table(output).equals(pq.read_table(tmp_path / "whole.parquet"))
    told = [json.loads(sidecar(path).read_text())["bad_rows"] for path in (output, tmp_path / "whole.parquet")]
    assert told[0] == told[1] and sum(told[0]["kinds"].values()) == 8 and told[0]["first_row"] == 5
    rows, _ = read_codes(output, np.array([0, 79]))
    assert np.isfinite(rows).all()
    with pytest.raises(ValueError, match=r"short\.parquet: row 12 has no latent"):
        read_codes(output, np.array([0, 12]))


def test_parts_of_ray_carry_their_counts(prepared, tmp_path):
    write_shards(tmp_path / "shards")
    flags = {"checkpoint": prepared, "experiment_id": None}
    job = EncodeJob(load_encoder(prepared), str(tmp_path / "shards"), tmp_path / "short", folder=True, **flags)
    local = EncodeJob(load_encoder(prepared), str(tmp_path / "shards"), tmp_path / "local.parquet", **flags)
    with local.locked() as form:
        pass
    assert local.run()
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for path, start, stop in zip(paths, (0, 8, 60), (8, 60, 80), strict=True):
        part = {"path": str(path), "start": start, "stop": stop}
        assert ray_engine._encode_part(job.task, "cpu", 10, form, part) == {"rows": stop - start, "error": ""}
        job.bad.add(ray_engine._bad_rows_of(path))
    assert job.bad.as_dict() == local.bad.as_dict() and job.bad.n_rows == 80
    parts = pa.concat_tables([pq.read_table(path).replace_schema_metadata(None) for path in paths])
    assert parts["emb"].null_count == 8 and parts["text"].to_pylist() == texts()
    rows, _ = read_codes(tmp_path / "local.parquet", np.array([0, 70]))
    np.testing.assert_allclose(np.stack(parts["emb"].take([0, 70]).to_numpy()), rows, rtol=1e-5)


def test_codes_that_are_null_become_latents_that_are_null(prepared, call, tmp_path):
    write_parquet(tmp_path / "rows.parquet")
    encoder = load_encoder(prepared)
    encoder.code = fit_code("trellis", np.tile(encoder.encode(CLEAN), (4, 1)), 2)
    flags = {"checkpoint": prepared, "experiment_id": None}
    codes = EncodeJob(encoder, str(tmp_path / "rows.parquet"), tmp_path / "codes.parquet", **flags)
    assert codes.run()
    column = pq.read_table(tmp_path / "codes.parquet")["emb"]
    bad = sorted({*LISTS, *VALUES})
    assert column.type == pa.binary(2) and np.flatnonzero(column.is_null()).tolist() == bad
    kept = np.setdiff1d(np.arange(N), bad)
    for name in ("back.parquet", "back.npy"):
        job = DecodeJob(tmp_path / "codes.parquet", tmp_path / name, encoder.code, batch_size=9, **flags)
        assert job.run()
        told = json.loads(sidecar(tmp_path / name).read_text())["bad_rows"]
        assert told == {"kinds": {"null": 8}, "first_row": 5}
        back = open_vectors(tmp_path / name, skip_bad_rows=True)
        assert back.kept.tolist() == kept.tolist()
        np.testing.assert_allclose(back.rows[:], encoder.code.decode(encoder.encode_to_codes(CLEAN[kept])), rtol=1e-5)
    rows, _ = read_codes(tmp_path / "codes.parquet", np.array([79, 0]), encoder.code)
    np.testing.assert_allclose(rows, back.rows[np.array([len(kept) - 1, 0])], rtol=1e-5)
    with pytest.raises(ValueError, match=r"codes\.parquet: row 40 has no code"):
        read_codes(tmp_path / "codes.parquet", np.array([40]), encoder.code)


def test_neighbours_are_shown_by_the_texts_of_their_rows(call, tmp_path):
    values = [None if row % 3 == 0 else [float(row), 0.0] for row in range(N)]
    write_parquet(tmp_path / "line.parquet", values=values)
    flags = ("--latent-dim", 1, "--hidden-dims", "--epochs", 0, "--val-fraction", 0.5, "--k", 1, "--quiet")
    assert call("train.py", "--data", "line.parquet", "--skip-bad-rows", *flags).returncode == 0
    shown = call("test.py", "--neighbours", 1, "--k", 1).stdout.split("\n\n")
    kept = np.array([row for row in range(N) if row % 3])
    held_out = kept[split_rows(len(kept), 0.5, 0)[1]]
    queries = 0
    for block in shown:
        lines = [line.strip() for line in block.splitlines()]
        if lines and lines[0].startswith("text "):
            query, nearest = int(lines[0].split()[1]), int(lines[2].split()[-1])
            others = held_out[held_out != query]
            assert query in held_out and abs(nearest - query) == np.abs(others - query).min()
            queries += 1
    assert queries == 5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("train.py", "--images", "x", "--skip-bad-rows"),
            "--skip-bad-rows is for vectors: leave it out with --images",
        ),
        (("test.py", "--skip-bad-rows"), "--skip-bad-rows needs --data"),
        (
            ("train.py", "--data", "null.parquet"),
            "(80, 0), not a matrix (rows, dimensions): all of its rows are null or empty",
        ),
        (("encode.py", "null.parquet", "a.npy"), "null.parquet: all of its 80 rows are null or empty"),
        (
            ("train.py", "--data", "few.parquet", "--skip-bad-rows"),
            "few.parquet: 78 of 80 rows cannot be used (78 null); the first, row 2, is null; 2 are left, training",
        ),
        (("train.py", "--data", "few.parquet"), "(78 null); the first, row 2, is null\n"),
        (
            ("train.py", "--data", "large.npy"),
            "(80 beyond 1e+15); the first, row 0, has 1e+20 in dimension 0 as float32: divide all rows by a number\n",
        ),
        (
            ("train.py", "--data", "zeros.npy", "--metric", "cosine"),
            "is all zeros, which has no direction: use --metric euclidean, or --skip-bad-rows leaves them out\n",
        ),
        (
            ("encode.py", "nan.npy", "a.npy", "--dtype", "int8"),
            "none of the rows from which int8 is fitted can be used",
        ),
    ],
)
def test_what_is_left_cannot_be_used(flags, message, prepared, call, tmp_path):
    write_parquet(tmp_path / "null.parquet", values=[None, []] * 40)
    write_parquet(tmp_path / "few.parquet", values=[*CLEAN[:2].tolist(), *[None] * 78])
    np.save(tmp_path / "large.npy", np.full((80, 6), 1e20))
    np.save(tmp_path / "nan.npy", np.full((80, 6), np.nan))
    zeros = CLEAN.copy()
    zeros[7] = 0
    np.save(tmp_path / "zeros.npy", zeros)
    script, *others = flags
    extra = ("--checkpoint", prepared, "--quiet") if script == "encode.py" else ()
    done = call(script, *others, *extra, *(["--quiet"] if script == "train.py" else []))
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr

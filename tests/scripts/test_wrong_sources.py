"""Files that are nearly right, and names of what is no file here: one line that says what to do, and exit code 2."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import torch
from file_kinds import (
    IDS,
    KINDS,
    LISTS,
    ROWS,
    SMALL,
    dataset,
    dataset_of_splits,
    lists,
    small_checkpoint,
    table,
    tensor,
)

from dploss.data import memmap as mapped_module
from dploss.data import open_vectors
from dploss.data.images import open_images
from dploss.data.stream import VectorStream
from dploss.errors import InputError
from dploss.models.encoder import DPEncoder

HEADER = "text," + ",".join(f"d{index}" for index in range(8)) + "\n"
LINES = [f"{text}," + ",".join(map(str, row)) + "\n" for text, row in zip(IDS, LISTS, strict=True)]


def changed(row: int, line: str) -> str:
    return "".join([HEADER, *LINES[:row], line, *LINES[row + 1 :]])


def write(path: Path, content: object) -> None:
    """A file of text, of bytes, of a table or, by torch, of something else."""
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, pa.Table) and path.suffix == ".arrow":
        with pa.ipc.new_file(path, content.schema) as writer:
            writer.write_table(content)
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        torch.save(content, path)


ARROW_LISTS = pa.array([[row, row] for row in LISTS], pa.list_(pa.list_(pa.float32())))
WRONG_FILES: dict[str, tuple[str, object, tuple[str, ...], str]] = {
    "ragged csv": (
        "rows.csv",
        changed(17, "id 17,1,2\n"),
        (),
        "rows.csv: row 17 (line 19) has 3 cells, not 9 as the first line",
    ),
    "text in csv": (
        "rows.csv",
        changed(17, "id 17,1,2,3,4,abc,6,7,8\n"),
        (),
        "rows.csv: row 17 (line 19) has 'abc' in column d4, not a number",
    ),
    "a list that was shortened": (
        "rows.csv",
        'id,v\n0,"[1. 2. 3.]"\n1,"[1. ... 3.]"\n2,"[4. 5. 6.]"\n',
        (),
        "rows.csv: row 1 (line 3) has '...' in column v, not a number",
    ),
    "two groups": (
        "rows.csv",
        "a_0,a_1,b_0,b_1\n1,2,3,4\n5,6,7,8\n",
        (),
        "rows.csv: several groups of columns could be the vectors: a_*, b_*; choose with --column",
    ),
    "a column of one number": (
        "rows.csv",
        "id,x,y\n1,2,3\n5,6,7\n",
        ("--column", "x"),
        "rows.csv: column x holds no lists of numbers; choose with --column, several as 'dim_*'",
    ),
    "csv of text": ("rows.csv", "a,b\nx,y\nz,w\n", (), "rows.csv: no column of vectors among a, b"),
    "cut gzip": (
        "rows.jsonl.gz",
        b"\x1f\x8b\x08\x00",
        (),
        "rows.jsonl.gz: not a readable .jsonl file: Truncated compressed stream",
    ),
    "gzip of another kind": (
        "rows.npy.gz",
        b"\x1f\x8b\x08\x00",
        (),
        "rows.npy.gz: .npy is not read compressed; unpack it first: gunzip rows.npy.gz",
    ),
    "gzip of who knows what": (
        "rows.gz",
        b"\x1f\x8b\x08\x00",
        (),
        "rows.gz: what is in it is not known; its name must say so, as rows.jsonl.gz does",
    ),
    "tar": ("rows.tar.gz", b"\x1f\x8b", (), "rows.tar.gz: archives are not read; unpack it first"),
    "zip": ("rows.zip", b"PK", (), "rows.zip: archives are not read; unpack it first"),
    "objects in pt": (
        "rows.pt",
        Path("/"),
        (),
        "rows.pt: no tensor can be read (save one as torch.save(rows, path)): "
        "corrupt, or holding more than plain values",
    ),
    "a list in pt": (
        "rows.pt",
        [1, 2, 3],
        (),
        "rows.pt is a list, not a tensor; torch.save a tensor (rows, dimensions)",
    ),
    "no matrix in pt": (
        "rows.pt",
        {"epoch": 1, "bias": torch.zeros(3)},
        (),
        "rows.pt: no column of vectors among epoch, bias",
    ),
    "a column of one tensor": (
        "rows.pt",
        tensor(),
        ("--column", "emb"),
        "rows.pt: it holds no dict to choose from; leave out --column",
    ),
    "complex pt": ("rows.pt", torch.zeros(4, 2, dtype=torch.cfloat), (), "rows.pt holds complex64 values, not numbers"),
    "pickle": (
        "rows.pkl",
        pickle.dumps(LISTS),
        (),
        "rows.pkl: pickles can run code and are not read; save the matrix by numpy.save as .npy",
    ),
    "json": (
        "rows.json",
        json.dumps(LISTS),
        (),
        "rows.json: JSON is read a row on every line; write it so: jq -c '.[]' rows.json > rows.jsonl",
    ),
    "lines called json": (
        "rows.json",
        '{"v": [1, 2]}\n' * 4,
        (),
        "rows.json: unknown format .json, but it looks like .jsonl: rename it so",
    ),
    "parquet by another name": (
        "rows.dat",
        b"PAR1 and so on",
        (),
        "rows.dat: unknown format .dat, but it looks like .parquet: rename it so",
    ),
    "numpy without a suffix": (
        "rows",
        b"\x93NUMPY and so on",
        (),
        "rows: unknown format without a suffix, but it looks like .npy: rename it so",
    ),
    "old feather": (
        "rows.feather",
        b"FEA1 and so on",
        (),
        "rows.feather: version 1 of Feather is not read; write it with pyarrow.feather anew",
    ),
    "several vectors a row": ("rows.arrow", table(ARROW_LISTS), (), "rows.arrow: row 0 holds 2 lists, not one vector"),
    "matrices": (
        "rows.parquet",
        table(pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS.reshape(60, 2, 4))),
        (),
        "rows.parquet: the column holds tensors of shape (2, 4), not vectors",
    ),
    "bytes": (
        "rows.arrow",
        table(pa.array([b"\xff\xfe"] * 60)),
        (),
        "rows.arrow: the column holds bytes, not JSON text or lists of numbers",
    ),
    "two structs' fields": (
        "rows.arrow",
        table(pa.array([{"a": row, "b": row} for row in LISTS]), "m"),
        (),
        "rows.arrow: several columns could be the vectors: m.a, m.b; choose with --column",
    ),
}
REMOTE = {
    "https://host/a/rows.parquet": "a URL is not read; download it first: curl -LO https://host/a/rows.parquet",
    "https://huggingface.co/datasets/o/n/blob/main/a.parquet": "a URL is not read; download it first: "
    "curl -LO https://huggingface.co/datasets/o/n/resolve/main/a.parquet",
    "https://huggingface.co/datasets/o/n": "a URL is not read; download it first: "
    "huggingface-cli download o/n --repo-type dataset --local-dir n",
    "s3://bucket/a.npy": "a URL is not read; download it first: aws s3 cp s3://bucket/a.npy .",
    "gs://bucket/a.npy": "a URL is not read; download it first: gcloud storage cp gs://bucket/a.npy .",
    "hf://datasets/o/n/data/a.parquet": "a URL is not read; download it first: "
    "huggingface-cli download o/n data/a.parquet --repo-type dataset --local-dir n",
    "https://host/a b.npy?x=1": "a URL is not read; download it first: curl -LO 'https://host/a b.npy?x=1'",
    "hf://o/n/vectors.npy": "a URL is not read; download it first: "
    "huggingface-cli download o/n vectors.npy --local-dir n",
    "ftp://host/a.npy": "a URL is not read; download it first and give the path",
    "file:///data/a.npy": "a URL is not read; give the path: /data/a.npy",
    "sentence-transformers/foo": "no such file or folder; if it is a dataset of the Hugging Face Hub, download it "
    "first: huggingface-cli download sentence-transformers/foo --repo-type dataset --local-dir foo",
}


def refused(call, checkpoint, source, flags=()) -> set[str]:
    """The lines of the scripts that read vectors, without their names; each must be the only one, with exit code 2."""
    lines = set()
    for script, arguments in (
        ("train.py", ("--data", source, *SMALL)),
        ("test.py", ("--data", source, "--checkpoint", checkpoint)),
        ("encode.py", (source, "short.npy", "--checkpoint", checkpoint, "--quiet")),
    ):
        done = call(script, *arguments, *flags)
        assert done.returncode == 2, (script, done.stderr)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{script}: ")
        lines.add(line.removeprefix(f"{script}: "))
    return lines


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("experiment"))


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_file_that_is_nearly_right_is_one_line_in_every_script(case, checkpoint, call, tmp_path):
    name, content, flags, line = WRONG_FILES[case]
    write(tmp_path / name, content)
    assert refused(call, checkpoint, name, flags) == {line}


@pytest.mark.parametrize("name", REMOTE)
def test_what_is_elsewhere_is_to_be_downloaded(name, checkpoint, call):
    assert refused(call, checkpoint, name) == {f"{name}: {REMOTE[name]}"}
    images = call("train.py", "--images", name, "--quiet")
    assert (images.returncode, images.stderr) == (2, f"train.py: {name}: {REMOTE[name]}\n")
    for read in (open_vectors, open_images, VectorStream):
        with pytest.raises(InputError):
            read(name)


def test_a_name_that_could_be_of_the_hub_is_a_file_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentence-transformers").mkdir()
    with pytest.raises(InputError, match=r"^sentence-transformers/foo: no such file$"):
        open_vectors("sentence-transformers/foo")
    with pytest.raises(InputError, match=r"^data/rows\.npy: no such file$"):
        open_vectors("data/rows.npy")
    assert len(open_vectors(dataset(tmp_path / "sentence-transformers" / "foo")).rows) == 60


@pytest.mark.parametrize(
    ("script", "flags", "name"),
    [
        ("train.py", ("--data",), "--data"),
        ("train.py", ("--images",), "--images"),
        ("train.py", ("--epochs", 0, "--checkpoints-dir"), "--checkpoints-dir"),
        ("test.py", ("--data",), "--data"),
        ("test.py", ("--encoded",), "--encoded"),
        ("test.py", ("--checkpoint",), "--checkpoint"),
        ("encode.py", ("short.npy", "--checkpoint"), "--checkpoint"),
        ("encode.py", ("short.npy",), "OUTPUT"),
        ("encode.py", (), "INPUT"),
        ("quick_plot.py", ("--save",), "--save"),
        ("visualize_training.py", ("--checkpoints-dir",), "--checkpoints-dir"),
    ],
)
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_path_is_refused(script, flags, name, empty, call):
    argv = (empty, "short.npy") if name == "INPUT" else (*flags, empty)
    done = call(script, *argv)
    line = f"{script}: {name} must be the path of a file or folder, got {empty!r}\n"
    assert (done.returncode, done.stderr) == (2, line)


def test_an_empty_name_is_refused_by_the_library():
    for read in (open_vectors, open_images, VectorStream):
        with pytest.raises(InputError, match="'' is not the name of a file or folder"):
            read("")


def test_a_home_is_found_everywhere(checkpoint, call, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    np.save(tmp_path / "home" / "rows.npy", ROWS)
    assert open_vectors("~/rows.npy").source == str(tmp_path / "home" / "rows.npy")
    trained = call("train.py", "--data=~/rows.npy", "--checkpoints-dir=~/all", *SMALL, "--epochs", 0)
    assert trained.returncode == 0, trained.stderr
    (folder,) = (tmp_path / "home" / "all").iterdir()
    assert json.loads((folder / "config.json").read_text())["data"]["path"] == str(tmp_path / "home" / "rows.npy")
    encoded = call("encode.py", "~/rows.npy", "~/short.npy", f"--checkpoint=~/all/{folder.name}/latest_model.pth")
    assert encoded.returncode == 0 and (tmp_path / "home" / "short.npy").exists()
    tested = call("test.py", "--encoded=~/short.npy", "--k", 3, "--checkpoints-dir=~/all", "--json")
    assert tested.returncode == 0, tested.stderr
    drawn = call(
        "quick_plot.py", "--checkpoints-dir=~/all", "--save=~/curves.png", f"--experiment_id=~/all/{folder.name}"
    )
    assert drawn.returncode == 0 and (tmp_path / "home" / "curves.png").exists(), drawn.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


@pytest.mark.parametrize("folder", ["data [v1]", "what?", "a*b"])
def test_names_that_look_like_patterns(folder, tmp_path):
    folder = tmp_path / folder
    (folder / "in [2]").mkdir(parents=True)
    for name, part in {"a": slice(0, 30), "b": slice(30, 60)}.items():
        pq.write_table(table(lists())[part], folder / "in [2]" / f"{name}.parquet")
        dataset_file = folder / f"{name}.arrow"
        write(dataset_file, table(lists())[part])
    for source in ("in [2]", "in [2]/*.parquet", "*.arrow", "i*/?.parquet", "**/*.parquet"):
        np.testing.assert_array_equal(open_vectors(folder / source).rows, ROWS)
    (folder / "rows[1].parquet").write_bytes((folder / "in [2]" / "a.parquet").read_bytes())
    assert len(open_vectors(folder / "rows[1].parquet").rows) == 30
    with pytest.raises(InputError, match="a glob must match files of one format alone"):
        open_vectors(f"{folder}/**/[ab].*")
    (folder / "gone[1].parquet").symlink_to("nowhere")
    for source in ("*.npy", "gone[1].parquet"):
        with pytest.raises(InputError, match="no file matches"):
            open_vectors(folder / source)


def test_a_folder_of_splits_names_them(tmp_path):
    folder = dataset_of_splits(tmp_path)
    with pytest.raises(InputError, match=rf"^{folder}: a dataset of train, test; name one of them, as {folder}/train$"):
        open_vectors(folder)
    state = tmp_path / "all" / "train" / "state.json"
    for content, message in [
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "it names no files of this folder"),
        ('{"_data_files": []}', "it names no files of this folder"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', r"gone\.arrow: no such file"),
        ('{"_data_files": [], "_indices_data_files": [1]}', "a dataset with an index; save it anew"),
        ("[]", "not the state of a dataset"),
    ]:
        state.write_text(content)
        with pytest.raises(InputError, match=message):
            open_vectors(state.parent)


@pytest.mark.parametrize("kind", ["arrow file", "csv", "pt"])
def test_large_files_are_decoded_into_a_file_without_a_name(kind, tmp_path, monkeypatch):
    source = KINDS[kind][0](tmp_path)
    monkeypatch.setattr(mapped_module, "total_memory", lambda: 0)
    rows = open_vectors(source).rows
    assert isinstance(rows, mapped_module.MappedRows)
    np.testing.assert_array_equal(rows[:], ROWS)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_integer_rows_are_encoded(dtype):
    encoder = DPEncoder(8, (), 4)
    expected = encoder.encode(ROWS)
    latents = encoder.encode(ROWS.astype(dtype))
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents, expected)
    tensors = encoder.encode(torch.from_numpy(ROWS.astype(dtype)))
    assert tensors.dtype == torch.float32
    np.testing.assert_array_equal(tensors.numpy(), expected)

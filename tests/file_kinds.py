"""The same rows in every kind of file that is read."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from dploss.config import TrainConfig
from dploss.training.launch import new_experiment

# Whole numbers below 2^7, which every dtype has; no two rows are equal.
ROWS = np.random.default_rng(0).integers(0, 100, (60, 8)).astype(np.float32)
LISTS = ROWS.tolist()
IDS = [f"id {row}" for row in range(len(ROWS))]
SMALL = ("--latent-dim", 4, "--val-fraction", 0.3, "--k", 3, "--device", "cpu", "--quiet", "--no-tensorboard")
COMPRESSORS = {".gz": gzip.compress, ".zst": lambda data: pa.Codec("zstd").compress(data).to_pybytes()}


def table(values: pa.Array, name: str = "embedding") -> pa.Table:
    return pa.table({"text": IDS, name: values})


def lists(kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(LISTS, kind or pa.list_(pa.float32()))


def json_texts(kind: pa.DataType | None = None) -> pa.Array:
    return pa.array([json.dumps(row) for row in LISTS], kind)


def parquet(values: Callable[[], pa.Array], name: str = "embedding") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pq.write_table(table(values(), name), folder / "rows.parquet", row_group_size=25)
        return folder / "rows.parquet"

    return write


def arrow(
    file_name: str, stream: bool = False, values: Callable[[], pa.Array] = lists, **options: str
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        rows = table(values())
        new = pa.ipc.new_stream if stream else pa.ipc.new_file
        with new(folder / file_name, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(rows, max_chunksize=25)
        return folder / file_name

    return write


def feather(folder: Path) -> Path:
    pyarrow.feather.write_feather(table(lists()), folder / "rows.feather")
    return folder / "rows.feather"


def dataset(folder: Path, first: int = 0, last: int = 60) -> Path:
    """As datasets.Dataset.save_to_disk lays it out; the files' order is that of state.json."""
    rows, names = table(lists())[first:last], ["data-00001-of-00002.arrow", "data-00000-of-00002.arrow"]
    folder.mkdir(exist_ok=True)
    for name, part in zip(names, (rows[:20], rows[20:]), strict=True):
        with pa.ipc.new_stream(folder / name, part.schema) as writer:
            writer.write_table(part, max_chunksize=7)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def text_file(name: str, text: Callable[[], str]) -> Callable[[Path], Path]:
    """A file of text, compressed as its suffix says."""

    def write(folder: Path) -> Path:
        data = text().encode()
        (folder / name).write_bytes(COMPRESSORS.get(Path(name).suffix, bytes)(data))
        return folder / name

    return write


def jsonl(wrap: Callable[[list], object] = lambda row: {"embedding": row}) -> Callable[[], str]:
    return lambda: "\n".join(json.dumps({"text": text, **wrap(row)}) for text, row in zip(IDS, LISTS, strict=True))


def cells(
    header: list[str] | None,
    beside: Callable[[int], list] = lambda row: [],
    vector: Callable[[list], list] = list,
    delimiter: str = ",",
) -> Callable[[], str]:
    def write() -> str:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter)
        if header is not None:
            writer.writerow(header)
        writer.writerows([*beside(row), *vector(values)] for row, values in enumerate(LISTS))
        return text.getvalue()

    return write


DIMS = [f"dim_{index}" for index in range(8)]
WORDS = {"header": ["text", *DIMS], "beside": lambda row: [IDS[row]]}


def bracketed(row: list) -> list:
    return [json.dumps(row)]


def tensors(name: str, content: Callable[[], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(content(), folder / name)
        return folder / name

    return write


def tensor() -> torch.Tensor:
    return torch.from_numpy(ROWS)


def safetensors(folder: Path) -> Path:
    save_file({"model.embeddings": tensor().bfloat16(), "ids": torch.arange(60)}, folder / "rows.safetensors")
    return folder / "rows.safetensors"


def hdf5(folder: Path) -> Path:
    with h5py.File(folder / "rows.hdf5", "w") as file:
        file["g/embeddings"], file["g/others"] = ROWS, ROWS[:, :3]
    return folder / "rows.hdf5"


def arrays(folder: Path) -> Path:
    np.savez(folder / "rows.npz", **{"meta.vectors": ROWS, "other": ROWS[:, :3]})
    return folder / "rows.npz"


def npy(folder: Path) -> Path:
    np.save(folder / "rows.npy", ROWS)
    return folder / "rows.npy"


def binary(name: str, data: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data())
        return folder / name

    return write


def vecs(dtype: str) -> Callable[[], bytes]:
    return lambda: b"".join(np.array([8], "<i4").tobytes() + row.tobytes() for row in ROWS.astype(dtype))


def bins(dtype: str) -> Callable[[], bytes]:
    return lambda: np.array(ROWS.shape, "<u4").tobytes() + ROWS.astype(dtype).tobytes()


def structs() -> pa.Array:
    return pa.array([{"embedding": row, "tokens": [1, 2], "words": 3} for row in LISTS])


def array_2d() -> pa.Array:
    """As Hugging Face's Array2D((1, 8)) is stored; its extension type is unknown without its package."""
    return pa.array([[row] for row in LISTS], pa.list_(pa.list_(pa.float32())))


def tensor_extension(shape: tuple[int, ...]) -> Callable[[], pa.Array]:
    return lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS.reshape(60, *shape))


def json_extension() -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(pa.large_string()), json_texts(pa.large_string()))


def shards(folder: Path) -> Path:
    folder = folder / "data [v1]"
    folder.mkdir()
    for number, start in enumerate((0, 25, 50)):
        pq.write_table(table(lists())[start : start + 25], folder / f"{number}.parquet")
    return folder


def dataset_of_splits(folder: Path) -> Path:
    (folder / "all").mkdir()
    (folder / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    dataset(folder / "all" / "test", 0, 20)
    return dataset(folder / "all" / "train").parent


# How each is written, and the flags that it takes to read it.
KINDS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "npy": (npy, ()),
    "npz, a name with a dot": (arrays, ("--column", "meta.vectors")),
    "fvecs": (binary("rows.fvecs", vecs("<f4")), ()),
    "bvecs": (binary("rows.bvecs", vecs("u1")), ()),
    "fbin": (binary("rows.fbin", bins("<f4")), ()),
    "f16bin": (binary("rows.f16bin", bins("<f2")), ()),
    "u8bin": (binary("rows.u8bin", bins("u1")), ()),
    "i8bin": (binary("rows.i8bin", bins("i1")), ()),
    "safetensors, bfloat16": (safetensors, ("--column", "model.embeddings")),
    "hdf5, in a group": (hdf5, ("--column", "g/embeddings")),
    "parquet": (parquet(lists), ()),
    "parquet, integers": (parquet(lambda: pa.array(ROWS.astype(int).tolist())), ()),
    "parquet, JSON text": (parquet(json_texts), ()),
    "parquet, dictionary": (parquet(lambda: json_texts().dictionary_encode()), ()),
    "parquet, string_view": (parquet(lambda: json_texts(pa.string_view())), ()),
    "parquet, list_view": (parquet(lambda: lists(pa.list_view(pa.float32()))), ()),
    "parquet, JSON extension": (parquet(json_extension), ()),
    "parquet, tensor extension": (parquet(tensor_extension((8,))), ()),
    "parquet, tensors of one row": (parquet(tensor_extension((1, 8))), ()),
    "parquet, Array2D": (parquet(array_2d), ()),
    "parquet, a struct's field": (parquet(structs, "meta"), ("--column", "meta.embedding")),
    "parquet, a name with a dot": (parquet(lists, "meta.embedding"), ()),
    "parquet, a folder": (shards, ()),
    "parquet, a glob": (lambda folder: shards(folder) / "*.parquet", ()),
    "arrow file": (arrow("rows.arrow"), ()),
    "arrow stream": (arrow("rows.arrow", stream=True), ()),
    "ipc, zstd": (arrow("rows.ipc", compression="zstd"), ()),
    "arrow, half floats": (arrow("rows.arrow", values=lambda: lists(pa.list_(pa.float16(), 8))), ()),
    "arrow, list_view": (arrow("rows.arrow", values=lambda: lists(pa.large_list_view(pa.float32()))), ()),
    "arrow, binary_view": (arrow("rows.arrow", True, lambda: json_texts().cast(pa.binary_view())), ()),
    "arrow, dictionary": (arrow("rows.arrow", values=lambda: json_texts().dictionary_encode()), ()),
    "arrow, a struct's field": (arrow("rows.arrow", values=structs), ("--column", "embedding.embedding")),
    "feather": (feather, ()),
    "dataset": (lambda folder: dataset(folder / "saved"), ()),
    "dataset, a split": (lambda folder: dataset_of_splits(folder) / "train", ()),
    "jsonl": (text_file("rows.jsonl", jsonl()), ()),
    "jsonl, integers": (text_file("rows.jsonl", jsonl(lambda row: {"emb": [int(value) for value in row]})), ()),
    "jsonl, a field's field": (text_file("rows.jsonl", jsonl(lambda row: {"a": {"b": row}})), ("--column", "a.b")),
    "jsonl.gz": (text_file("rows.jsonl.gz", jsonl()), ()),
    "ndjson.zst": (text_file("rows.ndjson.zst", jsonl()), ()),
    "csv": (text_file("rows.csv", cells(**WORDS)), ()),
    "csv.gz": (text_file("rows.csv.gz", cells(**WORDS)), ()),
    "csv.zst, semicolons": (text_file("rows.csv.zst", cells(**WORDS, delimiter=";")), ()),
    "csv without a header": (text_file("rows.csv", cells(None)), ()),
    "csv, words without a header": (text_file("rows.csv", cells(None, beside=lambda row: [IDS[row]])), ()),
    "csv of a data frame": (text_file("rows.csv", cells(["", *"01234567"], beside=lambda row: [row])), ()),
    "csv, rows counted": (text_file("rows.csv", cells(["id", *"abcdefgh"], beside=lambda row: [row])), ()),
    "csv, JSON text": (text_file("rows.csv", cells(["text", "v"], lambda row: [IDS[row]], bracketed)), ()),
    "csv, lists as NumPy prints them": (
        text_file("rows.csv", cells(["n", "v"], lambda row: [row], lambda row: [str(np.array(row))])),
        (),
    ),
    "csv, columns by a pattern": (
        text_file("rows.csv", cells(["x0", "x1", *DIMS], lambda row: [row, 1])),
        ("--column", "dim_*"),
    ),
    "tsv": (text_file("rows.tsv", cells(**WORDS, delimiter="\t")), ()),
    "pt": (tensors("rows.pt", tensor), ()),
    "pth, bfloat16 in a dict": (tensors("rows.pth", lambda: {"ids": IDS, "vectors": tensor().bfloat16()}), ()),
    "pt, half": (tensors("rows.pt", lambda: {"a": tensor().half(), "b": tensor()[:3]}), ("--column", "a")),
    "pt, integers": (tensors("rows.pt", lambda: tensor().long().t().contiguous().t()), ()),
}


def small_checkpoint(folder: Path) -> Path:
    """The checkpoint of an encoder of the rows."""
    np.save(folder / "rows.npy", ROWS)
    settings = {"latent_dim": 4, "val_fraction": 0.3, "k": 3, "epochs": 0, "device": "cpu", "quiet": True}
    run = new_experiment(TrainConfig(data=str(folder / "rows.npy"), checkpoints_dir=str(folder / "all"), **settings))
    run.run()
    return run.folder / "latest_model.pth"

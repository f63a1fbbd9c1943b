"""Every reader on damaged files: it reads them or says in one line why not, soon, and without much memory.

Each file is read in a process of its own kind, which may hang or die without taking the tests with it. A failure names
the reader, the sample and the seed: attempt(reader, sample, damaged(reader, sample, seed)) does it again.
"""

import gzip
import json
import multiprocessing
import os
import re
import signal
import struct
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutated
from PIL import Image
from safetensors.numpy import save_file

from dploss.codes.encoded_file import read_codes, read_origins
from dploss.config import TrainConfig
from dploss.data import open_vectors, read_texts
from dploss.data.images import open_images
from dploss.data.stream import VectorStream
from dploss.errors import InputError
from dploss.evaluation.recall_history import measured_recall, recorded_recall
from dploss.experiments.catalog import open_experiment
from dploss.experiments.comparison import compare
from dploss.experiments.history import TrainHistory
from dploss.experiments.layout import load_config
from dploss.experiments.listing import listing, records
from dploss.experiments.record import ExperimentRecord
from dploss.experiments.summary import summary
from dploss.models.build import load_encoder
from dploss.tracking.retention import EveryNSeconds
from dploss.tracking.tracker import BestCheckpointTracker
from metrics.captions import read_captions
from metrics.errors import InputError as MetricsInputError
from metrics.folders import ImageFolder
from metrics.images import to_image
from metrics.weights import read_state

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.faults

READ, REFUSED = "read", "refused"
SECONDS, START_SECONDS = 5, 120
ADDRESS_SPACE = 2**30
MEMORY = 2**26
# A picture is as large as it says, whatever its file's size.
PICTURE_MEMORY = 2**30
ROWS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
HISTORY = {
    "epochs": [1, 2, 3],
    "total_loss": [3.0, 2.5, None],
    "rank_loss": [2.0, 1.5, 1.25],
    "pairdist_loss": [1.0, 1.0, 0.5],
    "learning_rate": [1e-3, 1e-3, 1e-4],
    "epoch_times": [0.5, 0.5, 0.75],
    "epoch_timestamps": ["2024-05-01T10:00:00+00:00"] * 3,
    "cumulative_time": [0.5, 1.0, 1.75],
    "recall_epochs": [2, 3],
    "recall_history": [0.5, 0.75],
    "recall_k": 5,
    "recall_rows": 40,
    "pca_recall": 0.4,
    "recall_by_dim": {"8": [0.25, 0.5], "16": [0.5, 0.75]},
    "pca_recall_by_dim": {"8": 0.3, "16": 0.4},
    "evaluations": [{"epoch": 2, "step": 8, "metrics": {"recall": 0.5, "clip_score": 0.25}, "is_best": True}],
    "status": "completed",
}
CONFIG = {
    "experiment_id": "00000000-0000-0000-0000-000000000000",
    "created": "2024-05-01T10:00:00+00:00",
    "input_dim": 5,
    **TrainConfig(latent_dim=4, hidden_dims=(8,), matryoshka=True).as_dict(),
    "data": {"path": "builtin", "rows": 12, "fingerprint": "sha256:0"},
}
AT_5 = {"value": 0.5, "k": 5, "rows": 40, "standard_error": 0.125}
RECALL = {
    "latest_model.pth": {"size": 4, "mtime_ns": 1, "epoch": 3, "recall": AT_5, "others": []},
    "checkpoint_epoch_002.pth": {"size": 4, "mtime_ns": 1, "epoch": 2, "recall": AT_5, "others": [AT_5]},
}
JUDGED = [
    {"path": f"checkpoint_epoch_{n:03d}.pth", "step": 10 * n, "epoch": n, "metrics": {"recall": n / 9}, "order": n}
    for n in (1, 2, 3)
]
STATE = {
    "metric_name": "recall",
    "higher_is_better": True,
    "save_top_k": 2,
    "keep_every_n_steps": 0,
    "latest": JUDGED[2]["path"],
    "owns_link": True,
    "links": ["best_psnr.pt"],
    "min_delta": 0.25,
    "further_metrics": {"psnr": {"higher_is_better": True, "best": [JUDGED[0]["path"]]}},
    "checkpoints": [{**one, "time": 1.5e9, "score": 0.5} for one in JUDGED[:0:-1]],
    "others": [{**JUDGED[0], "score": 0.5}],
    "writer": "0123456789abcdef-7",
}
SIDECAR = {
    "experiment_id": CONFIG["experiment_id"],
    "checkpoint": "checkpoints/00000000/best.pt",
    "data": "rows.npy",
    "column": None,
    "rows": 12,
    **{"dtype": "int8", "dim": 5, "scales": [0.5, 0.25, 1.0, 2.0, 0.125]},
}
CAPTIONS = 'image_path,text_en\n0.png,"a picture, grey"\n1.png,another\n2.png,a third\n'


WRAPPED = {
    "view": pa.array(ROWS.tolist(), pa.list_view(pa.float32())),
    "text_view": pa.array([json.dumps(row) for row in ROWS.tolist()], pa.string_view()),
    "dictionary": pa.array([json.dumps(row) for row in ROWS.tolist()]).dictionary_encode(),
    "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS.reshape(12, 1, 5)),
    "array2d": pa.array([[row] for row in ROWS.tolist()], pa.list_(pa.list_(pa.float32()))),
    "struct": pa.array([{"emb": row, "id": 1} for row in ROWS.tolist()]),
}


def npy_files(folder: Path) -> None:
    np.save(folder / "plain.npy", ROWS)
    np.save(folder / "fortran.npy", np.asfortranarray(ROWS.astype(">f8")))
    np.save(folder / "whole.npy", (10 * ROWS).astype("<i2"))


def npz_files(folder: Path) -> None:
    np.savez(folder / "stored.npz", ROWS)
    np.savez_compressed(folder / "deflated.npz", vectors=ROWS, ids=np.arange(12))


def binary_files(folder: Path) -> None:
    for name, dtype in {"fbin": "<f4", "f16bin": "<f2", "u8bin": "u1", "i8bin": "i1"}.items():
        values = (10 * np.abs(ROWS)).astype(dtype).tobytes()
        (folder / f"rows.{name}").write_bytes(np.array(ROWS.shape, "<u4").tobytes() + values)
    for name, dtype in {"fvecs": "<f4", "bvecs": "u1"}.items():
        values = [np.array([5], "<i4").tobytes() + row.tobytes() for row in (10 * np.abs(ROWS)).astype(dtype)]
        (folder / f"rows.{name}").write_bytes(b"".join(values))


def safetensors_files(folder: Path) -> None:
    save_file({"rows": ROWS}, folder / "one.safetensors")
    header = json.dumps({"rows": {"dtype": "BF16", "shape": [12, 5], "data_offsets": [0, 120]}}).encode()
    halves = (ROWS.view(np.uint32) >> 16).astype("<u2").tobytes()
    (folder / "bfloat16.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + halves)
    save_file({"emb": ROWS.astype(np.float16), "ids": np.arange(12)}, folder / "two.safetensors", {"made": "here"})


def hdf5_files(folder: Path) -> None:
    with h5py.File(folder / "plain.hdf5", "w") as file:
        file["train"], file["test"] = ROWS, ROWS[:3]
    with h5py.File(folder / "chunked.h5", "w") as file:
        file.create_dataset("emb", data=ROWS, chunks=(5, 5), compression="gzip", shuffle=True)
    with h5py.File(folder / "group.h5", "w") as file:
        file["g/deeper/rows"] = ROWS


def parquet_files(folder: Path) -> None:
    texts = pa.array([f"row {row}" for row in range(len(ROWS))])
    columns = {
        "lists": pa.array(ROWS.tolist(), pa.list_(pa.float32())),
        "fixed": pa.array(ROWS.tolist(), pa.list_(pa.float64(), 5)),
        "json": pa.array([json.dumps(row) for row in ROWS.tolist()]),
    }
    for compression, (name, column) in zip(("snappy", "zstd", "gzip"), columns.items(), strict=True):
        table = pa.table({"id": range(len(ROWS)), "text": texts, "embedding": column})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=5, compression=compression)
    pq.write_table(table, folder / "plain.parquet", compression="none", use_dictionary=False, store_schema=False)


def wrapped_files(folder: Path) -> None:
    for name, column in WRAPPED.items():
        pq.write_table(pa.table({"text": ["word"] * 12, "embedding": column}), folder / f"{name}.parquet")


def ipc_files(folder: Path) -> None:
    """Both formats, every compression; some as save_to_disk writes them."""
    columns = {"lists": pa.array(ROWS.tolist()), "fixed": pa.array(ROWS.tolist(), pa.list_(pa.float16(), 5)), **WRAPPED}
    for number, (name, column) in enumerate(columns.items()):
        table = pa.table({"text": [f"row {row}" for row in range(12)], "embedding": column})
        new = pa.ipc.new_stream if number % 2 else pa.ipc.new_file
        options = pa.ipc.IpcWriteOptions(compression=(None, None, "zstd", "lz4")[number % 4])
        with new(folder / f"{name}.arrow", table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=5)


def dataset_files(folder: Path) -> None:
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))


def delimited_files(folder: Path) -> None:
    names = ",".join(["text", *(f"d{index}" for index in range(5))])
    numbers = "\n".join([names, *(f'"a {row}",' + ",".join(map(str, ROWS[row])) for row in range(12))])
    (folder / "numbers.csv").write_text(numbers)
    (folder / "plain.csv").write_text("\n".join(";".join(map(str, row)) for row in ROWS))
    (folder / "lists.tsv").write_text("\n".join(["n\tv", *(f"word\t{row.tolist()}" for row in ROWS)]))
    (folder / "numbers.csv.gz").write_bytes(gzip.compress(numbers.encode()))


def packed_files(folder: Path) -> None:
    jsonl_files(folder)
    for path in list(folder.iterdir()):
        data = path.read_bytes()
        path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(data))
        path.with_suffix(".jsonl.zst").write_bytes(pa.Codec("zstd").compress(data).to_pybytes())
        path.unlink()


def tensor_files(folder: Path) -> None:
    import torch

    torch.save(torch.from_numpy(ROWS), folder / "plain.pt")
    torch.save({"emb": torch.from_numpy(ROWS).bfloat16(), "ids": list(range(12))}, folder / "dict.pth")
    torch.save(torch.from_numpy(ROWS).half().t(), folder / "turned.pt")


def jsonl_files(folder: Path) -> None:
    for name, value in (("lists", list), ("texts", lambda row: json.dumps(list(row)))):
        lines = [json.dumps({"text": f"row {n}", "emb": value(row)}) for n, row in enumerate(ROWS.tolist())]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))


def image_files(folder: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (9, 13, 4), np.uint8)
    picture = Image.fromarray(colours)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, mode in {"rgba.png": "RGBA", "palette.png": "P", "a.webp": "RGBA", "a.bmp": "RGB", "a.gif": "P"}.items():
        picture.convert("RGB" if mode == "P" else mode).convert(mode).save(folder / name)
    picture.convert("RGB").save(folder / "turned.jpg", exif=exif)
    picture.convert("CMYK").save(folder / "cmyk.jpg", progressive=True)
    picture.convert("RGB").save(folder / "moving.gif", save_all=True, append_images=[picture.convert("L")] * 2)
    picture.convert("RGB").save(folder / "moving.webp", save_all=True, append_images=[picture.convert("RGB")] * 2)
    Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(folder / "deep.png", exif=exif)
    Image.fromarray(colours[..., 0].astype(np.float32) / 255).save(folder / "float.tiff")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "raw"):
        picture.convert("RGB").save(folder / f"{compression}.tiff", compression=compression)


def weights_files(folder: Path) -> None:
    import torch

    state = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.zeros(3, dtype=torch.float16)}
    torch.save(state, folder / "plain.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)


def checkpoint_files(folder: Path) -> None:
    import torch

    from dploss.models.encoder import DPEncoder

    for name, hidden_dims in (("branch", (8,)), ("linear", ())):
        encoder = DPEncoder(5, hidden_dims, 4)
        optimizer = torch.optim.Adam(encoder.parameters())
        encoder(torch.from_numpy(ROWS)).sum().backward()
        optimizer.step()
        state = {
            "epoch": 3,
            "step": 30,
            "model_state_dict": encoder.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler_state_dict": {"last_epoch": 30},
            "train_history": HISTORY,
            "config": {**CONFIG, "hidden_dims": list(hidden_dims)},
            "rng_state": {"cpu": torch.get_rng_state()[:8]},
            "partial_epoch": {"loss_sums": torch.zeros(3), "seconds": 0.0},
        }
        torch.save(state, folder / f"{name}.pth")


def shared_files(folder: Path) -> None:
    from safetensors.torch import save_file

    from dploss.models.encoder import DPEncoder

    for name, hidden_dims in (("branch", (8,)), ("linear", ())):
        weights = {f"encoder.{key}": value for key, value in DPEncoder(5, hidden_dims, 4).state_dict().items()}
        save_file(weights, folder / f"{name}.safetensors")


def json_files(name: str, value: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / f"{name}.json").write_text(json.dumps(value, indent=2))
        (folder / f"{name}-short.json").write_text(json.dumps(value))

    return write


def csv_files(folder: Path) -> None:
    (folder / "captions.csv").write_text(CAPTIONS)


def metadata_files(folder: Path) -> None:
    _, *rows = CAPTIONS.splitlines()
    (folder / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    objects = [{"file_name": f"{number}.png", "text": "picture", "size": [20, 20]} for number in range(3)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, objects)))


def read_vectors(path: Path) -> None:
    assert np.isfinite(open_vectors(path).rows).all()


def read_shards(path: Path) -> None:
    """The damaged file between two that are whole, as a folder and as a glob."""
    whole = pa.table({"embedding": pa.array(ROWS.tolist()), "text": ["word"] * len(ROWS)})
    for name in ("0.parquet", "2.parquet"):
        pq.write_table(whole, path.parent / name)
    path.rename(path.with_name("1.parquet"))
    for source in (path.parent, f"{path.parent}/*.parquet"):
        assert np.isfinite(open_vectors(source, limit=30).rows).all()


def read_stream(path: Path) -> None:
    """As encode.py does."""
    stream = VectorStream(str(path))
    parts = [part for start, stop in stream.parts(5) for part, _ in stream.batches(start, 5, True, stop)]
    assert np.isfinite(np.concatenate(parts)).all() and sum(map(len, parts)) == stream.rows


def read_dataset(path: Path) -> None:
    """What describes a folder of save_to_disk, damaged."""
    table = pa.table({"embedding": ROWS.tolist()})
    for folder in (path.parent, path.parent / "train"):
        folder.mkdir(exist_ok=True)
        with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
            writer.write_table(table)
    try:
        assert len(open_vectors(path.parent).rows) == 12
    except InputError as error:
        # The whole file names its splits.
        if "a dataset of train, test;" not in str(error):
            raise


def read_row_texts(path: Path) -> None:
    assert all(isinstance(text, str) for text in read_texts(str(path), np.arange(12)))


def read_images(path: Path) -> None:
    for name in ("0.png", "2.png"):
        Image.new("L", (20, 20), 40).save(path.parent / name)
    images = open_images(path.parent, 16)
    assert np.isfinite(images.rows).all() and len(images.rows) == 3


def with_pictures(path: Path) -> Path:
    for number in range(3):
        Image.new("L", (20, 20), 40).save(path.parent / f"{number}.png")
    return path.parent


def read_captioned(path: Path) -> None:
    assert len(open_images(with_pictures(path), 16).captions) == 3


def read_text_beside(path: Path) -> None:
    with_pictures(path)
    path.rename(path.with_name("1.txt"))
    assert len(open_images(path.parent, 16).captions) == 3


def tell(folder: Path) -> None:
    """Everything that is said of an experiment."""
    experiment = open_experiment(folder)
    recalls = recorded_recall(experiment)
    compared = compare([experiment, experiment], [recalls, recalls])
    lines = [*listing([experiment]), *summary(experiment, recalls), *compared.lines()]
    assert all("\n" not in line for line in lines) and len(compared.rows) == 2
    "\n".join([*lines, json.dumps(compared.records), json.dumps(records([experiment]))]).encode()


def read_history(path: Path) -> None:
    history = path.rename(path.with_name("train_history.json"))
    TrainHistory.load(history)
    tell(path.parent)


def read_config(path: Path) -> None:
    path.rename(path.with_name("config.json"))
    (path.parent / "train_history.json").write_text(json.dumps(HISTORY))
    load_config(path.parent)
    tell(path.parent)
    with suppress(InputError):
        # A file that is read may lack settings.
        ExperimentRecord.load(path.parent)


def read_recall(path: Path) -> None:
    """Of checkpoints that are none: what the cache does not know of them cannot be measured, as the data is gone."""
    path.rename(path.with_name("recall.json"))
    for name in RECALL:
        (path.parent / name).write_bytes(b"none")
        os.utime(path.parent / name, ns=(1, 1))
    (path.parent / "train_history.json").write_text(json.dumps(HISTORY))
    (path.parent / "config.json").write_text(json.dumps({**CONFIG, "data": {"path": str(path.parent / "gone.npy")}}))
    experiment = open_experiment(path.parent)
    recalls = measured_recall(experiment, every_checkpoint=True)
    summary(experiment, recalls)
    compare([experiment], [recalls])


def read_sidecar(path: Path) -> None:
    path.rename(path.with_name("short.npy.json"))
    np.save(path.with_name("short.npy"), (10 * ROWS).astype(np.int8))
    rows, _ = read_codes(path.with_name("short.npy"), np.arange(12))
    assert rows.shape == (12, 5)
    assert read_origins(path.with_name("short.npy")).checkpoint


def read_tracker(path: Path) -> None:
    path.rename(path.with_name("best_checkpoints.json"))
    for one in JUDGED:
        (path.parent / one["path"]).write_bytes(b"weights")
    tracker = BestCheckpointTracker(
        path.parent, ["recall", "psnr"], save_top_k=2, min_delta=0.25, keep=[EveryNSeconds(60)]
    )
    tracker.update(40, 4, path.parent / JUDGED[2]["path"], {"recall": 0.5, "psnr": 20.0})
    tracker.summary()
    tracker.export_results()


def read_checkpoint(path: Path) -> None:
    assert load_encoder(path).encode(ROWS).shape == (12, 4)


def read_shared_encoder(path: Path) -> None:
    hidden_dims = [8] if path.name.startswith("branch") else []
    config = {**CONFIG, "hidden_dims": hidden_dims, "epoch": 3, "step": 30, "stored_code": None}
    (path.parent / "config.json").write_text(json.dumps(config))
    read_checkpoint(path)


def read_metrics_image(path: Path) -> None:
    assert to_image(ImageFolder(path.parent, [path.name])[0], path).shape[0] == 3


def read_metrics_captions(path: Path) -> None:
    captions, _ = read_captions(path, ImageFolder(with_pictures(path)))
    assert len(captions) == 3


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "npy": (npy_files, read_vectors),
    "npz": (npz_files, read_vectors),
    "binary": (binary_files, read_vectors),
    "safetensors": (safetensors_files, read_vectors),
    "hdf5": (hdf5_files, read_vectors),
    "parquet": (parquet_files, read_vectors),
    "wrapped": (wrapped_files, read_vectors),
    "ipc": (ipc_files, read_vectors),
    "dataset": (dataset_files, read_dataset),
    "ipc stream": (ipc_files, read_stream),
    "ipc texts": (ipc_files, read_row_texts),
    "delimited": (delimited_files, read_vectors),
    "packed": (packed_files, read_vectors),
    "packed texts": (packed_files, read_row_texts),
    "tensor": (tensor_files, read_vectors),
    "shards": (parquet_files, read_shards),
    "stream": (parquet_files, read_stream),
    "parquet texts": (parquet_files, read_row_texts),
    "jsonl": (jsonl_files, read_vectors),
    "jsonl texts": (jsonl_files, read_row_texts),
    "images": (image_files, read_images),
    "captions": (csv_files, read_captioned),
    "metadata": (metadata_files, read_captioned),
    "text beside": (csv_files, read_text_beside),
    "history": (json_files("history", HISTORY), read_history),
    "config": (json_files("config", CONFIG), read_config),
    "recall": (json_files("recall", RECALL), read_recall),
    "sidecar": (json_files("sidecar", SIDECAR), read_sidecar),
    "tracker": (json_files("state", STATE), read_tracker),
    "checkpoint": (checkpoint_files, read_checkpoint),
    "shared encoder": (shared_files, read_shared_encoder),
    "metrics images": (image_files, read_metrics_image),
    "metrics captions": (csv_files, read_metrics_captions),
    "weights": (weights_files, read_state),
}


def samples_of(reader: str) -> dict[str, bytes]:
    """The whole files of a reader, by name."""
    with tempfile.TemporaryDirectory() as folder:
        READERS[reader][0](Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def damaged(reader: str, sample: str, seed: int) -> bytes:
    """The file that a failure tells of."""
    samples = samples_of(reader)
    return mutated(samples[sample], list(samples.values()), seed)


def attempt(reader: str, name: str, data: bytes) -> str:
    """READ, REFUSED, or what is wrong with how a reader takes a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        before = memory("VmRSS")
        outcome = READ
        try:
            READERS[reader][1](path)
        except (InputError, MetricsInputError) as error:
            if folder not in str(error) or "\n" in str(error):
                return f"no line about this file: {error}"
            outcome = REFUSED
        except Exception:
            return traceback.format_exc()
        taken = memory("VmHWM") - before
        most = (PICTURE_MEMORY if "images" in reader else MEMORY) + 20 * len(data)
        return f"it took {taken / 2**20:.0f} MiB" if taken > most else outcome


def memory(name: str) -> int:
    """This process's memory now (VmRSS), its peak since that was asked (VmHWM), and its addresses (VmSize), in bytes.

    0 where the system does not say.
    """
    try:
        status = Path("/proc/self/status").read_text()
        if name == "VmRSS":
            Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", status)[1])


def serve(pipe: Connection) -> None:
    """Try one file after another; what is claimed beyond a fence of memory cannot be had."""
    warnings.simplefilter("ignore")
    # Native libraries write there what they think of a file.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    for reader in READERS:
        for name, data in samples_of(reader).items():
            attempt(reader, name, data)
    size = memory("VmSize")
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE,) * 2)
    pipe.send("ready")
    while True:
        pipe.send(attempt(*pipe.recv()))


class Watchdog:
    """Has files read in another process, and starts a new one where it hangs or dies."""

    def __init__(self) -> None:
        self.process = None

    def __call__(self, reader: str, name: str, data: bytes) -> str:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
            assert self.pipe.poll(START_SECONDS) and self.pipe.recv() == "ready"
        self.pipe.send((reader, name, data))
        try:
            if self.pipe.poll(SECONDS):
                return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code, self.process = self.process.exitcode, None
            return f"it died with code {code}"
        self.close()
        return f"nothing after {SECONDS} seconds"

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


@pytest.fixture(scope="module")
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    yield watchdog
    watchdog.close()


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_or_named(reader, watchdog, request):
    samples = samples_of(reader)
    assert {name: watchdog(reader, name, data) for name, data in samples.items()} == dict.fromkeys(samples, READ)
    names, wrong = list(samples), []
    for seed in range(request.config.getoption("--mutations", 30)):
        name = names[seed % len(names)]
        outcome = watchdog(reader, name, mutated(samples[name], list(samples.values()), seed))
        if outcome not in (READ, REFUSED):
            wrong.append(f"{reader}, {name}, seed {seed}: {outcome}")
    assert not wrong, "\n".join([f"{len(wrong)} in all", *wrong[:10]])


@pytest.fixture
def soon() -> Iterator[None]:
    """What waits for ever fails."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"nothing after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


SPECIAL = {"pipe": os.mkfifo, "folder": os.mkdir, "device": link_to("/dev/zero"), "dangling": link_to("nowhere")}
OPENED: dict[str, Callable[[Path], object]] = {
    "a.npy": open_vectors,
    "a.npz": open_vectors,
    "a.parquet": open_vectors,
    "a.jsonl": open_vectors,
    "a.csv.gz": open_vectors,
    "a.arrow": open_vectors,
    "a.pt": open_vectors,
    "b.parquet": lambda path: open_vectors(f"{path.parent}/[b]*"),
    "c.parquet": lambda path: read_texts(str(path), np.arange(3)),
    "b.jsonl": lambda path: read_texts(str(path), np.arange(3)),
    "train_history.json": TrainHistory.load,
    "config.json": lambda path: load_config(path.parent),
    "captions.csv": lambda path: read_captions(path, ImageFolder(path.parent, [])),
    "a.png": lambda path: ImageFolder(path.parent, [path.name])[0],
    "a.pth": read_state,
}


@pytest.mark.parametrize("kind", [*SPECIAL, "loop"])
@pytest.mark.parametrize("name", OPENED)
def test_what_is_no_file_is_named_at_once(name, kind, tmp_path, soon):
    path = tmp_path / name
    SPECIAL.get(kind, link_to(name))(path)
    with pytest.raises((InputError, MetricsInputError), match=re.escape(str(tmp_path))):
        OPENED[name](path)


@pytest.mark.parametrize("kind", ["pipe", "device", "dangling", "loop"])
def test_among_images_and_shards_it_is_named_too(kind, tmp_path, soon):
    for name, read in (("1.png", lambda path: open_images(path, 16)), ("1.parquet", open_vectors)):
        folder = tmp_path / name[2:]
        folder.mkdir()
        with_pictures(folder / name)
        (folder / name).unlink(missing_ok=True)
        SPECIAL.get(kind, link_to(name))(folder / name)
        with pytest.raises(InputError, match=rf"{re.escape(str(folder))}.*{name}\W+(not a file|no such file)"):
            read(folder)


@pytest.mark.parametrize(
    "name", ["x" * 5000 + ".npy", "x" * 5000 + "*.parquet", "a\0.npy", "a\0*.parquet", "no\nfile.npy"]
)
def test_names_that_no_file_has_are_said(name):
    for read in (open_vectors, open_images, TrainHistory.load, ImageFolder, read_state):
        with pytest.raises((InputError, MetricsInputError)):
            read(name)


def npy_bytes(descr: str, shape: str, numbers: int = 16, fortran: bool = False) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(4 * numbers)


@pytest.mark.parametrize(
    ("descr", "shape", "message"),
    [
        ("'<f4'", "(3000000000000, 768)", "not a readable .npy file"),
        ("'<f4'", "(9223372036854775807, 9223372036854775807)", "not a readable .npy file"),
        ("'<f4'", "(-4, -4)", "not a readable .npy file"),
        ("'<f4'", "(4.0, 4)", "not a readable .npy file"),
        ("'<f4'", "(True, 4)", "not a readable .npy file"),
        ("'<f4'", "(" + "[" * 50, "not a readable .npy file"),
        ("'<f4'", "(1000000000000, 0)", "not a matrix"),
        ("'|b1'", "(4, 4)", "holds bool values, not numbers"),
        ("'|S0'", "(1000000000000, 4)", "not numbers"),
        ("[('a', '<f4')]", "(4, 4)", "not numbers"),
        ("'|O'", "(4, 4)", "it holds Python objects"),
    ],
)
def test_headers_that_claim_what_is_not_there(descr, shape, message, tmp_path, soon):
    (tmp_path / "a.npy").write_bytes(npy_bytes(descr, shape))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
    with pytest.raises(InputError, match=rf"a\.npy: .*{message}"):
        open_vectors(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"a\.npz: "):
        open_vectors(tmp_path / "a.npz")


@pytest.fixture
def little_memory(monkeypatch) -> None:
    monkeypatch.setattr("dploss.files.untrusted.SMALL_BYTES", 2**16)
    monkeypatch.setattr("metrics.decoding.SMALL_BYTES", 2**16)


def zeros_npz(path: Path) -> None:
    np.savez_compressed(path, np.zeros((4000, 50), np.float32))


def zeros_parquet(path: Path) -> None:
    values = pa.ListArray.from_arrays(range(0, 200_001, 50), np.zeros(200_000, np.float32))
    pq.write_table(pa.table({"emb": values}), path)


def zeros_ipc(path: Path) -> None:
    table = pa.table({"emb": pa.FixedSizeListArray.from_arrays(np.zeros(200_000, np.float32), 50)})
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)


def zeros_csv(path: Path) -> None:
    path.write_bytes(gzip.compress((",".join(["0.0"] * 50) + "\n").encode() * 4000))


def zeros_jsonl(path: Path) -> None:
    path.write_bytes(gzip.compress((json.dumps({"emb": [0] * 50}) + "\n").encode() * 4000))


def zeros_png(path: Path) -> None:
    for number in range(3):
        Image.new("L", (1000, 1000)).save(path.with_name(f"{number}.png"))


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("a.npz", zeros_npz, open_vectors),
        ("a.arrow", zeros_ipc, open_vectors),
        ("a.csv.gz", zeros_csv, open_vectors),
        ("a.jsonl.gz", zeros_jsonl, open_vectors),
        ("a.parquet", zeros_parquet, open_vectors),
        ("a.png", zeros_png, lambda path: open_images(path.parent, 16)),
    ],
)
def test_zeros_are_read_until_they_are_too_many(name, write, read, tmp_path, request):
    write(tmp_path / name)
    assert not read(tmp_path / name).rows.any()
    request.getfixturevalue("little_memory")
    with pytest.raises(InputError, match="corrupt: decla"):
        read(tmp_path / name)


@pytest.mark.parametrize(("place", "value", "message"), [(8, 1, "encrypted"), (10, 12, "neither stored nor deflated")])
def test_archives_of_other_kinds_are_said(place, value, message, tmp_path):
    np.savez(tmp_path / "a.npz", ROWS)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.rindex(b"PK\1\2") + place] |= value
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.npz: .*{message}"):
        open_vectors(tmp_path / "a.npz")


LINE = '{"emb": [1, 2]}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINE * 3 + '{"emb": ' + "[" * 100_000, r"row 3 \(line 4\) is not JSON"),
        ('{"emb": [1], "x": ' + "[" * 100_000 + "\n" + LINE * 3, "row 0 is not JSON"),
        ('{"emb": [' + "9" * 5000 + "]}\n" + LINE * 3, "row 0 is not JSON"),
        (LINE * 3 + "\0", r"row 3 \(line 4\) is not JSON"),
        (LINE * 3 + '{"emb": [1, ' + "9" * 400 + "]}", "row 3, has inf in dimension 1"),
        (LINE * 3 + '{"emb": [1, NaN]}', "row 3, has nan in dimension 1"),
        (LINE * 3 + '{"emb": [1, 2], "emb": [3, 4]}', "specified twice"),
        ('{"vec": [1, 2]}\n' + LINE * 3, "3 of 4 rows .* row 1, is null"),
        ('{"emb": null, "v": [1]}\n' + LINE * 3, "row 0"),
        ('{"\\ud800": [1]}\n' * 4, "not a readable .jsonl file"),
        ('{"emb": "\\ud800"}\n' * 4, "JSON parse error"),
    ],
)
def test_lines_that_json_cannot_mean(text, message, tmp_path, soon):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InputError, match=rf"a\.jsonl: .*{message}"):
        open_vectors(tmp_path / "a.jsonl")


@pytest.mark.parametrize("missing", [0, 1])
def test_a_row_that_is_null_is_named_wherever_it_is(missing, tmp_path):
    values: list = [[1.0, 2.0]] * 4
    values[missing] = None
    pq.write_table(pa.table({"emb": values}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet: 1 of 4 rows .* row {missing}, is null"):
        open_vectors(tmp_path / "a.parquet")


def test_column_names_that_are_no_text_are_said(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"embXX": [[1.0]] * 4, "text": ["a"] * 4}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"embXX", b"emb\xff\xfe"))
    for read in (open_vectors, lambda path: read_texts(str(path), np.arange(2))):
        with pytest.raises(InputError, match=r"a\.parquet: .*decode"):
            read(path)


numbers = st.one_of(
    st.integers(-3, 100),
    st.sampled_from([2**53, -(2**64), 10**300, 10**400, 1e300]),
    st.floats(),
)
# Text of any characters, halves of pairs among them.
texts = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(["0001-01-01T00:00:00", "inf", "8"])
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed(draw: st.DrawFn, value: object) -> object:
    """The value with something in it replaced, left out or nested without end."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        copy = value.copy()
        for place in draw(
            st.lists(
                st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))),
                min_size=1,
                max_size=3,
                unique=True,
            )
        ):
            copy[place] = draw(changed(value[place]))
        if isinstance(value, dict) and draw(st.booleans()):
            copy.pop(draw(st.sampled_from(list(value))))
        return copy
    return draw(json_values)


@given(changed(HISTORY), changed(CONFIG))
def test_whatever_a_history_and_a_config_hold_is_told_or_refused(history, config):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train_history.json").write_text(json.dumps(history))
        (folder / "config.json").write_text(json.dumps(CONFIG))
        with suppress(InputError):
            tell(folder)
        (folder / "train_history.json").write_text(json.dumps(HISTORY))
        (folder / "config.json").write_text(json.dumps(config))
        with suppress(InputError):
            tell(folder)
            ExperimentRecord.load(folder)


@pytest.mark.parametrize("depth", [60, 900, 100_000])
def test_nesting_without_end_is_refused(depth, tmp_path):
    nested = json.dumps({**HISTORY, "evaluations": ["deep"]}).replace(
        '"deep"', '{"metrics":' * depth + "1" + "}" * depth
    )
    (tmp_path / "train_history.json").write_text(nested)
    with pytest.raises(InputError, match=r"train_history\.json: not a readable history: .*(nest|recursion)"):
        TrainHistory.load(tmp_path / "train_history.json")

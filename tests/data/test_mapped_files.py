import json
import mmap

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dploss.data import MappedRows, open_vectors, select
from dploss.data import batches as loading
from dploss.data import memmap as mapped_module
from dploss.data.batches import LARGE, WINDOW_BLOCKS, block_rows, epoch_batches, read_ahead
from dploss.errors import InputError
from dploss.models.pca import PCA

# No -0.0, which is another fingerprint and not an integer's.
ROWS = (30 * np.random.default_rng(0).normal(size=(50, 6))).round() + 0.0
DTYPES = {"fbin": "<f4", "f16bin": "<f2", "u8bin": "u1", "i8bin": "i1", "fvecs": "<f4", "bvecs": "u1"}


def write(path, rows):
    """The formats as their descriptions say, not with code of ours."""
    suffix = path.suffix[1:]
    if suffix == "safetensors":
        save_file({"rows": np.ascontiguousarray(rows, np.float16)}, path)
    elif suffix == "hdf5":
        with h5py.File(path, "w") as file:
            file["train"], file["test"] = rows.astype(np.float32), rows[:3]
    else:
        values = rows.astype(DTYPES[suffix])
        if suffix.endswith("vecs"):
            dims = np.full((len(rows), 1), rows.shape[1], "<i4").view(np.uint8)
            values = np.concatenate([dims, values.view(np.uint8).reshape(len(rows), -1)], axis=1)
            path.write_bytes(values.tobytes())
        else:
            path.write_bytes(np.array(rows.shape, "<u4").tobytes() + values.tobytes())
    return path


FORMATS = [*DTYPES, "safetensors", "hdf5"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_format_gives_its_rows_from_the_disk(suffix, tmp_path):
    rows = np.abs(ROWS) if suffix in ("u8bin", "bvecs") else ROWS
    np.save(tmp_path / "rows.npy", rows)
    vectors = open_vectors(write(tmp_path / f"rows.{suffix}", rows))
    assert isinstance(vectors.rows, MappedRows)
    np.testing.assert_array_equal(vectors.rows[:], rows.astype(np.float32))
    assert vectors.fingerprint == open_vectors(tmp_path / "rows.npy").fingerprint
    limited = open_vectors(tmp_path / f"rows.{suffix}", limit=7, metric="cosine")
    expected = rows[:7] / np.linalg.norm(rows[:7], axis=1, keepdims=True)
    np.testing.assert_allclose(limited.rows[:], expected, rtol=1e-6)
    numbers = np.array([5, 1, 3])
    np.testing.assert_array_equal(limited.rows[numbers], limited.rows[:][numbers])
    chosen = select(limited.rows, np.array([1, 3, 5]))
    np.testing.assert_array_equal(chosen[np.array([2, 0])], limited.rows[np.array([5, 1])])
    assert chosen.shape == (3, 6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_file_is_refused_in_a_line(suffix, tmp_path):
    whole = write(tmp_path / f"whole.{suffix}", np.abs(ROWS)).read_bytes()
    path = tmp_path / f"rows.{suffix}"
    for content in (b"", whole[:3], whole[: len(whole) // 2 + 1], b"\xff" * len(whole)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"rows.{suffix}: "):
            open_vectors(path)


def test_ragged_vecs_and_unknown_tensors_name_their_trouble(tmp_path):
    path = write(tmp_path / "rows.fvecs", ROWS)
    content = bytearray(path.read_bytes())
    content[28 * 2] = 9
    path.write_bytes(content)
    with pytest.raises(InputError, match="row 2 has 9 dimensions, the rows before it have 6"):
        open_vectors(path)
    header = json.dumps({"rows": {"dtype": "F8_E4M3", "shape": [5, 2], "data_offsets": [0, 20]}}).encode()
    path = tmp_path / "rows.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(20))
    with pytest.raises(InputError, match="rows holds F8_E4M3 values"):
        open_vectors(path)
    with pytest.raises(InputError, match="no columns"):
        open_vectors(write(tmp_path / "rows.fbin", ROWS), column="emb")


def test_hdf5_in_chunks_is_read_and_a_column_chosen(tmp_path):
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("train", data=ROWS, chunks=(7, 3), compression="gzip")
        file["emb"], file["ids"] = ROWS[::-1].astype(np.float64), np.arange(50)
    np.testing.assert_array_equal(open_vectors(path).rows, ROWS.astype(np.float32))
    np.testing.assert_array_equal(open_vectors(path, column="emb").rows[:], ROWS[::-1].astype(np.float32))
    with pytest.raises(InputError, match=r"ids has shape \(50,\), not a matrix"):
        open_vectors(path, column="ids")


def test_large_parquet_goes_to_a_file_without_a_name(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"emb": list(ROWS)}), path)
    in_memory = open_vectors(path)
    monkeypatch.setattr(mapped_module, "total_memory", lambda: 0)
    on_disk = open_vectors(path)
    assert isinstance(in_memory.rows, np.ndarray) and isinstance(on_disk.rows, MappedRows)
    np.testing.assert_array_equal(on_disk.rows[:], in_memory.rows)


def test_pca_of_rows_on_the_disk_is_that_of_rows_in_memory(tmp_path):
    rows = open_vectors(write(tmp_path / "rows.fbin", ROWS)).rows
    numbers = np.arange(3, 40, 2)
    on_disk, in_memory = PCA.fit(select(rows, numbers), 4), PCA.fit(rows[:][numbers], 4)
    np.testing.assert_array_equal(on_disk.components, in_memory.components)


def test_prefetch_asks_for_the_pages_of_these_rows_alone(tmp_path):
    rows = open_vectors(write(tmp_path / "rows.fbin", np.zeros((20_000, 64)))).rows
    numbers = np.concatenate([np.arange(15_000, 15_100), np.arange(3, 50)])
    asked = rows.pages(numbers)
    assert len(asked) == 2
    for (start, length), (first, last) in zip(asked, ((3, 49), (15_000, 15_099)), strict=True):
        assert start % mmap.PAGESIZE == 0
        assert start <= 8 + 256 * first and start + length >= 8 + 256 * (last + 1)
        assert length < 256 * (last - first + 1) + 2 * mmap.PAGESIZE
    last = rows.pages(np.array([19_999]))
    assert sum(last[0]) <= (tmp_path / "rows.fbin").stat().st_size
    rows.prefetch(numbers)
    np.testing.assert_array_equal(
        rows.select(np.arange(10, 200)).pages(np.array([4, 5])), rows.pages(np.array([14, 15]))
    )


@given(rows=st.integers(600, 5000), block=st.integers(2, 40), epoch=st.integers(0, 3))
def test_blocks_shuffle_every_row_into_one_place(rows, block, epoch):
    numbers = np.arange(rows) * 3
    batches = epoch_batches(numbers, 100, 7, epoch, block)
    assert batches.shape == (rows // 100, 100)
    assert len(np.unique(batches)) == batches.size and np.isin(batches, numbers).all()
    np.testing.assert_array_equal(batches, epoch_batches(numbers, 100, 7, epoch, block))


def test_blocks_keep_reads_together_and_mix_far_rows():
    numbers = np.arange(300_000)
    block = 64
    batches = epoch_batches(numbers, 512, 0, 0, block)
    window = batches[: block * WINDOW_BLOCKS // 512].ravel()
    runs = np.count_nonzero(np.diff(np.sort(window)) > 1) + 1
    assert runs <= WINDOW_BLOCKS + 1
    # A batch has rows of blocks from all over the file.
    assert len(np.unique(batches[0] // block)) > 150
    assert batches[0].max() - batches[0].min() > 250_000


def test_reading_ahead_asks_for_every_row_before_it_is_needed(tmp_path, monkeypatch):
    rows = open_vectors(write(tmp_path / "rows.fbin", np.zeros((9000, 4)))).rows
    asked = []
    monkeypatch.setattr(MappedRows, "prefetch", lambda self, numbers: asked.extend(numbers))
    monkeypatch.setattr(loading, "WINDOW_BLOCKS", 8)
    batches = epoch_batches(np.arange(9000), 100, 0, 0, 50)
    for step, batch in enumerate(read_ahead(rows, batches, 50)):
        np.testing.assert_array_equal(batch, batches[step])
        assert np.isin(batch, asked).all()
        assert len(asked) <= 100 * (step + 9)
    assert len(asked) == len(set(asked)) == 9000


def test_only_large_data_are_read_in_blocks():
    assert block_rows(10_000, 768) == 1
    assert block_rows(1_000_000, 768) == 341
    assert block_rows(LARGE // 4, 1) == 1

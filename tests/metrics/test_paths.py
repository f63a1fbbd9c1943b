import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dploss.data import open_vectors, read_texts
from dploss.data.stream import VectorStream
from metrics.folders import find_images
from metrics.paths import visible_files, visible_matches

SHOWN = ["a.parquet", "b/c.parquet", "year=2024/month=1/d.parquet"]
HIDDEN = [
    ".ipynb_checkpoints/a-checkpoint.parquet",
    "b/_temporary/0/c.parquet",
    ".cache/huggingface/a.parquet",
    "__MACOSX/b/._c.parquet",
    "._a.parquet",
    ".a.parquet.crc",
    "_SUCCESS",
    "_metadata.parquet",
    "year=2024/_delta_log/d.parquet",
]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / ".named" / "_by_its_user"
    for number, name in enumerate([*SHOWN, *HIDDEN]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rows = np.random.default_rng(number).normal(size=(4, 3)).tolist()
        pq.write_table(pa.table({"emb": rows, "text": [name] * 4}), folder / name)
    return folder


def below(folder: Path, paths) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_hidden_and_temporary_files_are_left_out(folder):
    assert below(folder, visible_files(folder)) == SHOWN
    os.symlink(folder, folder / "again", target_is_directory=True)
    os.symlink(folder / "a.parquet", folder / "z.parquet")
    assert below(folder, visible_files(folder)) == [*SHOWN, "z.parquet"]


def test_a_folder_is_read_without_them_by_all_readers(folder):
    assert open_vectors(folder).rows.shape == (12, 3)
    assert VectorStream(str(folder)).rows == 12
    assert read_texts(str(folder), np.arange(0, 12, 4)) == SHOWN
    # What is named itself is read.
    assert open_vectors(folder / "b" / "_temporary").rows.shape == (4, 3)
    assert open_vectors(folder / "_metadata.parquet").rows.shape == (4, 3)
    with pytest.raises(
        ValueError,
        match=r"no \.parquet files .* \(names that begin with \. or _ are left out",
    ):
        open_vectors(folder.parent.parent / ".named" / "_by_its_user" / ".cache" / ".." / "__MACOSX")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["a.parquet", "b", "year=2024"]),
        ("*.parquet", ["a.parquet"]),
        ("*/*.parquet", ["b/c.parquet"]),
        ("**/*.parquet", SHOWN),
        ("year=*/**/*.parquet", SHOWN[2:]),
        ("_*.parquet", ["_metadata.parquet"]),
        ("b/_temporary/*/*.parquet", ["b/_temporary/0/c.parquet"]),
        ("**/_temporary/**/*.parquet", ["b/_temporary/0/c.parquet"]),
        ("__MACOSX/b/*.parquet", []),
        ("__MACOSX/b/.*.parquet", ["__MACOSX/b/._c.parquet"]),
        (".cache/**/*.parquet", [".cache/huggingface/a.parquet"]),
    ],
)
def test_wildcards_match_what_is_visible(pattern, found, folder):
    assert below(folder, visible_matches(f"{folder}/{pattern}")) == found


def test_images_of_cameras_are_found(folder):
    for name in ("_MG_1.JPG", "b/.x.png", "__MACOSX/b/x.png", "b/x.png"):
        (folder / name).touch()
    assert below(folder, find_images(folder)) == ["_MG_1.JPG", "b/x.png"]

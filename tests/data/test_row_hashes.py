import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dploss.data.memmap import map_matrix
from dploss.data.row_hashes import occur_in, row_hashes


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 30), others=st.integers(1, 30))
def test_it_is_membership(seed, rows, others):
    random = np.random.default_rng(seed)
    one, other = (random.integers(-1, 2, size=(count, 3)).astype(np.float32) for count in (rows, others))
    among = {tuple(row) for row in other.tolist()}
    assert occur_in(one, other).tolist() == [tuple(row) in among for row in one.tolist()]


def test_a_bit_makes_another_row_and_the_sign_of_zero_does_not():
    rows = np.array([[1, 0], [1, 2]], np.float32)
    others = np.array([[1, -0.0], [np.nextafter(np.float32(1), 2), 2]], np.float32)
    assert occur_in(others, rows).tolist() == [True, False]


def test_chunks_and_rows_on_the_disk_have_the_same_hashes(builtin, tmp_path, monkeypatch):
    whole = row_hashes(builtin)
    assert whole.dtype == np.uint64 and len(np.unique(whole)) == 600
    monkeypatch.setattr("dploss.data.row_hashes._CHUNK_ROWS", 70)
    builtin.tofile(tmp_path / "rows.bin")
    np.testing.assert_array_equal(row_hashes(map_matrix(tmp_path / "rows.bin", np.float32, (600, 768), 0)), whole)

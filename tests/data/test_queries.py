import numpy as np
import pytest

from dploss.data import as_vectors, open_vectors
from dploss.data.queries import open_queries
from dploss.data.split import split_queries
from dploss.errors import InputError, SettingError

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(20, 4)).astype(np.float32)
QUERIES = RNG.normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def opened(tmp_path):
    """Write queries to a file, and open them."""

    def open_them(queries, metric="euclidean", skip_bad_rows=False, rows=ROWS):
        np.save(tmp_path / "q.npy", queries)
        return open_queries(
            str(tmp_path / "q.npy"), None, metric, skip_bad_rows, [as_vectors(rows, "the rows", metric)]
        )

    return open_them


def test_one_query_is_enough(opened):
    np.testing.assert_array_equal(opened(QUERIES[:1]).rows, QUERIES[:1])


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "ip"])
def test_queries_that_are_rows_are_refused_or_left_out(opened, metric, tmp_path):
    mixed = np.concatenate([QUERIES[:2], ROWS[7:8], QUERIES[2:4], ROWS[3:4]])
    with pytest.raises(
        SettingError, match=r"2 of 6 rows .* \(2 equal to a row\); the first, row 2, is .* a row of the rows"
    ):
        opened(mixed, metric)
    found = opened(mixed, metric, skip_bad_rows=True)
    assert found.kept.tolist() == [0, 1, 3, 4] and found.bad.count == 2
    np.save(tmp_path / "others.npy", QUERIES[:4])
    alone = open_vectors(tmp_path / "others.npy", metric=metric)
    np.testing.assert_array_equal(found.rows, alone.rows)
    assert found.fingerprint == alone.fingerprint


def test_bad_queries_and_copies_are_counted_together(opened):
    mixed = np.concatenate([QUERIES[:2], [[np.nan] * 4], ROWS[3:4]])
    found = opened(mixed, skip_bad_rows=True)
    assert found.kept.tolist() == [0, 1] and found.bad.kinds == {"not finite": 1, "equal to a row": 1}
    assert "the first, row 2, has nan" in found.left_out
    with pytest.raises(InputError, match="none is left"):
        opened(ROWS[:3], skip_bad_rows=True)


def test_other_dimensions_than_the_rows(opened):
    with pytest.raises(InputError, match=r"q\.npy: its vectors have 3 dimensions, those of the rows 4"):
        opened(QUERIES[:, :3])


def test_the_built_in_queries():
    found = open_queries("builtin", None, "euclidean", False, [open_vectors(limit=50)])
    assert found.rows.shape == (2000, 768) and found.source == "builtin"


@pytest.mark.parametrize(
    ("n", "val_fraction", "held_out"), [(1, 0.1, 0), (10, 0.1, 5), (5000, 0.1, 1000), (30_000, 0.1, 3000)]
)
def test_the_split_of_queries(n, val_fraction, held_out):
    train, held = split_queries(n, val_fraction, 3)
    assert len(held) == held_out and sorted([*train, *held]) == list(range(n))

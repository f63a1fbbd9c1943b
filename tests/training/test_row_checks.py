import numpy as np
import pytest

from dploss import DPReducer
from dploss.config import TrainConfig
from dploss.data.memmap import map_matrix
from dploss.errors import InputError
from dploss.training.launch import new_experiment
from dploss.training.row_checks import check_differ, distances_from_median, far_rows, trained_twins


def test_distances_are_from_the_median_row(builtin, monkeypatch):
    expected = np.linalg.norm(builtin - np.median(builtin, axis=0).astype(np.float64), axis=1)
    monkeypatch.setattr("dploss.training.row_checks._CHUNK_ROWS", 70)
    np.testing.assert_allclose(distances_from_median(builtin), expected)
    np.testing.assert_allclose(distances_from_median(builtin * np.float32(2.0**-83)), expected * 2.0**-83)


def test_rows_on_the_disk_are_read_in_chunks(builtin, tmp_path):
    builtin.tofile(tmp_path / "rows.bin")
    mapped = map_matrix(tmp_path / "rows.bin", np.float32, builtin.shape, 0)
    np.testing.assert_array_equal(distances_from_median(mapped), distances_from_median(builtin))


@pytest.mark.parametrize("offset", [0, 1e4])
def test_rows_far_away_are_named_with_their_norm(builtin, offset):
    rows = builtin.copy()
    assert far_rows("rows.npy", distances_from_median(rows + np.float32(offset))) is None
    rows[17] *= 1e5
    line = far_rows("rows.npy", distances_from_median(rows + np.float32(offset)))
    assert line.startswith("rows.npy: row 17 is far from all others: its norm is 1e+05, the median norm 0.9")
    rows[[5, 400]] *= 1e4
    assert far_rows("rows.npy", distances_from_median(rows)).startswith("rows.npy: row 5 (and 2 more) is far")


def test_rows_that_are_mostly_equal_have_no_usual_norm():
    rows = np.ones((50, 4), np.float32)
    rows[3] = 2
    assert far_rows("rows.npy", distances_from_median(rows)) is None


def test_equal_rows_are_refused():
    rows = np.full((100, 8), 0.1, np.float32)
    with pytest.raises(InputError, match="x: all 100 rows are equal, there is nothing to learn from them"):
        check_differ("x", distances_from_median(rows))
    rows[99, 7] = np.nextafter(rows[99, 7], np.float32(1))
    check_differ("x", distances_from_median(rows))


def test_rows_too_small_for_float32_are_refused(builtin):
    rows = (builtin * 1e-40).astype(np.float32)
    with pytest.raises(InputError, match="values differ by about 3e-42, of which float32 stores few digits: multiply"):
        DPReducer(4, epochs=1).fit(rows)
    DPReducer(4, hidden_dims=(), epochs=1).fit(rows * np.float32(2.0**40))


def test_a_training_prints_what_its_rows_are_like(builtin, tmp_path, capsys):
    def warnings(rows):
        np.save(tmp_path / "rows.npy", rows)
        config = TrainConfig(data=str(tmp_path / "rows.npy"), latent_dim=8, quiet=True, hidden_dims=())
        new_experiment(config)
        return [line for line in capsys.readouterr().err.splitlines() if "--batch-size" not in line]

    assert warnings(builtin) == []
    rows = builtin.copy()
    rows[17] *= 1e5
    (line,) = warnings(rows)
    assert line.startswith(f"warning: {tmp_path}/rows.npy: row 17 is far from all others: its norm is 1e+05")
    trained, line = warnings(np.repeat(builtin[:3], 200, axis=0))
    assert "60 of 60 held-out rows are identical to a training row: recall on them says little" in trained
    assert line.startswith("warning: 60 of 60 held-out rows have more than 5 nearest neighbours")
    assert "and 60 are identical to another row" in line


def test_the_unit_of_the_rows_changes_nothing_of_a_training(builtin, tmp_path):
    def history(unit):
        np.save(tmp_path / "rows.npy", builtin * np.float32(unit))
        small = {"latent_dim": 8, "hidden_dims": (16,), "epochs": 2, "batch_size": 128, "quiet": True}
        return new_experiment(
            TrainConfig(data=str(tmp_path / "rows.npy"), checkpoints_dir=str(tmp_path / "checkpoints"), **small)
        ).run()

    plain, tiny = history(1), history(2.0**-83)
    np.testing.assert_allclose(tiny.total_loss, plain.total_loss, rtol=1e-5)
    assert tiny.recall_history == pytest.approx(plain.recall_history, abs=0.01)
    assert (tiny.pca_recall, tiny.pca_renormalised_recall) == (plain.pca_recall, plain.pca_renormalised_recall)


def test_far_rows_are_named_by_their_index_in_the_source(builtin):
    rows = builtin.copy()
    rows[17] *= 1e5
    assert far_rows("rows.npy", distances_from_median(rows), np.arange(600) + 30).startswith("rows.npy: row 47 is far")


def test_held_out_rows_with_twins_in_the_training_are_counted(builtin):
    train, held_out = np.arange(500), np.arange(500, 600)

    def line(rows):
        return trained_twins(rows, distances_from_median(rows), train, held_out)

    assert line(builtin) is None and trained_twins(builtin, np.zeros(600), train, held_out[:0]) is None
    # Equally far from the median row is not equal.
    assert line(np.eye(600, dtype=np.float32)) is None
    rows = builtin.copy()
    rows[[510, 577]] = rows[[3, 400]]
    rows[3, 0], rows[510, 0] = 0.0, -0.0
    assert line(rows).startswith("2 of 100 held-out rows are identical to a training row")
    # Twins that are both held out are not.
    rows = builtin.copy()
    rows[550:] = rows[500:550]
    assert line(rows) is None

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dploss.evaluation.ties import Ties, count_ties


@given(seed=st.integers(0, 2**31), rows=st.integers(5, 25), levels=st.integers(1, 6))
def test_they_equal_the_plain_loop(seed, rows, levels):
    # Whole numbers: distances are exact, so ties are ties.
    vectors = np.random.default_rng(seed).integers(0, levels, size=(rows, 3)).astype(np.float32)
    distances = [sorted(math.dist(a, b) for j, b in enumerate(vectors) if j != i) for i, a in enumerate(vectors)]
    tied = {k: sum(row[k] == row[k - 1] for row in distances) for k in (1, 3)}
    found = count_ties(vectors, (1, 3))
    assert found == Ties(tied, sum(row[0] == 0 for row in distances), rows)


@pytest.mark.parametrize("unit", [1e-30, 1, 1e12])
def test_real_rows_have_none_and_repeated_ones_do(builtin, unit):
    rows = builtin[:200] * np.float32(unit)
    assert count_ties(rows, (1, 5)) == Ties({1: 0, 5: 0}, 0, 200)
    assert count_ties(np.repeat(rows, 3, axis=0), (1, 2, 4)) == Ties({1: 600, 2: 0, 4: 600}, 600, 600)
    assert count_ties(np.ones((30, 4)), (5,)) == Ties({5: 30}, 30, 30)


def test_near_rows_do_not_tie_for_float32_has_few_digits():
    rows = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    rows[:100] += np.float32(1e4)
    assert count_ties(rows, (5,)).tied[5] == 0


def test_the_warning_has_the_worst_figures_and_needs_a_tenth():
    assert Ties({5: 100}, 100, 1000).warning("held-out rows") is None
    line = Ties({1: 0, 5: 1200, 50: 3}, 40, 3000).warning("held-out rows")
    assert line.startswith("1,200 of 3,000 held-out rows have more than 5 nearest neighbours, for some are equally far")
    assert "and 40 are identical to another row" in line
    assert "200 are identical" in Ties({5: 0}, 200, 1000).warning("rows")

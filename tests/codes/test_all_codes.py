"""What every code promises, whatever it stores."""

import numba
import numpy as np
import pytest
import torch
from codes.fitted import DIM, N_BYTES, fitted, latents, rows_for
from hypothesis import given, settings
from hypothesis import strategies as st

from dploss.codes.build import ALL_CODES, CODES, code_of
from dploss.codes.code import in_blocks
from dploss.codes.trained_binary import TrainedBinaryCode
from dploss.codes.trained_elementwise import TrainedElementwiseCode

NAMES = sorted(ALL_CODES)
all_codes = pytest.mark.parametrize("name", NAMES)


def reference_projection(code, rows: np.ndarray) -> np.ndarray:
    axes, offsets = code.rotation.axes, 0
    if isinstance(code, TrainedBinaryCode | TrainedElementwiseCode):
        axes, offsets = code.query_axes, code.query_offsets
    return (rows.astype(float) - code.rotation.mean.astype(float)) / code.rotation.scale @ axes.astype(float) + offsets


def reference_latents(code, points: np.ndarray) -> np.ndarray:
    trained = isinstance(code, TrainedBinaryCode | TrainedElementwiseCode)
    axes = (code.query_axes if trained else code.rotation.axes).astype(float) * getattr(code, "length", 1)
    return points @ axes.T * code.rotation.scale + code.rotation.mean


@pytest.mark.parametrize(("d", "p"), [(24, 24), (92, 384), (768, 24)])
def test_a_product_of_a_row_is_the_same_in_any_place(d, p):
    random = np.random.RandomState(0)
    rows, matrix = (random.standard_normal(shape).astype(np.float32) for shape in ((1100, d), (d, p)))
    for factor in (matrix, np.asfortranarray(matrix)):
        whole = in_blocks(rows, factor)
        np.testing.assert_allclose(whole, rows.astype(float) @ matrix, atol=1e-3)
        for cut in (1, 5, 333, 1025):
            np.testing.assert_array_equal(in_blocks(np.asfortranarray(rows[cut:]), factor), whole[cut:])


@all_codes
@given(n=st.integers(0, 1100), cuts=st.lists(st.integers(0, 1100), max_size=4))
@settings(max_examples=10)
def test_a_row_has_the_same_code_in_any_batch(name, n, cuts):
    rows, code = latents(n), fitted(name)
    whole = code.encode(rows)
    assert whole.shape == (n, N_BYTES) and whole.dtype == np.uint8
    parts = [code.encode(part) for part in np.split(rows, sorted(min(cut, n) for cut in cuts))]
    assert np.array_equal(np.concatenate(parts), whole)
    assert code.decode(whole).shape == (n, DIM) and code.decode(whole).dtype == np.float32
    assert np.array_equal(code.encode(np.asfortranarray(rows)), whole)
    assert np.array_equal(code.decode(np.asfortranarray(whole)), code.decode(whole))


@all_codes
def test_a_row_has_the_same_code_in_any_number_of_threads(name):
    rows, code, before = latents(700), fitted(name), numba.get_num_threads()
    whole = code.encode(rows)
    try:
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(threads)
            assert np.array_equal(code.encode(rows), whole)
    finally:
        numba.set_num_threads(before)


@all_codes
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_scores_and_latents_are_those_of_a_float64_loop(name, seed):
    code, queries = fitted(name), latents(7, seed=seed)
    codes = np.random.RandomState(seed).randint(0, 256, (30, N_BYTES)).astype(np.uint8)
    if name == "float16":
        codes = code.encode(latents(30, seed=seed + 1 if seed < 2**32 - 1 else 0))
    points, biases = (part.astype(float) for part in code.points(codes))
    projected = reference_projection(code, queries)
    scores = np.array(
        [
            [biases[j] - 2 * sum(q * x for q, x in zip(row, points[j], strict=True)) for j in range(30)]
            for row in projected
        ]
    )
    assert np.allclose(code.score(queries, codes), scores, rtol=1e-5, atol=1e-5 * np.abs(scores).max())
    rows = reference_latents(code, points)
    assert np.allclose(code.decode(codes), rows, rtol=1e-5, atol=1e-5 * np.abs(rows).max())


@all_codes
def test_codes_keep_neighbours(name):
    code, rows = fitted(name), rows_for(name, 300, seed=1)
    exact = np.square(rows).sum(axis=1) - 2 * rows @ rows.T.astype(float)
    scores = code.score(rows, code.encode(rows))
    correlations = [np.corrcoef(one, other)[0, 1] for one, other in zip(exact, scores, strict=True)]
    assert np.mean(correlations) > (0.5 if "float16" in name or name == "trained binary" else 0.75)


@all_codes
def test_a_code_comes_back_from_its_state(name, tmp_path):
    code, rows = fitted(name), latents(20, seed=2)
    torch.save(code.state_dict(), tmp_path / "state.pt")
    again = code_of(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (again.name, again.dim, again.bytes_per_vector) == (name, DIM, N_BYTES)
    assert np.array_equal(again.encode(rows), code.encode(rows))
    assert np.array_equal(again.score(rows, code.encode(rows)), code.score(rows, code.encode(rows)))
    assert again.model_bytes == code.model_bytes


@all_codes
def test_other_arrays_are_no_code(name):
    state = fitted(name).state_dict()
    arrays = state["arrays"]
    for key, array in arrays.items():
        without = {other: value for other, value in arrays.items() if other != key}
        # Older checkpoints lack it.
        missing = [] if key == "norm_share" else [without]
        wrong = [array[None], array.to(torch.complex64), array.tolist(), None]
        if array.is_floating_point():
            wrong += [array * np.nan, array + np.inf, array.to(torch.float16)]
        if array.dim():
            wrong += [array[:-1], array[:0], torch.cat([array, array])]
        for damaged in missing + [{**arrays, key: value} for value in wrong]:
            with pytest.raises((KeyError, TypeError, ValueError)):
                code_of({**state, "arrays": damaged})


@all_codes
@given(data=st.data())
@settings(max_examples=25)
def test_arrays_of_other_values_are_refused_or_a_code_that_runs(name, data):
    state = fitted(name).state_dict()
    key = data.draw(st.sampled_from(sorted(state["arrays"])))
    array = state["arrays"][key].numpy().copy()
    extremes = [0, 1, 2, 255] if array.dtype == np.uint8 else [0, 1, -1, 2**40, -(2**62)]
    value = data.draw(st.sampled_from(extremes if array.dtype.kind in "iu" else [0.0, -1.0, 1e30, -1e30, 1e-30]))
    array.reshape(-1)[data.draw(st.integers(0, array.size - 1))] = value
    try:
        code = code_of({**state, "arrays": {**state["arrays"], key: torch.from_numpy(array)}})
    except (KeyError, TypeError, ValueError):
        return
    with np.errstate(all="ignore"):
        codes = code.encode(latents(3))
        assert codes.shape == (3, N_BYTES) and code.score(latents(2), codes).shape == (2, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"name": []},
        {"bytes": 0},
        {"bytes": 4.0},
        {"bytes": True},
        {"bytes": 5},
        {"arrays": []},
        {"arrays": None},
    ],
)
@all_codes
def test_other_states_are_no_code(name, change):
    with pytest.raises((KeyError, TypeError, ValueError)):
        code_of({**fitted(name).state_dict(), **change})


@all_codes
def test_wrong_rows_and_codes_are_refused(name):
    code, rows = fitted(name), latents(2)
    for wrong in (rows[0], rows[:, 1:], rows * np.nan, rows * np.inf):
        with pytest.raises(ValueError):
            code.encode(wrong)
    codes = code.encode(rows)
    for wrong in (codes[0], codes[:, 1:], codes.astype(np.int8)):
        with pytest.raises(ValueError):
            code.decode(wrong)
    with pytest.raises(ValueError):
        ALL_CODES[name].fit(rows * np.nan, N_BYTES)


@all_codes
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("dim", [1, 2, 7])
@pytest.mark.parametrize("constant", [False, True])
def test_few_rows_few_dimensions_and_constant_rows(name, n, dim, constant):
    rows = np.full((n, dim), 0.3, np.float32) if constant else latents(n, dim, seed=3)
    for n_bytes in ALL_CODES[name].byte_range(dim)[:3]:
        code = ALL_CODES[name].fit(rows, n_bytes)
        codes = code.encode(rows)
        assert codes.shape == (n, n_bytes)
        assert np.isfinite(code.score(rows, codes)).all()
        assert np.abs(code.decode(codes) - rows).max() <= (1e-6 if constant else 4)


@all_codes
@pytest.mark.parametrize("unit", [1e-20, 1e-6, 1e6, 1e20])
def test_rows_of_any_unit(name, unit):
    rows, more = latents(200), latents(50, seed=4)
    code, scaled = (ALL_CODES[name].fit(one, N_BYTES) for one in (rows, rows * np.float32(unit)))
    codes, scaled_codes = code.encode(more), scaled.encode(more * np.float32(unit))
    # What training makes of a code passes the last digits on from step to step: rows decode to nearly the same.
    own, other = code.decode(codes), scaled.decode(scaled_codes) / np.float32(unit)
    assert np.mean(codes != scaled_codes) < (0.05 if name in CODES else 0.5)
    assert np.square(own - other).sum() < 0.05 * np.square(own - own.mean(axis=0)).sum()
    decoded = scaled.decode(codes) / np.float32(unit)
    # A training row on the border of two cells, which rounds otherwise, is one of 200 of a regression.
    tolerance = 1e-2 if name not in CODES else 1e-3
    assert np.allclose(decoded, code.decode(codes), rtol=tolerance, atol=tolerance)


@all_codes
@pytest.mark.parametrize("dim", [1, 2, 5, 24])
def test_a_code_can_have_the_bytes_of_its_range_and_no_others(name, dim):
    rows, of_range = latents(30, dim), ALL_CODES[name].byte_range(dim)
    # What is trained takes its time: of those the ends of the range.
    ends = {-1, 0, of_range.start - 1, of_range.start, of_range.stop - 1, of_range.stop}
    for n_bytes in range(-1, 4 * dim + 2) if name in CODES else ends:
        if n_bytes in of_range:
            assert ALL_CODES[name].fit(rows, n_bytes).encode(rows).shape == (30, n_bytes)
        elif not name.endswith("binary") or n_bytes < 1:
            with pytest.raises(ValueError):
                ALL_CODES[name].fit(rows, n_bytes)

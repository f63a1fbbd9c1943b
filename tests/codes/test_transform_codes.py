"""The trellis and the scalar code against slow ones in plain Python."""

import numpy as np
import pytest
from codes.fitted import fitted, latents
from hypothesis import given, settings
from hypothesis import strategies as st

from dploss.codes.allocation import allocate_bits
from dploss.codes.build import fit_code
from dploss.codes.scalar import lloyd_max
from dploss.codes.transform_kernels import pack_states


def states_of(code, row: np.ndarray) -> list[int]:
    """The byte that ends with each axis's bits, of the ring without the byte of the norm."""
    ring = "".join(f"{byte:08b}" for byte in row[:-1])
    ends = np.cumsum(code.bits, dtype=int)
    return [int("".join(ring[(end - 8 + i) % len(ring)] for i in range(8)), 2) for end in ends]


def values_of(code, row: np.ndarray) -> np.ndarray:
    """Coordinates before the norm is restored."""
    deviations = code.deviations.astype(float)
    states = states_of(code, row)
    return np.array([d * float(code.tables[b - 1, s]) for d, b, s in zip(deviations, code.bits, states, strict=True)])


@pytest.mark.parametrize("name", ["trellis", "scalar"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_decoding_is_the_plain_look_up(name, seed):
    code = fitted(name)
    codes = np.random.RandomState(seed).randint(0, 256, (5, 4)).astype(np.uint8)
    points, _ = code.points(codes)
    scale = code.row_scale
    for row, point in zip(codes, points, strict=True):
        low, high = scale.limits
        factor = np.exp(low + (high - low) * row[-1] / 255) ** scale.power
        assert np.allclose(point, factor * values_of(code, row), rtol=1e-5, atol=1e-6)


@given(bits=st.lists(st.integers(1, 8), min_size=1, max_size=20), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_packing_is_a_string_of_bits(bits, seed):
    bits += [1] * (-sum(bits) % 8)
    states = np.random.RandomState(seed).randint(0, 256, (3, len(bits))).astype(np.uint8)
    codes = np.zeros((3, sum(bits) // 8), np.uint8)
    pack_states(states, np.array(bits), codes)
    for row, code in zip(states, codes, strict=True):
        text = "".join(f"{state:08b}"[8 - b :] for state, b in zip(row, bits, strict=True))
        assert text == "".join(f"{byte:08b}" for byte in code)


def costs(code, values: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    return (code.deviations * np.square(values - decoded)).sum(axis=-1)


def cheapest_ring(code, row: np.ndarray) -> float:
    """The least cost of a path that ends in the state it began with, of (256 first states, 256 last ones)."""
    cost = np.where(np.eye(256, dtype=bool), 0.0, np.inf)
    states = np.arange(256)
    for value, deviation, b in zip(row, code.deviations, code.bits.astype(int), strict=True):
        before = [(states >> b) + (high << (8 - b)) for high in range(1 << b)]
        least = np.min([cost[:, states] for states in before], axis=0)
        cost = least + deviation * np.square(value - deviation * code.tables[b - 1])
    return cost.diagonal().min()


def test_the_trellis_path_is_near_the_best_of_all():
    code, rows = fit_code("trellis", latents(400), 10), latents(10, seed=5)
    values = code.project(rows)
    found = costs(code, values, code.unscaled(code.encode(rows))[0])
    best = np.array([cheapest_ring(code, row) for row in values])
    assert (found >= best - 1e-5).all()
    assert found.mean() < 1.1 * best.mean()


def greedy_ring(code, row: np.ndarray) -> np.ndarray:
    """The bits of each axis that are best for it by itself, after those before it, from zeros on."""
    bits = np.zeros(code.bits.sum(dtype=int), int)
    for value, deviation, b, end in zip(row, code.deviations, code.bits, np.cumsum(code.bits, dtype=int), strict=True):
        before = int("".join(map(str, bits[np.arange(end - 8, end - b)])), 2) if b < 8 else 0
        errors = np.abs(value - deviation * code.tables[b - 1, (before << b) + np.arange(1 << b)])
        bits[end - b : end] = list(map(int, f"{errors.argmin():0{b}b}"))
    return np.packbits(bits)


def test_the_trellis_path_costs_no_more_than_a_greedy_one():
    code, rows = fit_code("trellis", latents(400), 6), latents(20, seed=6)
    values, found = code.project(rows), code.unscaled(code.encode(rows))[0]
    for row, path in zip(values, found, strict=True):
        greedy = values_of(code, np.append(greedy_ring(code, row), np.uint8(0)))
        assert costs(code, row, path) <= costs(code, row, greedy) + 1e-5


def test_the_scalar_code_has_the_nearest_level():
    code, rows = fitted("scalar"), latents(50, seed=7)
    for row, value in zip(code.encode(rows), code.project(rows), strict=True):
        for b, state, x, deviation in zip(code.bits, states_of(code, row), value, code.deviations, strict=True):
            errors = np.abs(x - deviation * code.tables[b - 1, : 1 << b])
            assert errors[state % (1 << b)] <= errors.min() + 1e-6


def test_lloyd_max_has_the_published_levels():
    # Max 1960, table I.
    assert np.allclose(lloyd_max(2)[0], [-1.510, -0.4528, 0.4528, 1.510], atol=5e-4)
    errors = [lloyd_max(bits)[1] for bits in range(1, 6)]
    assert np.allclose(errors, [0.3634, 0.1175, 0.03454, 0.009497, 0.002499], rtol=3e-3)
    assert all((np.diff(lloyd_max(bits)[0]) > 0).all() for bits in range(1, 9))


@given(n_bits=st.integers(1, 60), seed=st.integers(0, 99))
def test_bits_add_up_and_follow_the_variances(n_bits, seed):
    variances = np.sort(np.random.RandomState(seed).exponential(size=12))[::-1]
    bits = allocate_bits(variances, n_bits, [1.0, 0.36, 0.12, 0.03, 0.01, 0.002])
    assert bits.sum() == n_bits and bits.max() <= 5
    assert (np.diff(bits) <= 0).all()

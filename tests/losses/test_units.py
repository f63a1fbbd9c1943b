import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dploss.losses.units import power_of_two

TINY = torch.finfo(torch.float32).tiny


@given(st.floats(TINY, 2.0**127, width=32))
def test_it_is_the_power_that_frexp_gives(size):
    assert power_of_two(torch.tensor(size)).item() == math.ldexp(0.5, math.frexp(size)[1])
    assert power_of_two(torch.tensor(size, dtype=torch.float64)).item() == math.ldexp(0.5, math.frexp(size)[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_shape_stay_and_there_is_no_gradient(dtype):
    sizes = torch.tensor([[1.0, 1.5], [3.0, 1000.0]], dtype=dtype, requires_grad=True)
    powers = power_of_two(sizes)
    assert powers.dtype == dtype and not powers.requires_grad
    assert powers.tolist() == [[1, 1], [2, 512]]


@pytest.mark.parametrize("size", [0.0, 1e-42])
def test_below_the_normal_numbers_it_is_the_smallest_of_them(size):
    assert power_of_two(torch.tensor(size)).item() == TINY

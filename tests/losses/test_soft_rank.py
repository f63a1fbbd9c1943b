import numpy as np
import pytest
import references
import torch
from hypothesis import given
from hypothesis import strategies as st

from dploss.losses import sigmoid_sums as cell_sums
from dploss.losses.distance_preserving import pairwise_distances, without_diagonal
from dploss.losses.sigmoid_sums import choose_cells
from dploss.losses.soft_rank import hard_rank, soft_rank

rows_of_floats = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12)
taus = st.floats(0.01, 50)


@given(rows_of_floats)
def test_hard_rank_counts_the_strictly_smaller(row):
    assert hard_rank(torch.tensor(row)).tolist() == references.hard_rank(row)


def test_hard_rank_lets_ties_share():
    assert hard_rank(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [3, 1, 3, 2]


@given(rows_of_floats, taus)
def test_soft_rank_equals_the_plain_sum(row, tau):
    got = soft_rank(torch.tensor(row, dtype=torch.float64), tau)
    np.testing.assert_allclose(got, references.soft_rank(row, tau), rtol=0, atol=1e-9)


@pytest.fixture(params=["cells", "direct"])
def method(request, monkeypatch):
    """Either way to sum, by a cost that makes it the cheaper one."""
    monkeypatch.setattr(cell_sums, "PAIR_COST", {"cells": 1e12, "direct": 0}[request.param])
    return request.param


@pytest.mark.parametrize("tau", [0.05, 0.7, 20])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_the_derivative(method, seed, tau):
    d = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert torch.autograd.gradcheck(lambda d: soft_rank(d, tau), d.requires_grad_())


@pytest.mark.parametrize("kind", ["random", "clustered", "duplicated", "constant", "outlier", "huge", "offset"])
@pytest.mark.parametrize("tau", [0.01, 0.05, 0.3, 1, 3, 10])
def test_float32_is_exact_to_its_own_noise_on_any_row(method, kind, tau):
    d = _rows(kind, torch.Generator().manual_seed(0))
    spread = d.std().clamp_min(1e-3 * d.abs().max())
    exact, grad = _direct(d.double(), tau * spread.double())
    d.requires_grad_()
    ranks = soft_rank(d, tau * spread)
    ranks.backward(_upstream(d))
    assert (ranks - exact).abs().max() < 2e-6 * d.shape[-1]
    assert (d.grad - grad).norm() <= 1e-5 * grad.norm() + 1e-7 * (_upstream(d) / (tau * spread)).norm()


@pytest.mark.parametrize("tau", [0.03, 0.5, 5])
def test_float64_is_exact_to_ten_digits(method, tau):
    d = _rows("random", torch.Generator().manual_seed(0)).double()
    exact, grad = _direct(d, tau * d.std())
    d.requires_grad_()
    ranks = soft_rank(d, tau * d.std().detach())
    ranks.backward(_upstream(d.float()).double())
    assert (ranks - exact).abs().max() < 1e-10 * d.shape[-1]
    assert (d.grad - grad).norm() <= 1e-7 * grad.norm()


@pytest.mark.parametrize("tau", [0.02, 0.1, 1, 5])
def test_the_chosen_cells_are_exact_on_real_distances(builtin, tau):
    d = without_diagonal(pairwise_distances(torch.from_numpy(builtin)))
    spread = d.std().item()
    assert choose_cells((d.amax() - d.amin()).item(), d.amax().item(), tau * spread, *d.shape, d.dtype) is not None
    exact, _ = _direct(d[:20].double(), tau * spread)
    assert (soft_rank(d, tau * spread)[:20] - exact).abs().max() < 2e-6 * d.shape[-1]


def test_short_rows_and_tiny_tau_are_summed_one_by_one():
    assert choose_cells(12, 20, 1, 30, 29, torch.float32) is None
    assert choose_cells(1e9, 1e9, 1e-3, 512, 511, torch.float32) is None
    assert choose_cells(float("inf"), 1, 1, 512, 511, torch.float32) is None


@given(seed=st.integers(0, 2**31), shift=st.floats(-100, 100), tau=st.floats(0.01, 10))
def test_a_rank_depends_on_differences_alone_and_moves_with_its_value(seed, shift, tau):
    d = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ranks, order = soft_rank(d, tau), torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(soft_rank(d + shift, tau), ranks, rtol=0, atol=1e-8)
    torch.testing.assert_close(soft_rank(d[order], tau), ranks[order], rtol=0, atol=1e-8)


def test_no_rows_have_no_ranks():
    assert soft_rank(torch.empty(0, 5), 1.0).shape == (0, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_shape_are_kept(dtype):
    d = torch.rand(2, 3, 5).to(dtype).requires_grad_()
    ranks = soft_rank(d, 0.3)
    assert ranks.dtype == dtype and ranks.shape == d.shape
    ranks.sum().backward()
    assert d.grad.dtype == dtype
    torch.testing.assert_close(ranks.double(), soft_rank(d.double(), 0.3), atol=0.03, rtol=0)


def test_blocks_cover_rows_longer_than_one_chunk():
    d = torch.rand(2, 3000, dtype=torch.float64)
    exact, _ = _direct(d, 0.1)
    torch.testing.assert_close(soft_rank(d, 0.1), exact, atol=1e-7, rtol=0)


def test_small_tau_gives_hard_ranks():
    d = torch.rand(4, 50, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(soft_rank(d, 1e-9), hard_rank(d).float())


def test_input_is_not_changed():
    d = torch.rand(4, 6)
    before = d.clone()
    soft_rank(d, 0.1)
    hard_rank(d)
    assert torch.equal(d, before)


@pytest.mark.parametrize("tau", [0, -1, float("nan"), float("inf")])
def test_bad_tau_is_named(tau):
    with pytest.raises(ValueError, match=f"tau must be .* got {tau}"):
        soft_rank(torch.rand(3, 3), tau)


@pytest.mark.parametrize("d", [torch.tensor(1.0), torch.arange(6).view(2, 3)])
def test_what_is_no_row_of_floats_is_refused(d):
    with pytest.raises(ValueError, match="d must be a floating-point tensor"):
        soft_rank(d, 1.0)


def _rows(kind: str, generator: torch.Generator) -> torch.Tensor:
    d = torch.rand(16, 300, generator=generator) + 1
    if kind == "clustered":
        d = d * 1e-3 + torch.randint(0, 4, d.shape, generator=generator)
    elif kind == "duplicated":
        d = (d * 4).round()
    elif kind == "constant":
        d = torch.ones_like(d)
    elif kind == "outlier":
        d[:, 0] = 1000
    elif kind == "huge":
        d = 1e30 * d
    elif kind == "offset":
        d = d / 1000 + 500
    return d


def _upstream(d: torch.Tensor) -> torch.Tensor:
    return torch.randn(d.shape, generator=torch.Generator().manual_seed(2)).to(d.dtype)


def _direct(d: torch.Tensor, tau: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranks and gradient from all the sigmoids at once, by autograd."""
    d = d.clone().requires_grad_()
    ranks = torch.sigmoid((d[..., :, None] - d[..., None, :]) / tau).sum(-1) + 0.5
    ranks.backward(_upstream(d.detach().float()).to(d.dtype) if d.dtype == torch.float64 else _upstream(d))
    return ranks.detach(), d.grad

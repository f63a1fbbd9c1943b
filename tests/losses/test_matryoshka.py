import pytest
import torch

from dploss.losses.distance_preserving import LOSSES, DPLossV3
from dploss.losses.matryoshka import MatryoshkaLoss


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 8, dtype=torch.float64, generator=generator)
    return x, torch.randn(16, 6, dtype=torch.float64, generator=generator).requires_grad_()


def truncate(z: torch.Tensor, dim: int, norm_share: float = 0.5) -> torch.Tensor:
    """As DPEncoder's, with a norm_power of 1."""
    short = z[:, :dim]
    return short * (z.norm(dim=1, keepdim=True) / short.norm(dim=1, keepdim=True)) ** norm_share


@pytest.mark.parametrize("name", LOSSES)
def test_terms_are_means_over_the_sizes(name, batch):
    x, z = batch
    loss = LOSSES[name](tau=0.5)
    expected = torch.stack([torch.stack(loss(x, truncate(z, dim))) for dim in (2, 4, 6)]).mean(dim=0)
    torch.testing.assert_close(torch.stack(MatryoshkaLoss(loss, (2, 4, 6), truncate)(x, z)), expected)


def test_sizes_pull_by_a_power_of_their_losses_and_the_shortest_more(batch):
    x, z = batch
    loss = DPLossV3()
    (pull,) = torch.autograd.grad(MatryoshkaLoss(loss, (2, 4, 6), truncate)(x, z).total, z)
    powers = [4 * loss(x, truncate(z, dim)).total ** 0.25 for dim in (2, 4, 6)]
    torch.testing.assert_close(pull, torch.autograd.grad((2.5 * powers[0] + powers[1] + powers[2]) / 3, z)[0])


def test_a_size_that_loses_nothing_pulls_at_nothing(batch):
    x, _ = batch
    z = x.clone().requires_grad_()
    MatryoshkaLoss(DPLossV3(), (8,), truncate)(x, z).total.backward()
    assert z.grad.isfinite().all()

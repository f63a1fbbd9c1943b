import pytest
import torch

from dploss.losses import LOSSES, DPLossV3
from dploss.matryoshka import MatryoshkaLoss


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 8, dtype=torch.float64, generator=generator)
    return x, torch.randn(16, 6, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize("name", LOSSES)
def test_terms_are_means_over_the_sizes(name, batch):
    x, z = batch
    loss = LOSSES[name](tau=0.5)
    expected = torch.stack([torch.stack(loss(x, z[:, :dim])) for dim in (2, 4, 6)]).mean(dim=0)
    torch.testing.assert_close(torch.stack(MatryoshkaLoss(loss, (2, 4, 6))(x, z)), expected)


@pytest.mark.parametrize(("progress", "power"), [(0, 0.5), (0.5, 0.75), (0.99, 0.995)])
def test_sizes_pull_by_a_growing_power_of_their_losses_and_the_ends_more(batch, progress, power):
    x, z = batch
    loss, several = DPLossV3(), MatryoshkaLoss(DPLossV3(), (2, 4, 6))
    several.progress = progress
    (pull,) = torch.autograd.grad(several(x, z).total, z)
    powers = [loss(x, z[:, :dim]).total ** (1 - power) / (1 - power) for dim in (2, 4, 6)]
    torch.testing.assert_close(pull, torch.autograd.grad(12.5 * powers[0] + powers[1] + 3.78 * powers[2], z)[0])


def test_a_size_that_loses_nothing_pulls_at_nothing(batch):
    x, _ = batch
    z = x.clone().requires_grad_()
    MatryoshkaLoss(DPLossV3(), (8,))(x, z).total.backward()
    assert z.grad.isfinite().all()

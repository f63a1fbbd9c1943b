import numpy as np
import pytest
import references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dploss.losses.distance_preserving import LOSSES, DPLossV1, DPLossV2, pairwise_distances, without_diagonal

ALL = list(LOSSES)


def batch(rows: int = 12, dim: int = 6, latent: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, dim, dtype=torch.float64, generator=generator),
        torch.randn(rows, latent, dtype=torch.float64, generator=generator),
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(3, 14), k=st.integers(1, 9), tau=st.floats(0.05, 5))
@pytest.mark.parametrize("name", ALL)
def test_value_equals_the_plain_loop(name, seed, rows, k, tau):
    x, z = batch(rows, seed=seed)
    got = LOSSES[name](k=k, lambda_rank=0.7, lambda_pairdist=0.2, tau=tau)(x, z)
    np.testing.assert_allclose(got, references.loss(name, x, z, k, 0.7, 0.2, tau), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_float32_agrees_on_real_rows(name, builtin):
    x = torch.from_numpy(builtin[:64])
    z = x[:, :40].contiguous()
    got = LOSSES[name]()(x, z)
    np.testing.assert_allclose(got, references.loss(name, x, z, 5, 1.0, 0.3, 1.0), rtol=1e-4)


@pytest.mark.parametrize("name", ["DPLossV2", "DPLossV2Norm", "DPLossV3"])
def test_gradient_is_the_derivative(name):
    x, z = batch()
    loss = LOSSES[name](tau=0.5)
    assert torch.autograd.gradcheck(lambda z: loss(x, z).total, z.requires_grad_())


@pytest.mark.parametrize("name", ["DPLossV1", "DPLossV1Norm"])
def test_hard_ranks_lend_their_gradient_from_soft_ones(name):
    x, z = batch()
    loss = LOSSES[name](lambda_pairdist=0, tau=0.5, k=2)
    loss(x, z.requires_grad_()).total.backward()
    assert z.grad.abs().max() > 0

    # The derivative of mean(sign(hard_z - hard_x) * soft_z) / k, from the direct sigmoids.
    soft_z = z.detach().clone().requires_grad_()
    d_x, d_z = without_diagonal(pairwise_distances(x)), without_diagonal(pairwise_distances(soft_z))
    soft = torch.sigmoid((d_z[..., None] - d_z[..., None, :]) / (0.5 * d_x.std(correction=0))).sum(-1)
    hard_x, hard_z = (torch.tensor([references.hard_rank(row) for row in d.tolist()]) for d in (d_x, d_z))
    scale = 2 * (10 if name.endswith("Norm") else 1)
    ((hard_z - hard_x).sign() * soft).mean().div(scale).backward()
    torch.testing.assert_close(z.grad, soft_z.grad)


@pytest.mark.parametrize("name", ALL)
def test_rank_term_alone_can_be_learned(name):
    x, z = batch(rows=24)
    z.requires_grad_()
    loss = LOSSES[name](lambda_pairdist=0)
    optimizer = torch.optim.Adam([z], lr=0.05)
    first = loss(x, z).rank.item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(x, z).total.backward()
        optimizer.step()
    assert loss(x, z).rank.item() < 0.7 * first


@pytest.mark.parametrize("name", ALL)
def test_kept_distances_cost_nothing(name):
    x, _ = batch()
    turned = x @ torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    assert LOSSES[name]()(x, turned).total.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_tau_has_no_units(name):
    x, z = batch()
    rank = LOSSES[name](tau=0.3)(x, z).rank
    torch.testing.assert_close(LOSSES[name](tau=0.3)(1000 * x, 1000 * z).rank, rank)


def test_as_tau_falls_soft_ranks_become_hard_ones():
    x, z = batch()
    hard_x, hard_z = (
        np.array([references.hard_rank(row) for row in references.others(references.distances(v)).tolist()])
        for v in (x, z)
    )
    assert DPLossV2(tau=1e-7)(x, z).rank.item() == pytest.approx(((hard_x - hard_z) ** 2).mean())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rows", ["constant", "duplicated", "equidistant"])
def test_degenerate_batches_stay_finite(name, rows, seed):
    torch.manual_seed(seed)
    x = {
        "constant": torch.ones(6, 4),
        "duplicated": torch.eye(3, 4).repeat(2, 1),
        "equidistant": torch.eye(6),
    }[rows]
    z = (x @ torch.randn(x.shape[1], 2)).requires_grad_()
    terms = LOSSES[name]()(x, z)
    terms.total.backward()
    assert torch.stack(terms).isfinite().all() and z.grad.isfinite().all()


def test_x_gets_no_gradient_and_nothing_is_changed():
    x, z = batch()
    before = x.clone(), z.clone()
    DPLossV1()(x.requires_grad_(), z.requires_grad_()).total.backward()
    assert x.grad is None
    assert torch.equal(x, before[0]) and torch.equal(z, before[1])


@pytest.mark.parametrize("name", ["DPLossV1", "DPLossV2", "DPLossV3"])
def test_a_compiled_loss_is_the_same(name):
    x, z = batch(rows=80)
    loss = LOSSES[name]()
    plain, compiled = z.clone().requires_grad_(), z.clone().requires_grad_()
    expected = loss(x, plain).total
    total = torch.compile(loss, backend="eager")(x, compiled).total
    expected.backward()
    total.backward()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(compiled.grad, plain.grad)


def test_half_precision_is_computed_in_float32():
    x, z = (v.to(torch.bfloat16) for v in batch())
    assert DPLossV2()(x, z).total.dtype == torch.float32


def test_without_diagonal_keeps_the_order():
    d = torch.arange(16).view(4, 4)
    assert without_diagonal(d).tolist() == references.others(d.numpy()).tolist()


@pytest.mark.parametrize(
    ("x", "z", "message"),
    [
        (torch.rand(2, 4), torch.rand(2, 4), "x must have at least 3 rows.*got 2"),
        (torch.rand(4, 4), torch.rand(5, 4), "same rows, got 4 and 5"),
        (torch.rand(4), torch.rand(4, 2), r"x must be a floating-point matrix.*\(4,\)"),
        (torch.rand(4, 4), torch.ones(4, 2, dtype=torch.int64), "z must be a floating-point matrix.*int64"),
        (
            torch.rand(4, 4),
            torch.tensor([[0.0, 1], [1, 2], [1, float("nan")], [2, 2]]),
            r"z must be finite, got nan at \[2, 1\]",
        ),
        (torch.full((4, 4), float("inf")), torch.rand(4, 2), r"x must be finite, got inf at \[0, 0\]"),
    ],
)
def test_bad_batches_are_named(x, z, message):
    with pytest.raises(ValueError, match=message):
        DPLossV2()(x, z)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("k", 0),
        ("tau", 0),
        ("tau", -1),
        ("tau", float("nan")),
        ("lambda_rank", -0.1),
        ("lambda_pairdist", float("inf")),
    ],
)
def test_bad_arguments_are_named_with_their_value(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .* got {value}"):
        DPLossV2(**{argument: value})


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("unit", [2.0**-100, 2.0**-83, 2.0**60])
def test_units_change_no_bit_of_the_rank_term_and_its_gradient(name, unit):
    x, z = (v.float() for v in batch(rows=40))
    loss = LOSSES[name](tau=0.3, lambda_pairdist=0)
    grads = []
    for scale in (1.0, unit):
        scaled = (scale * z).requires_grad_()
        rank = loss(scale * x, scaled).rank
        rank.backward()
        grads.append((rank.item(), scaled.grad * scale))
    assert grads[0][0] == grads[1][0] > 0
    torch.testing.assert_close(grads[0][1], grads[1][1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-40, 1e-25, 1e25])
def test_distances_have_the_unit_of_the_rows(unit):
    rows = batch()[0]
    got = pairwise_distances((rows * unit).float()).double() / unit
    np.testing.assert_allclose(got.fill_diagonal_(0), references.distances(rows), rtol=1e-3)

"""What a step minimises: the loss between vectors and latents; of images the reconstruction error, too."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from dploss.config import TrainConfig
from dploss.losses.distance_preserving import LOSSES, DPLoss, LossTerms
from dploss.losses.matryoshka import NORM_SHARE, MatryoshkaLoss
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder
from dploss.training.query_objective import QueryObjective

# V1 and V2 are trained as their Norm siblings: the gradient of the ranks is theirs divided by (B - 2)^power, so that
# neither the batch size nor tau drowns the pair distances, which hold the scale of the latents.
_TRAINED_AS = {"DPLossV1": ("DPLossV1Norm", 1), "DPLossV2": ("DPLossV2Norm", 2)}
# (B, D) rows and their (B, d) latents, and of queries with a side of their own what QueryObjective takes -> the terms;
# raises ValueError where a value is not finite.
Objective = Callable[..., LossTerms]


def objective_of(config: TrainConfig, encoder: DPEncoder | ConvAutoencoder) -> Objective:
    """The objective of a training.

    Args:
        config: the settings of the loss.
        encoder: the one that is trained.
    """
    _, power = _TRAINED_AS.get(config.loss_function, ("", 0))
    loss = loss_of(config)
    objective: Objective
    if isinstance(encoder, AsymmetricEncoder):
        objective = QueryObjective(loss, encoder, _truncation(encoder))
    elif isinstance(encoder, ConvAutoencoder):
        objective = partial(_with_reconstruction, loss, encoder, config.lambda_recon)
    elif config.matryoshka:
        objective = in_units_of_scale(MatryoshkaLoss(loss, config.matryoshka_dims, encoder.truncate), encoder)
    else:
        objective = in_units_of_scale(loss, encoder)
    return partial(_of_unscaled_ranks, objective, config.lambda_rank, power) if power else objective


def loss_of(config: TrainConfig) -> DPLoss:
    """The loss whose gradient trains: that of the Norm sibling, where there is one."""
    name, _ = _TRAINED_AS.get(config.loss_function, (config.loss_function, 0))
    return LOSSES[name](
        k=config.k, lambda_rank=config.lambda_rank, lambda_pairdist=config.lambda_pairdist, tau=config.tau
    )


def _of_unscaled_ranks(objective: Objective, lambda_rank: float, power: int, x: Tensor, *others: Tensor) -> LossTerms:
    """The terms with the value of ranks 1..B-1 and the gradient of ranks scaled to 0..1."""
    terms = objective(x, *others)
    rank = terms.rank * (len(x) - 2) ** power
    value = (terms.total + lambda_rank * (rank - terms.rank)).detach()
    return terms._replace(total=value + (terms.total - terms.total.detach()), rank=rank)


def _truncation(encoder: AsymmetricEncoder) -> Callable[[Tensor, int], Tensor]:
    """Latents as they are, or where there are several sizes truncated as by the Matryoshka loss."""
    return (lambda z, _: z) if len(encoder.dims) == 1 else partial(encoder.truncate, norm_share=NORM_SHARE)


def in_units_of_scale(loss: nn.Module, encoder: DPEncoder) -> Objective:
    """A loss in units of the encoder's scale: norms are near 1, and the pair distance term weighs the same in any unit.

    Args:
        loss: x (B, D), z (B, d) -> LossTerms.
        encoder: the one that is trained.
    """
    return lambda x, z: _compare(loss, x, z, encoder.scale * x.shape[1] ** 0.5)


def _with_reconstruction(
    loss: nn.Module, autoencoder: ConvAutoencoder, weight: float, x: Tensor, z: Tensor
) -> LossTerms:
    """Pixels keep their units; the error is per image, summed over pixels, in units of squared distances as well."""
    terms = _compare(loss, x, z, 1.0)
    error = (autoencoder.decode(z) - x).square().sum(dim=-1).mean()
    return terms._replace(total=terms.total + weight * error)


def _compare(loss: nn.Module, x: Tensor, z: Tensor, unit: Tensor | float) -> LossTerms:
    return loss(x / unit, z / unit)

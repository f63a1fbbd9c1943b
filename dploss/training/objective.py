"""What a step minimises: the loss between vectors and latents; of images the reconstruction error, too."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from dploss.config import TrainConfig
from dploss.losses.distance_preserving import LOSSES, LossTerms
from dploss.losses.matryoshka import MatryoshkaLoss
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder

# (B, D) rows and their (B, d) latents -> the terms; raises ValueError where a value is not finite.
Objective = Callable[[Tensor, Tensor], LossTerms]


def objective_of(config: TrainConfig, encoder: DPEncoder | ConvAutoencoder) -> Objective:
    """The objective of a training.

    Args:
        config: the settings of the loss.
        encoder: the one that is trained.
    """
    loss = LOSSES[config.loss_function](
        k=config.k, lambda_rank=config.lambda_rank, lambda_pairdist=config.lambda_pairdist, tau=config.tau
    )
    if isinstance(encoder, ConvAutoencoder):
        return partial(_with_reconstruction, loss, encoder, config.lambda_recon)
    if config.matryoshka:
        return in_units_of_scale(MatryoshkaLoss(loss, config.matryoshka_dims, encoder.truncate), encoder)
    return in_units_of_scale(loss, encoder)


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

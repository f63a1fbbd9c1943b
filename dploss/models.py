"""From settings, or from a checkpoint, to the encoder that they describe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dploss.autoencoder import ConvAutoencoder
from dploss.checkpoints import load_checkpoint
from dploss.encoder import DPEncoder
from dploss.errors import InputError


def build_encoder(record: Mapping[str, Any]) -> DPEncoder | ConvAutoencoder:
    """A fresh encoder with random weights.

    Args:
        record: what config.json holds: input_dim, latent_dim and, for vectors, hidden_dims, metric and dropout, for
            images, image_size.
    """
    if record.get("images"):
        return ConvAutoencoder(record["image_size"], record["latent_dim"])
    settings = (record[name] for name in ("input_dim", "hidden_dims", "latent_dim", "metric", "dropout"))
    return DPEncoder(*settings)


def load_encoder(path: str | Path) -> DPEncoder | ConvAutoencoder:
    """Rebuild the encoder from any `.pth` (or best.pt) of an experiment.

    Args:
        path: the checkpoint.

    Returns:
        The encoder on the CPU, in evaluation mode.

    Raises:
        InputError: no file there, not a checkpoint of ours, or weights that do not fit its config.
    """
    return encoder_of(load_checkpoint(path), path)


def encoder_of(checkpoint: Mapping[str, Any], path: str | Path) -> DPEncoder | ConvAutoencoder:
    """Rebuild the encoder from a checkpoint's content.

    Args:
        checkpoint: what `load_checkpoint` returned.
        path: where it came from, for messages.

    Returns:
        The encoder on the CPU, in evaluation mode.

    Raises:
        InputError: weights that do not fit the checkpoint's config.
    """
    try:
        encoder = build_encoder(checkpoint["config"])
        encoder.load_state_dict(checkpoint["model_state_dict"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: weights and config do not make an encoder: {error}") from error
    return encoder.eval()

"""From settings, or from a checkpoint, to the encoder that they describe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.experiments.checkpoints import load_checkpoint
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder


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
    record, weights = checkpoint["config"], checkpoint["model_state_dict"]
    try:
        # A config can claim any size: nothing is allocated before the weights have been seen to fit it.
        with torch.device("meta"):
            encoder = build_encoder({**record, **_checked(record, len(weights))})
        expected = encoder.state_dict()
        odd = [name for name, one in weights.items() if name in expected and one.dtype != expected[name].dtype]
        if odd:
            raise TypeError(f"{odd[0]} is of another dtype")
        encoder.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: weights and config do not make an encoder: {error}") from error
    return encoder.eval()


def _checked(record: Mapping[str, Any], tensors: int) -> dict[str, Any]:
    """The settings of a config that `tensors` weights can be built by.

    Raises:
        ValueError: one is missing, of another kind, or beyond its range.
    """
    config = TrainConfig.from_experiment(record)
    if config.images is None and not (type(record["input_dim"]) is int and config.latent_dim <= record["input_dim"]):
        raise ValueError(f"input_dim is {record['input_dim']!r}, latent_dim {config.latent_dim}")
    if len(config.hidden_dims) > tensors:
        raise ValueError(f"hidden_dims has {len(config.hidden_dims)} layers")
    return config.as_dict()

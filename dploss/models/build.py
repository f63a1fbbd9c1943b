"""Build encoders: from settings, or from a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dploss.codes.build import code_of
from dploss.codes.code import Code
from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.experiments.catalog import find_checkpoint
from dploss.experiments.checkpoints import Checkpoint, load_checkpoint
from dploss.experiments.record import ExperimentRecord
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.base import Encoder
from dploss.models.encoder import DPEncoder
from dploss.text import counted


def build_encoder(config: TrainConfig, input_dim: int) -> DPEncoder | ConvAutoencoder:
    """A new encoder with random weights.

    Args:
        config: the settings.
        input_dim: D, dimensions of a vector; an image's follow from its size.
    """
    if config.images is not None:
        return ConvAutoencoder(config.image_size, config.latent_dim)
    kind = AsymmetricEncoder if config.is_asymmetric else DPEncoder
    return kind(input_dim, config.hidden_dims, config.latent_dim, config.metric, config.dropout, config.matryoshka_dims)


def load_encoder(
    reference: str | Path, checkpoints_dir: str | Path = TrainConfig.checkpoints_dir
) -> DPEncoder | ConvAutoencoder:
    """Rebuild an encoder that train.py trained.

    Args:
        reference: a checkpoint (.pth, .pt); the folder of an experiment, of which it is the best checkpoint, else the
            latest; the experiment's id, or a prefix that only it has; or a folder that `dploss.share` wrote.
        checkpoints_dir: the folder of all experiments, for an id.

    Returns:
        The encoder on the CPU, in evaluation mode.

    Raises:
        InputError: there is none, a file that is no checkpoint, or weights that do not fit its config.
    """
    path = find_checkpoint(reference, checkpoints_dir)
    return encoder_of(load_checkpoint(path), path)


def encoder_of(checkpoint: Checkpoint, path: str | Path) -> DPEncoder | ConvAutoencoder:
    """Rebuild the encoder from a checkpoint's content.

    Args:
        checkpoint: as `load_checkpoint` returns it.
        path: of its file, for messages.

    Returns:
        The encoder on the CPU, in evaluation mode.

    Raises:
        InputError: weights that do not fit the checkpoint's config.
    """
    weights = checkpoint["model_state_dict"]
    try:
        record = ExperimentRecord.from_dict(checkpoint["config"])
        _check(record, len(weights))
        # A config can declare any size: no memory is allocated before the weights are known to fit it.
        with torch.device("meta"):
            encoder = build_encoder(record.config, record.input_dim)
        expected = encoder.state_dict()
        odd = [name for name, one in weights.items() if name in expected and one.dtype != expected[name].dtype]
        if odd:
            raise TypeError(f"{odd[0]} is {weights[odd[0]].dtype}, expected {expected[odd[0]].dtype}")
        encoder.load_state_dict(weights, assign=True)
        if checkpoint.get("code") is not None:
            encoder.code = code_for(checkpoint["code"], encoder)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: weights do not fit the config: {error}") from error
    return encoder.eval()


def code_for(state: Mapping[str, Any], encoder: Encoder) -> Code:
    """The code that `Code.state_dict` was called on, for the latents of an encoder.

    Raises:
        KeyError, TypeError, ValueError: it is no state of a code, or one of other latents.
    """
    code = code_of(state)
    if code.dim != encoder.latent_dim:
        raise ValueError(f"the code is of {counted(code.dim, 'dimension')}, latent_dim is {encoder.latent_dim}")
    if code.metric != encoder.latent_metric:
        raise ValueError(f"the code is for {code.metric}, latents are compared by {encoder.latent_metric}")
    return code


def _check(record: ExperimentRecord, n_tensors: int) -> None:
    """Refuse settings that `n_tensors` weights cannot be built by.

    Raises:
        ValueError: a setting beyond its range.
    """
    config = record.config
    if config.images is None and config.latent_dim > record.input_dim:
        raise ValueError(f"input_dim is {record.input_dim}, latent_dim {config.latent_dim}")
    if len(config.hidden_dims) > n_tensors:
        raise ValueError(f"hidden_dims has {len(config.hidden_dims)} layers")

"""HunyuanDiT: loading its parts, the denoising loss, and sampling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import HunyuanDiTPipeline
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from metrics import InputError

PREDICTIONS = ("epsilon", "v_prediction")
# The most tokens of a text, of the BERT-style CLIP and of mT5.
_TOKENS = (77, 256)


def load_pipeline(source: str | Path) -> HunyuanDiTPipeline:
    """Load all parts of HunyuanDiT.

    Args:
        source: a folder in diffusers' layout, or a repository of the Hugging Face hub.

    Raises:
        InputError: there is none, it cannot be reached, or it is another model.
    """
    try:
        pipeline = HunyuanDiTPipeline.from_pretrained(
            str(source), safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    except Exception as error:
        # Each of the libraries below has its own errors for a wrong folder or repository.
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"--pretrained {source}: no HunyuanDiT in diffusers' layout there ({reason})") from error
    if pipeline.scheduler.config.prediction_type not in PREDICTIONS:
        raise InputError(
            f"--pretrained {source}: its scheduler's prediction_type must be one of {', '.join(PREDICTIONS)}"
        )
    return pipeline


def place(pipeline: HunyuanDiTPipeline, device: torch.device, frozen_dtype: torch.dtype) -> None:
    """Move the parts to the device: the transformer to be trained, the others frozen.

    The transformer and the autoencoder stay in float32: the former is trained, the latter easily overflows in half
    precision.

    Args:
        pipeline: all parts; changed in place.
        device: where to train.
        frozen_dtype: of the text encoders.
    """
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.requires_grad_(False).eval()
    pipeline.text_encoder.to(device, frozen_dtype)
    pipeline.text_encoder_2.to(device, frozen_dtype)
    pipeline.vae.to(device, torch.float32)
    pipeline.transformer.to(device, torch.float32).requires_grad_(True).train()


def generator_of(*key: int) -> torch.Generator:
    """A generator seeded by the key alone; it draws on the CPU, so the numbers are the same for every device."""
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed))


def denoising_loss(
    pipeline: HunyuanDiTPipeline,
    transformer: nn.Module,
    pixels: Tensor,
    captions: Sequence[str],
    generator: torch.Generator,
) -> Tensor:
    """The mean squared error of the transformer's prediction of the noise, or of v, as the scheduler asks for.

    Of its 2C output channels the first C are the prediction. The others, the learned variance, are used neither by
    diffusers' schedulers nor by this loss.

    Args:
        pipeline: the other parts, and the schedule.
        transformer: the pipeline's, wrapped for training or as it is.
        pixels: (B, 3, S, S) within -1..1, square, on any device.
        captions: B texts.
        generator: draws the latents, the noise and the timesteps.

    Returns:
        A float32 scalar with a gradient.
    """
    model, schedule = pipeline.transformer, pipeline.scheduler
    device, dtype = model.device, model.dtype
    with torch.no_grad():
        encoded = pipeline.vae.encode(pixels.to(device)).latent_dist
        latents = encoded.sample(generator) * pipeline.vae.config.scaling_factor
    noise = randn_tensor(latents.shape, generator=generator, device=device, dtype=latents.dtype)
    steps = schedule.config.num_train_timesteps
    timesteps = torch.randint(steps, (len(latents),), generator=generator).to(device)
    noisy = schedule.add_noise(latents, noise, timesteps)
    predicted = transformer(
        noisy.to(dtype),
        timesteps.to(dtype),
        **text_conditions(pipeline, captions),
        **size_conditions(pipeline, len(latents), pixels.shape[-1]),
        return_dict=False,
    )[0]
    predicted = predicted[:, : latents.shape[1]]
    target = noise if schedule.config.prediction_type == "epsilon" else schedule.get_velocity(latents, noise, timesteps)
    return nn.functional.mse_loss(predicted.float(), target.float())


@torch.no_grad()
def text_conditions(pipeline: HunyuanDiTPipeline, captions: Sequence[str]) -> dict[str, Tensor]:
    """The transformer's inputs for the captions: states and masks of both text encoders, as in sampling."""
    conditions = {}
    for index, (tokens, suffix) in enumerate(zip(_TOKENS, ("", "_t5"), strict=True)):
        states, _, mask, _ = pipeline.encode_prompt(
            list(captions),
            dtype=pipeline.transformer.dtype,
            device=pipeline.transformer.device,
            do_classifier_free_guidance=False,
            max_sequence_length=tokens,
            text_encoder_index=index,
        )
        conditions[f"encoder_hidden_states{suffix}"] = states
        conditions[f"text_embedding_mask{suffix}"] = mask
    return conditions


def size_conditions(pipeline: HunyuanDiTPipeline, n_images: int, image_size: int) -> dict[str, Any]:
    """The transformer's inputs for the images' size, style and grid, as in sampling.

    Args:
        pipeline: all parts.
        n_images: the batch size.
        image_size: pixels along a side.
    """
    model = pipeline.transformer
    grid = image_size // 8 // model.config.patch_size
    base = 512 // 8 // model.config.patch_size
    rotary = get_2d_rotary_pos_embed(
        model.inner_dim // model.num_heads,
        get_resize_crop_region_for_grid((grid, grid), base),
        (grid, grid),
        device=model.device,
        output_type="pt",
    )
    # Original size, target size, and the crop's top left corner.
    sizes = torch.tensor([image_size] * 4 + [0, 0], dtype=model.dtype, device=model.device)
    style = torch.zeros(n_images, dtype=torch.long, device=model.device)
    return {"image_meta_size": sizes.repeat(n_images, 1), "style": style, "image_rotary_emb": rotary}


def sample(
    pipeline: HunyuanDiTPipeline, prompts: Sequence[str], seeds: Sequence[int], image_size: int, steps: int
) -> list[Any]:
    """Generate an image for every prompt; the same seed gives the same image, whatever else is in the batch.

    Args:
        pipeline: all parts.
        prompts: texts.
        seeds: one for each prompt.
        image_size: pixels along a side.
        steps: of denoising.

    Returns:
        PIL images.
    """
    dtype = pipeline.transformer.dtype
    with torch.autocast(pipeline.transformer.device.type, dtype, enabled=dtype != torch.float32):
        return pipeline(
            list(prompts),
            height=image_size,
            width=image_size,
            num_inference_steps=steps,
            original_size=(image_size, image_size),
            use_resolution_binning=False,
            generator=[generator_of(seed) for seed in seeds],
        ).images

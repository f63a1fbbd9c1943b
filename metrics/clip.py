"""CLIP: images and texts in one space, for CLIP score and CMMD."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from metrics.errors import InputError, Unavailable
from metrics.model import SharedModel
from metrics.weights import existing, require_network

if TYPE_CHECKING:
    from collections.abc import Callable

LOCAL = "local-dir:"


class Towers(NamedTuple):
    """A loaded model with its own preprocessing and tokenizer."""

    model: Any
    preprocess: "Callable[[Image.Image], Tensor]"
    tokenize: "Callable[[list[str]], Tensor]"


class CLIP(SharedModel[Towers]):
    """A CLIP model of open_clip.

    Args:
        model: An open_clip model.
        pretrained: The model's trained weights: an open_clip tag, a file, or "local-dir:FOLDER" with a configuration
            and weights (`model` is then ignored). Untrained models are refused.
        device: Where it runs.
    """

    def __init__(
        self,
        model: str = "ViT-B-32",
        pretrained: str | Path = "laion2b_s34b_b79k",
        device: str | torch.device = "cpu",
    ) -> None:
        if not pretrained:
            raise InputError("CLIP needs pretrained weights: a tag of open_clip, a file, or local-dir:FOLDER")
        super().__init__(device)
        self._model, self._pretrained = model, str(pretrained)

    def _load(self) -> tuple[Towers, Path]:
        name, path, settings = _find(self._model, self._pretrained)
        return _towers(name, path, settings, self.device), path

    def _run(self, network: Towers, images: Tensor) -> Tensor:
        prepared = [network.preprocess(Image.fromarray(image.movedim(0, 2).cpu().numpy())) for image in images]
        return network.model.encode_image(torch.stack(prepared).to(self.device)).float().cpu()

    def images(self, images: Tensor) -> Tensor:
        """Embeddings of uint8 images (n, 3, height, width), of any norm, on the CPU: (n, d)."""
        return self(images)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of texts, of any norm, on the CPU: (n, d)."""
        network = self.prepare()
        return network.model.encode_text(network.tokenize(list(texts)).to(self.device)).float().cpu()


def _find(model: str, pretrained: str) -> tuple[str, Path, dict]:
    """The model's name, its weight file, and the settings of open_clip that go with it."""
    from open_clip import get_model_config
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    if pretrained.startswith(LOCAL):
        folder = Path(pretrained.removeprefix(LOCAL))
        if not (folder / "open_clip_config.json").is_file():
            raise InputError(f"{folder}: no folder with an open_clip_config.json")
        files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pth")]
        if len(files) != 1:
            raise InputError(f"{folder}: one weight file expected (.safetensors, .bin or .pth), found {len(files)}")
        return pretrained, files[0], {}
    if get_model_config(model) is None:
        raise InputError(f"open_clip has no model {model!r}")
    if Path(pretrained).is_file():
        return model, Path(pretrained), {}
    tag = get_pretrained_cfg(model, pretrained)
    if not tag:
        if os.sep in pretrained or Path(pretrained).suffix:
            existing(pretrained)
        tags = ", ".join(list_pretrained_tags_by_model(model)) or "none"
        raise InputError(f"{pretrained!r} is neither a file nor a tag of {model}; its tags: {tags}")
    settings = {f"image_{key}": tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}
    return model, _tagged_file(tag), settings | {"force_quick_gelu": tag.get("quick_gelu", False)}


def _tagged_file(tag: dict) -> Path:
    """The tag's file from the cache, or downloaded.

    open_clip itself asks the network even for cached files, and offline it retries for most of a minute.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from open_clip.pretrained import download_pretrained

    repository, _, name = tag.get("hf_hub", "").rpartition("/")
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    for candidate in names if repository else []:
        cached = try_to_load_from_cache(repository, candidate)
        if isinstance(cached, str):
            return Path(cached)
    if repository and constants.HF_HUB_OFFLINE:
        raise Unavailable("its weights are not on this machine, and HF_HUB_OFFLINE is set")
    require_network(constants.ENDPOINT if repository else tag["url"])
    try:
        return Path(download_pretrained(tag))
    except OSError as error:
        raise Unavailable(f"its weights are not on this machine, and cannot be downloaded ({error})") from error


def _towers(name: str, path: Path, settings: dict, device: torch.device) -> Towers:
    import open_clip

    source = {} if name.startswith(LOCAL) else {"pretrained": str(path)}
    with torch.random.fork_rng(devices=[]):
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                name, **source, **settings, require_pretrained=True
            )
        except Exception as error:
            # A file that is no such model leads pickle, torch and open_clip to errors of many types.
            raise InputError(f"{path}: not the weights of {name} ({str(error)[:200]})") from error
    return Towers(model.eval().to(device), preprocess, open_clip.get_tokenizer(name))

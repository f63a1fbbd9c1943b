"""CLIP score: does the image show what the text says?"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from metrics.errors import InputError, Unavailable
from metrics.metric import MeanMetric
from metrics.weights import existing, provenance, require_network

Embed = Callable[[Tensor, Sequence[str]], tuple[Tensor, Tensor]]

LOCAL = "local-dir:"


class CLIPScore(MeanMetric):
    """2.5 * max(cos(image, text), 0), the mean over the pairs, clipped at 1: range 0..1 (Hessel et al. 2021).

    arXiv:2104.08718. The texts are used as given; to follow the paper exactly, prefix each with "A photo depicts". A
    model reads only the first 77 tokens of a text. Scores of different models are not comparable.

    Args:
        model: An open_clip model.
        pretrained: The model's trained weights: an open_clip tag, a file, or "local-dir:FOLDER" with a configuration
            and weights (`model` is then ignored). Untrained models are refused.
        device: Where it runs.
        embed: Another model instead: uint8 images (n, 3, height, width), n texts -> embeddings of the images and of
            the texts, (n, d) each, of any norm.
    """

    name = "clip_score"
    higher_is_better = True
    value_range = (0.0, 1.0)
    needs_prompts = True

    def __init__(
        self,
        model: str = "ViT-B-32",
        pretrained: str | Path = "laion2b_s34b_b79k",
        device: str | torch.device = "cpu",
        embed: Embed | None = None,
    ) -> None:
        if not pretrained and embed is None:
            raise InputError("CLIP score needs pretrained weights: a tag of open_clip, a file, or local-dir:FOLDER")
        super().__init__()
        self._model, self._pretrained, self._device = model, str(pretrained), torch.device(device)
        self._custom = self._embed = embed
        self._weights: dict[str, str] | None = None

    def prepare(self) -> None:
        """Load the model; see `Metric.prepare`."""
        if self._embed is None:
            name, path, settings = _find(self._model, self._pretrained)
            self._embed = _load(name, path, settings, self._device)
            self._weights = provenance(path)

    def values(self, generated: Tensor, references: Tensor | None, prompts: Sequence[str] | None) -> Tensor:
        """The score of each pair, (n,); it may exceed 1."""
        self.prepare()
        assert prompts is not None and self._embed is not None
        with torch.inference_mode():
            images, texts = self._embed(generated, prompts)
            return 2.5 * F.cosine_similarity(images.float(), texts.float()).clamp(min=0).cpu()

    def compute(self) -> float:
        """The mean over the pairs, at most 1."""
        return min(1.0, super().compute())

    def weights(self) -> dict[str, str] | None:
        """The model's file; see `Metric.weights`."""
        return self._weights

    def release(self) -> None:
        """Free the model."""
        self._embed = self._custom


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


def _load(name: str, path: Path, settings: dict, device: torch.device) -> Embed:
    """The model with its own preprocessing and tokenizer, as one function."""
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
    model.eval().to(device)
    tokenize = open_clip.get_tokenizer(name)

    def embed(images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        prepared = [preprocess(Image.fromarray(image.movedim(0, 2).cpu().numpy())) for image in images]
        return (
            model.encode_image(torch.stack(prepared).to(device)),
            model.encode_text(tokenize(list(texts)).to(device)),
        )

    return embed

"""ShortEmbedding: an encoder as a module of a SentenceTransformer, which then encodes texts as short vectors.

Needs the package of the extra `sentence-transformers`.
"""

from pathlib import Path
from typing import Any

from sentence_transformers.base.modules import Module
from torch import Tensor

from dploss.errors import InputError
from dploss.models.build import load_encoder
from dploss.models.encoder import DPEncoder

# What DPEncoder is built from.
_SETTINGS = ("input_dim", "hidden_dims", "latent_dim", "metric", "dropout")
# Where the library looks for files.
_WHERE = ("subfolder", "token", "cache_folder", "revision", "local_files_only")


class ShortEmbedding(Module):
    """The last module: shortens sentence embeddings. It is trained with the others where the model is trained on.

    Short vectors keep Euclidean distances, also where the encoder's metric is cosine, so give the model
    similarity_fn_name="euclidean".

    A model of version 6 and later loads modules that are not the library's own only with trust_remote_code=True. That
    holds for the whole model: say so only of one that you made, or trust.

    Args:
        encoder: of vectors like the model's, or the checkpoint that it is in.
        dim: give the first so many numbers of every latent, 1..d, brought back to length (see DPEncoder.cut); all if
            None. For a Matryoshka encoder. The library's own truncate_dim leaves them shorter, some more than others,
            which only cosine similarity does not see.

    Raises:
        InputError: a checkpoint that cannot be read, an encoder of images, or a dim outside 1..d.
    """

    def __init__(self, encoder: DPEncoder | str | Path, dim: int | None = None) -> None:
        super().__init__()
        encoder = load_encoder(encoder) if isinstance(encoder, str | Path) else encoder
        if not isinstance(encoder, DPEncoder):
            raise InputError(f"encoder must be a DPEncoder, one of vectors, got a {type(encoder).__name__}")
        if dim is not None and not 1 <= dim <= encoder.latent_dim:
            raise InputError(f"dim must be within 1 and {encoder.latent_dim}, got {dim}")
        self.encoder = encoder
        self.dim = encoder.latent_dim if dim is None else dim

    def forward(self, features: dict[str, Tensor | Any]) -> dict[str, Tensor | Any]:
        """Replace features["sentence_embedding"], (n, D), by its short form, (n, dim), in the encoder's precision.

        Raises:
            ValueError: the sentence embeddings are not as long as the encoder's vectors.
        """
        long = features["sentence_embedding"]
        if long.shape[-1] != self.encoder.input_dim:
            raise ValueError(
                f"the sentence embeddings have {long.shape[-1]} numbers, the encoder was trained on vectors of "
                f"{self.encoder.input_dim}: take the model that these were made with"
            )
        features["sentence_embedding"] = self.encoder.cut(self.encoder(long.to(self.encoder.mean.dtype)), self.dim)
        return features

    def get_embedding_dimension(self) -> int:
        """Numbers in a short vector."""
        return self.dim

    def get_config_dict(self) -> dict[str, Any]:
        """What config.json holds: the arguments of DPEncoder, and dim."""
        return {name: getattr(self.encoder, name) for name in _SETTINGS} | {"dim": self.dim}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write config.json and model.safetensors."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, **options: Any) -> "ShortEmbedding":
        """Read what `save` wrote, from a folder or from the hub; nothing in it is executed.

        Args:
            model_name_or_path: the folder or the name of the whole model.
            options: subfolder, token, cache_folder, revision and local_files_only say where in it; others are not for
                this module.
        """
        where = {name: options[name] for name in _WHERE if name in options}
        config = cls.load_config(model_name_or_path, **where)
        dim = config.pop("dim")
        return cls.load_torch_weights(model_name_or_path, model=cls(DPEncoder(**config), dim), **where)

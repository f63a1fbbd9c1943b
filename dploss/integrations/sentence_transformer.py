"""ShortEmbedding: an encoder as a module of a SentenceTransformer, which then encodes texts as latents.

Needs the extra `sentence-transformers`: pip install 'dploss[sentence-transformers]'.
"""

from pathlib import Path
from typing import Any, ClassVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Module
from torch import Tensor

from dploss.errors import InputError
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.build import code_for, load_encoder
from dploss.models.encoder import DPEncoder
from dploss.text import counted

# The arguments of DPEncoder.
_SETTINGS = ("input_dim", "hidden_dims", "latent_dim", "metric", "dropout", "dims")
# Where sentence-transformers looks for files.
_LOCATION = ("subfolder", "token", "cache_folder", "revision", "local_files_only")
_CODE_FILE = "code.safetensors"


class ShortEmbedding(Module):
    """The last module of a model: reduces the sentence embeddings. Fine-tuning the model trains it, too.

    The code of an encoder that was trained with --bytes goes along: `encoder.code.encode(model.encode(texts))` gives
    codes, `encoder.code.score(model.encode(queries), codes)` compares them.
    Fine-tuning does not fit it anew.

    Latents keep Euclidean distances, also where the encoder's metric is cosine, so give the model
    similarity_fn_name="euclidean". Those of an AsymmetricEncoder keep inner products, similarity_fn_name="dot": then
    the model's encode_query gives latents of queries, and encode_document, as encode, those of rows.

    From sentence-transformers 6 on, modules from other packages load only with trust_remote_code=True. That applies to
    the whole model: use it only for models that you made or trust.

    Args:
        encoder: trained on embeddings of the same model, or what `load_encoder` takes.
        dim: truncate the latents to their first `dim` dimensions, norm restored (see DPEncoder.truncate): one of the
            encoder's `dims`; all if None. The library's own truncate_dim does not restore norms, which changes
            Euclidean distances, though not cosine similarities.
        any_dim: allow any dim, 1..d, also one that the encoder was not trained for.

    Raises:
        InputError: the encoder cannot be loaded, is one of images, or a dim that is not allowed.
    """

    # What of encode_query and encode_document comes to `forward`.
    forward_kwargs: ClassVar[set[str]] = {"task"}  # type: ignore[misc]  # the library has it without ClassVar

    def __init__(self, encoder: DPEncoder | str | Path, dim: int | None = None, *, any_dim: bool = False) -> None:
        super().__init__()
        model = load_encoder(encoder) if isinstance(encoder, str | Path) else encoder
        if not isinstance(model, DPEncoder):
            raise InputError(f"encoder must be a DPEncoder, an encoder of vectors, got a {type(model).__name__}")
        self.encoder = model
        self.dim = model.checked_dim(dim, any_dim)

    def forward(
        self, features: dict[str, Tensor | Any], task: str | None = None, **kwargs: Any
    ) -> dict[str, Tensor | Any]:
        """Replace features["sentence_embedding"], (n, D), by its latents, (n, dim), in the encoder's precision.

        Args:
            features: of the modules before.
            task: "query" for latents of queries; None: features["task"], which a Router leaves there.
            kwargs: ignored.

        Raises:
            ValueError: the sentence embeddings have another dimension than the encoder's vectors.
        """
        embeddings = features["sentence_embedding"]
        if embeddings.shape[-1] != self.encoder.input_dim:
            dimensions = counted(embeddings.shape[-1], "dimension")
            raise ValueError(
                f"the sentence embeddings have {dimensions}, the encoder was trained on vectors of "
                f"{self.encoder.input_dim}: use the model that those were made with"
            )
        embeddings = embeddings.to(self.encoder.mean.dtype)
        if (task or features.get("task")) == "query" and isinstance(self.encoder, AsymmetricEncoder):
            features["sentence_embedding"] = self.encoder.query_latents(embeddings)[..., : self.dim]
        else:
            features["sentence_embedding"] = self.encoder.truncate(self.encoder(embeddings), self.dim)
        return features

    def get_embedding_dimension(self) -> int:
        """Dimensions of the latents."""
        return self.dim

    def get_config_dict(self) -> dict[str, Any]:
        """The content of config.json: the arguments of DPEncoder, dim, and where there is a code its name and bytes.

        Also has_queries, true, of an AsymmetricEncoder.
        """
        code = self.encoder.code
        stored = {} if code is None else {"code": {"name": code.name, "bytes": code.bytes_per_vector}}
        sides = {"has_queries": True} if isinstance(self.encoder, AsymmetricEncoder) else {}
        return {name: getattr(self.encoder, name) for name in _SETTINGS} | {"dim": self.dim} | sides | stored

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write config.json and model.safetensors, and code.safetensors of an encoder with a code."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)
        if self.encoder.code is not None:
            # By themselves: among the weights they would be cast and moved as those are.
            save_file(self.encoder.code.state_dict()["arrays"], str(Path(output_path) / _CODE_FILE))

    @classmethod
    def load(  # type: ignore[override]  # the library names its keyword arguments, which differ between its versions
        cls, model_name_or_path: str, **options: Any
    ) -> "ShortEmbedding":
        """Load what `save` wrote, from a folder or from the hub; nothing in it is executed.

        Args:
            model_name_or_path: folder or hub name of the model.
            options: subfolder, token, cache_folder, revision and local_files_only locate the files; others are ignored.

        Raises:
            InputError: the code is missing or damaged.
        """
        location = {name: options[name] for name in _LOCATION if name in options}
        config = cls.load_config(model_name_or_path, **location)
        dim, stored = config.pop("dim"), config.pop("code", None)
        kind = AsymmetricEncoder if config.pop("has_queries", False) else DPEncoder
        module = cls.load_torch_weights(model_name_or_path, model=cls(kind(**config), dim, any_dim=True), **location)
        if stored is None:
            return module
        path = cls.load_file_path(model_name_or_path, _CODE_FILE, **location)
        if path is None:
            raise InputError(f"{model_name_or_path}: no {_CODE_FILE}, which has the code that its config.json names")
        try:
            module.encoder.code = code_for({**stored, "arrays": load_file(path)}, module.encoder)
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InputError(f"{path}: it does not fit the code that config.json names: {error}") from error
        return module

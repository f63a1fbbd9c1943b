"""TrainConfig: every setting of a training once, as a field, a flag of train.py and a key of config.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dploss.config.data_config import DataConfig
from dploss.config.option import UNSET, NotGiven, WidthsNotGiven, option, options_of
from dploss.config.sizes import TRAINED_IN_AN_EPOCH, default_hidden_dims, default_latent_dim, nested_dims
from dploss.errors import InputError, SettingError
from metrics.table import BUILT_IN, COMPOSITE

DEVICES = ("auto", "cpu", "cuda", "mps")
ENCODER, STORED, LOSS, TRAINING = "encoder", "stored form", "loss", "training"
EVALUATION, OUTPUT = "evaluation and best checkpoints", "output"
# What decided the result of a training from the first version on.
_ALWAYS = ("data", "metric", "val_fraction", "latent_dim", "hidden_dims", "loss_function", "tau", "k", "seed")


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """The settings of a training, checked when made; the help of train.py says what each of them is.

    Raises:
        SettingError: a value of the wrong type, outside its range, or that does not fit another.
    """

    latent_dim: int = option(
        512,
        ENCODER,
        "latent dimensions; where it is not given, of vectors with fewer than 768 dimensions half of these, and with "
        "--bytes as many as the code has bits for, but 256 at least",
        at_least=1,
        with_images=128,
    )
    matryoshka: bool = option(
        False, ENCODER, "Matryoshka training at latent-dim and its halves down to 32: every prefix is an embedding too"
    )
    matryoshka_dims: tuple[int, ...] = option(
        (), ENCODER, "Matryoshka training at these dimensions, as 32,64,128,256; latent-dim is the largest", at_least=1
    )
    hidden_dims: tuple[int, ...] = option(
        WidthsNotGiven((768,)),
        ENCODER,
        "widths of the MLP's hidden layers, none after the flag: a linear encoder; without the flag 2048 for "
        "50,000 training rows and more",
        at_least=1,
        at_most=2**16,
    )
    dropout: float = option(0.2, ENCODER, "dropout rate of the hidden layers", at_least=0, below=1)
    init: Literal["pca", "random"] = option("pca", ENCODER, "initial weights: PCA of the training rows, or random")

    bytes: int | None = option(
        None,
        STORED,
        "bytes of a stored vector, all counted: latents are stored by a code of N bytes, and recall is that of the "
        "stored form; with --epochs 0 in seconds, without training",
        at_least=2,
        at_most=4096,
    )
    code: Literal["trellis", "scalar", "pq", "int8", "int4", "binary", "float16", "auto"] = option(
        "trellis",
        STORED,
        "how latents are stored; trellis, scalar: bits where they help most, the norm restored; pq: for FAISS; int8, "
        "int4, binary, float16: for vector databases; auto: the one that keeps most neighbours of the start",
    )

    loss_function: Literal["DPLossV1", "DPLossV1Norm", "DPLossV2", "DPLossV2Norm", "DPLossV3"] = option(
        "DPLossV3",
        LOSS,
        "V1: hard ranks; V2: soft ranks; Norm: ranks scaled to 0..1; V3: neighbour probabilities",
        with_images="DPLossV2",
    )
    tau: float = option(
        1.0,
        LOSS,
        "temperature of the soft ranks or neighbour probabilities, in standard deviations of the batch's distances: "
        "0.1 to 0.5 is sharp, 2 to 5 smooth",
        at_least=1e-6,
        at_most=1e6,
    )
    k: int = option(5, LOSS, "neighbours in recall@k, and the divisor of V1's rank loss", at_least=1)
    lambda_rank: float = option(1.0, LOSS, "weight of the rank loss", at_least=0, at_most=1e6)
    lambda_pairdist: float = option(0.3, LOSS, "weight of the pair distance loss", at_least=0, at_most=1e6)
    lambda_recon: float = option(
        1.0, LOSS, "with --images: weight of the squared reconstruction error", at_least=0, at_most=1e6
    )

    epochs: int = option(
        100,
        TRAINING,
        "training epochs; 0: the start alone, PCA with the norm restored; unless given, 1 with --bytes and --code "
        "any code but pq, which are trained after it",
        at_least=0,
        with_images=100,
        on_resume=True,
    )
    batch_size: int = option(
        512, TRAINING, "batch size: rows whose distances are compared with each other", at_least=3, with_images=64
    )
    lr: float = option(
        0.001,
        TRAINING,
        "peak learning rate (AdamW; linear warm-up, cosine decay to 0); from PCA scaled by how much PCA loses",
        above=0,
    )
    seed: int = option(0, TRAINING, "random seed of the split, the weights and the batches", at_least=0, below=2**32)
    device: Literal["auto", "cpu", "cuda", "mps"] = option(
        "auto", TRAINING, "device to train on", env="DEVICE", on_resume=True
    )

    metric_name: str = option(
        "recall",
        EVALUATION,
        "metric that ranks the checkpoints: recall, total_loss, rank_loss, pairdist_loss; with --images also "
        + ", ".join((COMPOSITE, *BUILT_IN)),
        metavar="NAME",
        on_resume=True,
        with_images=COMPOSITE,
    )
    eval_every: int = option(
        1, EVALUATION, "evaluate every N-th saved checkpoint (0: never)", at_least=0, on_resume=True, with_images=2
    )
    save_top_k: int = option(3, EVALUATION, "best checkpoints to track", at_least=1, on_resume=True)
    min_delta: float | Literal["auto"] = option(
        0.0,
        EVALUATION,
        "how far a new best must exceed the one before, else it is a tie; auto: the standard error of their gap",
        metavar="X|auto",
        at_least=0,
        on_resume=True,
    )
    prune: bool = option(
        False, EVALUATION, "delete evaluated checkpoints that are not among the best", on_resume=True, with_images=True
    )
    keep_every_n_steps: int = option(
        10_000,
        EVALUATION,
        "never delete checkpoints at multiples of N steps (0: no such rule)",
        at_least=0,
        on_resume=True,
    )
    num_evaluation_samples: int = option(
        20, EVALUATION, "with --images: held-out images to reconstruct and evaluate", at_least=1, on_resume=True
    )
    clip_model: str = option(
        "ViT-B-32", EVALUATION, "CLIP score and CMMD: open_clip model", metavar="NAME", on_resume=True
    )
    clip_pretrained: str = option(
        "laion2b_s34b_b79k",
        EVALUATION,
        "CLIP score and CMMD: pretrained weights, an open_clip tag, a file or local-dir:FOLDER",
        metavar="WEIGHTS",
        on_resume=True,
    )
    lpips_net: Literal["alex", "vgg", "squeeze"] = option("alex", EVALUATION, "LPIPS: backbone", on_resume=True)
    lpips_weights: str | None = option(None, EVALUATION, "LPIPS: backbone's weights", metavar="FILE", on_resume=True)
    inception_weights: str | None = option(
        None, EVALUATION, "Inception Score, FID, KID and others: weights", metavar="FILE", on_resume=True
    )
    dinov2_weights: str | None = option(None, EVALUATION, "fd_dinov2: weights", metavar="FILE", on_resume=True)

    save_interval: int = option(
        10,
        OUTPUT,
        "epochs between checkpoints that are kept; the last epoch is always kept",
        at_least=1,
        env="SAVE_INTERVAL",
        on_resume=True,
    )
    checkpoints_dir: str = option("checkpoints", OUTPUT, "folder of all experiments", metavar="DIR", on_resume=True)
    log_to: Literal["none", "wandb", "mlflow"] = option(
        "none", OUTPUT, "log to Weights & Biases or MLflow, beside TensorBoard", on_resume=True
    )
    no_tensorboard: bool = option(False, OUTPUT, "write no TensorBoard logs", on_resume=True)
    quiet: bool = option(False, OUTPUT, "print only warnings, errors and the result", on_resume=True)

    def __post_init__(self) -> None:
        """Fill in the defaults that depend on the data, check every value, and set those that follow from others."""
        for name, setting in OPTIONS.items():
            value = getattr(self, name)
            if value is UNSET:
                value = setting.default if self.images is None else setting.image_default
                value = NotGiven(value) if name in ("latent_dim", "epochs") and self.images is None else value
            given = not isinstance(value, NotGiven | WidthsNotGiven)
            object.__setattr__(self, name, setting.checked(value) if given else value)
        self.check_data()
        if self.bytes is not None and (self.images is not None or self.matryoshka or self.matryoshka_dims):
            raise SettingError("{bytes} stores vectors of one size: leave {images} and {matryoshka} out")
        if self.matryoshka or self.matryoshka_dims:
            self._set_matryoshka_dims()

    def _set_matryoshka_dims(self) -> None:
        if self.images is not None:
            raise SettingError("{matryoshka} is for vectors: leave it out with {images}")
        dims = self.matryoshka_dims or nested_dims(self.latent_dim)
        if self.matryoshka_dims and isinstance(self.latent_dim, NotGiven):
            object.__setattr__(self, "latent_dim", max(dims))
        if max(dims) > self.latent_dim:
            template = "{matryoshka_dims} must be at most {latent_dim} {largest}, got {dim}"
            raise SettingError(template, largest=self.latent_dim, dim=max(dims))
        object.__setattr__(self, "matryoshka", True)
        object.__setattr__(self, "matryoshka_dims", tuple(sorted({int(dim) for dim in (*dims, self.latent_dim)})))

    def fitted_to(self, n_rows: int, input_dim: int) -> "TrainConfig":
        """These settings for the rows of a training.

        Args:
            n_rows: to train on; of 50,000 and more, hidden_dims that were not given are wider.
            input_dim: D; for D below 768, a latent_dim that was not given is D // 2. With `bytes` it is what the
                code, which must be chosen, has bits for, at least 256, up to D; and where training makes another code
                of it, epochs that were not given are one.
        """
        config = self
        if isinstance(config.latent_dim, NotGiven):
            latent_dim = default_latent_dim(int(config.latent_dim), input_dim, config.bytes, config.code)
            # The sizes of --matryoshka followed from latent_dim.
            config = replace(config, latent_dim=latent_dim, matryoshka_dims=())
        if isinstance(config.epochs, NotGiven):
            once = config.bytes is not None and config.code in TRAINED_IN_AN_EPOCH
            config = replace(config, epochs=1 if once else int(config.epochs))
        if isinstance(config.hidden_dims, WidthsNotGiven):
            config = replace(config, hidden_dims=default_hidden_dims(config.hidden_dims, n_rows))
        return config

    def as_dict(self) -> dict[str, Any]:
        """Every setting under its own name, ready for JSON."""
        plain = asdict(self) | {"latent_dim": int(self.latent_dim), "epochs": int(self.epochs)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "TrainConfig":
        """Read the settings back from `as_dict`; of other keys nothing is read.

        Settings that were added since it was written have their defaults.

        Raises:
            InputError: a setting that every version wrote is missing, or one is unusable.
        """
        if settings.get("code") == "auto" and settings.get("bytes") is not None:
            raise InputError("config.json says code auto, not which code was chosen")
        if settings.get("query_side") == "auto" and settings.get("queries") is not None:
            raise InputError("config.json says query_side auto, not which side was chosen")
        missing = [name for name in _ALWAYS if name not in settings]
        if missing:
            raise InputError(f"config.json lacks {', '.join(missing)}")
        return cls(**{name: settings[name] for name in OPTIONS if name in settings})


OPTIONS = options_of(TrainConfig)

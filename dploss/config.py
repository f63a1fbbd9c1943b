"""TrainConfig: every setting of a training once, as a field, a flag of train.py and a key of config.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dploss.errors import InputError
from dploss.settings import flag_name, problem, setting

# What decided the result of a training from the first version on.
_ALWAYS = ("data", "metric", "val_fraction", "latent_dim", "hidden_dims", "loss_function", "tau", "k", "seed")

DEVICES = ("auto", "cpu", "cuda", "mps")
DATA, ENCODER, LOSS, TRAINING = "data", "encoder", "loss", "training"
EVALUATION, OUTPUT = "evaluation and best checkpoints", "output"


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training, checked when made.

    Raises:
        InputError: a value of the wrong type or outside its range; the message names the flag.
    """

    data: str = setting(
        "builtin",
        DATA,
        "vectors: .npy, .npz, .parquet (file, quoted glob or folder of shards) or .jsonl; "
        "'builtin' is 10,000 WordNet entries, 768 numbers each",
        kind=str,
        on_resume=True,
    )
    column: str | None = setting(
        None,
        DATA,
        "column, key or array that holds the vectors; found by itself where there is one",
        kind=str,
    )
    limit: int | None = setting(None, DATA, "use only the first LIMIT rows", kind=int, at_least=3)
    metric: str = setting(
        "euclidean",
        DATA,
        "distance whose neighbours to keep; cosine brings every row to length 1",
        kind=str,
        choices=("euclidean", "cosine"),
    )
    images: str | None = setting(
        None,
        DATA,
        "train a convolutional autoencoder on a folder of images instead (captions in its captions.csv, in a .txt "
        "beside each image, or the subfolder's name); 'builtin' is crops of two photographs",
        kind=str,
        on_resume=True,
    )
    image_size: int = setting(
        64, DATA, "pixels along a side, a multiple of 8; images are cut to a square", kind=int, at_least=16, multiple=8
    )
    val_fraction: float = setting(
        0.1,
        DATA,
        "share of the rows held out for recall, never trained on; 0 holds out none",
        kind=float,
        at_least=0,
        below=1,
    )

    latent_dim: int = setting(512, ENCODER, "numbers in a short vector", kind=int, at_least=1, with_images=128)
    matryoshka: bool = setting(
        False,
        ENCODER,
        "make the first numbers of every latent good short vectors too, at latent-dim's half, quarter ... down to 32",
        kind=bool,
    )
    matryoshka_dims: tuple[int, ...] = setting(
        (), ENCODER, "the same at these sizes: 32,64,128,256; the largest is then latent-dim", kind=tuple, at_least=1
    )
    hidden_dims: tuple[int, ...] = setting(
        (768,),
        ENCODER,
        "widths of the MLP branch's hidden layers; with no number after it the encoder is linear",
        kind=tuple,
        at_least=1,
    )
    dropout: float = setting(
        0.2,
        ENCODER,
        "share of the branch's hidden numbers that are dropped in training",
        kind=float,
        at_least=0,
        below=1,
    )
    init: str = setting(
        "pca",
        ENCODER,
        "start: at PCA of the training rows, or at random weights",
        kind=str,
        choices=("pca", "random"),
    )

    loss_function: str = setting(
        "DPLossV3",
        LOSS,
        "V1: hard ranks; V2: soft ranks; Norm: ranks scaled to 0..1; V3: neighbour probabilities",
        kind=str,
        choices=("DPLossV1", "DPLossV1Norm", "DPLossV2", "DPLossV2Norm", "DPLossV3"),
        with_images="DPLossV2",
    )
    tau: float = setting(
        1.0,
        LOSS,
        "temperature of the soft ranks or neighbour probabilities in standard deviations of the batch's distances: "
        "0.1 to 0.5 is sharp, 2 to 5 smooth",
        kind=float,
        above=0,
    )
    k: int = setting(5, LOSS, "neighbours of recall@k, and the divisor of V1's rank loss", kind=int, at_least=1)
    lambda_rank: float = setting(1.0, LOSS, "weight of the rank loss", kind=float, at_least=0)
    lambda_pairdist: float = setting(
        0.3,
        LOSS,
        "weight of the pair distance loss, in units of the rows' root mean square distance from their mean",
        kind=float,
        at_least=0,
    )

    lambda_recon: float = setting(
        1.0, LOSS, "with --images: weight of the squared error of the decoded image", kind=float, at_least=0
    )

    epochs: int = setting(100, TRAINING, "passes over the training rows", kind=int, at_least=1, on_resume=True)
    batch_size: int = setting(
        512, TRAINING, "rows whose distances are compared at once", kind=int, at_least=3, with_images=64
    )
    lr: float = setting(
        0.001, TRAINING, "peak learning rate of Adam: warmed up, then a cosine down to 0", kind=float, above=0
    )
    seed: int = setting(
        0, TRAINING, "of the split, the start and the order of the rows", kind=int, at_least=0, below=2**32
    )
    device: str = setting(
        "auto",
        TRAINING,
        "where to train",
        kind=str,
        choices=DEVICES,
        env="DEVICE",
        on_resume=True,
    )

    metric_name: str = setting(
        "recall",
        EVALUATION,
        "metric whose best checkpoints are tracked: recall, total_loss, or, with images, composite_score, clip_score, "
        "lpips, inception_score, fid, psnr, ssim",
        kind=str,
        on_resume=True,
        with_images="composite_score",
    )
    eval_every: int = setting(
        1,
        EVALUATION,
        "judge every so-many-th checkpoint that is saved; 0 judges none",
        kind=int,
        at_least=0,
        on_resume=True,
        with_images=2,
    )
    save_top_k: int = setting(3, EVALUATION, "best checkpoints to track", kind=int, at_least=1, on_resume=True)
    prune: bool = setting(
        False,
        EVALUATION,
        "delete judged checkpoints that are not among the best",
        kind=bool,
        on_resume=True,
        with_images=True,
    )
    keep_every_n_steps: int = setting(
        10_000,
        EVALUATION,
        "never delete checkpoints of steps that are its multiples; 0 spares none",
        kind=int,
        at_least=0,
        on_resume=True,
    )
    num_evaluation_samples: int = setting(
        20,
        EVALUATION,
        "with --images: held-out images that are reconstructed and judged",
        kind=int,
        at_least=1,
        on_resume=True,
    )
    clip_model: str = setting("ViT-B-32", EVALUATION, "CLIP score: model of open_clip", kind=str, on_resume=True)
    clip_pretrained: str = setting(
        "laion2b_s34b_b79k",
        EVALUATION,
        "CLIP score: its weights, a tag, a file or local-dir:FOLDER",
        kind=str,
        on_resume=True,
    )
    lpips_net: str = setting(
        "alex", EVALUATION, "LPIPS: backbone", kind=str, choices=("alex", "vgg", "squeeze"), on_resume=True
    )
    lpips_weights: str | None = setting(
        None, EVALUATION, "LPIPS: a file with the backbone's weights", kind=str, on_resume=True
    )
    inception_weights: str | None = setting(
        None, EVALUATION, "Inception score and FID: a file with the weights", kind=str, on_resume=True
    )

    save_interval: int = setting(
        10,
        OUTPUT,
        "epochs between checkpoints that are kept; the last epoch is always kept",
        kind=int,
        at_least=1,
        env="SAVE_INTERVAL",
        on_resume=True,
    )
    checkpoints_dir: str = setting(
        "checkpoints", OUTPUT, "folder that receives a folder for every experiment", kind=str, on_resume=True
    )
    no_tensorboard: bool = setting(False, OUTPUT, "write no tensorboard_logs", kind=bool, on_resume=True)
    quiet: bool = setting(False, OUTPUT, "print only warnings, errors and the result", kind=bool, on_resume=True)

    def __post_init__(self) -> None:
        """Check every value against its field, and settle those that follow from others."""
        sized = self.latent_dim is not None
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None and item.default is None:
                value = item.metadata["defaults"][self.images is not None]
                object.__setattr__(self, item.name, value)
                if value is None:
                    continue
            several = item.metadata["kind"] is tuple
            if several and not isinstance(value, list | tuple):
                raise InputError(f"{flag_name(item.name)} must be a list of whole numbers, got {value!r}")
            for part in value if several else [value]:
                wrong = problem(part, item.metadata)
                if wrong:
                    raise InputError(f"{flag_name(item.name)} must be {wrong}, got {part!r}")
            if several:
                object.__setattr__(self, item.name, tuple(value))
        if self.images is not None and self.metric != "euclidean":
            raise InputError("--metric must be euclidean with --images: pixels keep their lengths")
        if self.matryoshka or self.matryoshka_dims:
            self._settle_matryoshka(sized)

    def _settle_matryoshka(self, sized: bool) -> None:
        if self.images is not None:
            raise InputError("--matryoshka is for vectors: leave it out with --images")
        dims = self.matryoshka_dims or nested_dims(self.latent_dim)
        if not sized:
            object.__setattr__(self, "latent_dim", max(dims))
        if max(dims) > self.latent_dim:
            raise InputError(f"--matryoshka-dims must be at most --latent-dim {self.latent_dim}, got {max(dims)}")
        object.__setattr__(self, "matryoshka", True)
        object.__setattr__(self, "matryoshka_dims", tuple(sorted({*dims, self.latent_dim})))

    def as_dict(self) -> dict[str, Any]:
        """Every setting under its own name, ready for JSON."""
        lists = {name: list(value) for name, value in asdict(self).items() if isinstance(value, tuple)}
        return {**asdict(self), **lists}

    @classmethod
    def from_experiment(cls, config: Mapping[str, Any]) -> "TrainConfig":
        """Read the settings back from config.json's content, where `data` says more than the flag did.

        Settings that were added since it was written have their defaults.

        Raises:
            InputError: a setting is missing or unusable.
        """
        settings = {item.name: config[item.name] for item in fields(cls) if item.name in config}
        missing = [name for name in _ALWAYS if name not in settings]
        if missing:
            raise InputError(f"config.json lacks {', '.join(missing)}")
        try:
            settings.pop("data")
            settings["data" if settings.get("images") is None else "images"] = config["data"]["path"]
        except (KeyError, TypeError) as error:
            raise InputError("config.json does not say where its data is") from error
        return cls(**settings)


def nested_dims(latent_dim: int) -> tuple[int, ...]:
    """Where --matryoshka names no sizes: latent_dim and its halves down to 32, or to 2 where it is below 64."""
    least = 32 if latent_dim >= 64 else 2
    dims = [latent_dim]
    while dims[-1] // 2 >= least:
        dims.append(dims[-1] // 2)
    return tuple(reversed(dims))

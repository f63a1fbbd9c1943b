"""TrainConfig: every setting of a training once, as a field, a flag of train.py and a key of config.json."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dploss.errors import InputError


def _setting(
    default: Any,
    group: str,
    help: str,
    *,
    kind: type,
    choices: tuple[str, ...] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    multiple: int | None = None,
    below: float | None = None,
    env: str | None = None,
    on_resume: bool = False,
    with_images: Any = None,
) -> Any:
    """A field with what the flag needs to know.

    `on_resume`: may be given anew when resuming. `with_images`: the default of a training on images, where it is
    another; the field itself is then None until the config is made.
    """
    metadata = {
        "group": group,
        "help": help,
        "kind": kind,
        "choices": choices,
        "at_least": at_least,
        "above": above,
        "multiple": multiple,
        "below": below,
        "env": env,
        "on_resume": on_resume,
        "defaults": (default, default if with_images is None else with_images),
    }
    return field(default=default if with_images is None else None, metadata=metadata)


DEVICES = ("auto", "cpu", "cuda", "mps")
DATA, ENCODER, LOSS, TRAINING = "data", "encoder", "loss", "training"
EVALUATION, OUTPUT = "evaluation and best checkpoints", "output"


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training, checked when made.

    Raises:
        InputError: a value of the wrong type or outside its range; the message names the flag.
    """

    data: str = _setting(
        "builtin",
        DATA,
        "vectors: .npy, .npz, .parquet (file, quoted glob or folder of shards) or .jsonl; "
        "'builtin' is 10,000 WordNet entries, 768 numbers each",
        kind=str,
        on_resume=True,
    )
    column: str | None = _setting(
        None,
        DATA,
        "column, key or array that holds the vectors; found by itself where there is one",
        kind=str,
    )
    limit: int | None = _setting(None, DATA, "use only the first LIMIT rows", kind=int, at_least=3)
    metric: str = _setting(
        "euclidean",
        DATA,
        "distance whose neighbours to keep; cosine brings every row to length 1",
        kind=str,
        choices=("euclidean", "cosine"),
    )
    images: str | None = _setting(
        None,
        DATA,
        "train a convolutional autoencoder on a folder of images instead (captions in its captions.csv, in a .txt "
        "beside each image, or the subfolder's name); 'builtin' is crops of two photographs",
        kind=str,
        on_resume=True,
    )
    image_size: int = _setting(
        64, DATA, "pixels along a side, a multiple of 8; images are cut to a square", kind=int, at_least=16, multiple=8
    )
    val_fraction: float = _setting(
        0.1,
        DATA,
        "share of the rows held out for recall, never trained on; 0 holds out none",
        kind=float,
        at_least=0,
        below=1,
    )

    latent_dim: int = _setting(512, ENCODER, "numbers in a short vector", kind=int, at_least=1, with_images=128)
    hidden_dims: tuple[int, ...] = _setting(
        (768,),
        ENCODER,
        "widths of the MLP branch's hidden layers; with no number after it the encoder is linear",
        kind=tuple,
        at_least=1,
    )
    init: str = _setting(
        "pca",
        ENCODER,
        "start: at PCA of the training rows, or at random weights",
        kind=str,
        choices=("pca", "random"),
    )

    loss_function: str = _setting(
        "DPLossV2",
        LOSS,
        "V1: hard ranks; V2: soft ranks; Norm: ranks scaled to 0..1",
        kind=str,
        choices=("DPLossV1", "DPLossV1Norm", "DPLossV2", "DPLossV2Norm"),
    )
    tau: float = _setting(
        1.0,
        LOSS,
        "temperature of the soft ranks in standard deviations of the batch's distances: "
        "0.1 to 0.5 is sharp, 2 to 5 smooth",
        kind=float,
        above=0,
    )
    k: int = _setting(5, LOSS, "neighbours of recall@k, and the divisor of V1's rank loss", kind=int, at_least=1)
    lambda_rank: float = _setting(1.0, LOSS, "weight of the rank loss", kind=float, at_least=0)
    lambda_pairdist: float = _setting(0.3, LOSS, "weight of the pair distance loss", kind=float, at_least=0)

    lambda_recon: float = _setting(
        1.0, LOSS, "with --images: weight of the squared error of the decoded image", kind=float, at_least=0
    )

    epochs: int = _setting(100, TRAINING, "passes over the training rows", kind=int, at_least=1, on_resume=True)
    batch_size: int = _setting(
        512, TRAINING, "rows whose distances are compared at once", kind=int, at_least=3, with_images=64
    )
    lr: float = _setting(
        0.001, TRAINING, "peak learning rate of Adam: warmed up, then a cosine down to 0", kind=float, above=0
    )
    seed: int = _setting(
        0, TRAINING, "of the split, the start and the order of the rows", kind=int, at_least=0, below=2**32
    )
    device: str = _setting(
        "auto",
        TRAINING,
        "where to train",
        kind=str,
        choices=DEVICES,
        env="DEVICE",
        on_resume=True,
    )

    metric_name: str = _setting(
        "recall",
        EVALUATION,
        "metric whose best checkpoints are tracked: recall, total_loss, or, with images, composite_score, clip_score, "
        "lpips, inception_score, fid, psnr, ssim",
        kind=str,
        on_resume=True,
        with_images="composite_score",
    )
    eval_every: int = _setting(
        1,
        EVALUATION,
        "judge every so-many-th checkpoint that is saved; 0 judges none",
        kind=int,
        at_least=0,
        on_resume=True,
        with_images=2,
    )
    save_top_k: int = _setting(3, EVALUATION, "best checkpoints to track", kind=int, at_least=1, on_resume=True)
    prune: bool = _setting(
        False,
        EVALUATION,
        "delete judged checkpoints that are not among the best",
        kind=bool,
        on_resume=True,
        with_images=True,
    )
    keep_every_n_steps: int = _setting(
        10_000,
        EVALUATION,
        "never delete checkpoints of steps that are its multiples; 0 spares none",
        kind=int,
        at_least=0,
        on_resume=True,
    )
    num_evaluation_samples: int = _setting(
        20,
        EVALUATION,
        "with --images: held-out images that are reconstructed and judged",
        kind=int,
        at_least=1,
        on_resume=True,
    )
    clip_model: str = _setting("ViT-B-32", EVALUATION, "CLIP score: model of open_clip", kind=str, on_resume=True)
    clip_pretrained: str = _setting(
        "laion2b_s34b_b79k",
        EVALUATION,
        "CLIP score: its weights, a tag, a file or local-dir:FOLDER",
        kind=str,
        on_resume=True,
    )
    lpips_net: str = _setting(
        "alex", EVALUATION, "LPIPS: backbone", kind=str, choices=("alex", "vgg", "squeeze"), on_resume=True
    )
    lpips_weights: str | None = _setting(
        None, EVALUATION, "LPIPS: a file with the backbone's weights", kind=str, on_resume=True
    )
    inception_weights: str | None = _setting(
        None, EVALUATION, "Inception score and FID: a file with the weights", kind=str, on_resume=True
    )

    save_interval: int = _setting(
        10,
        OUTPUT,
        "epochs between checkpoints that are kept; the last epoch is always kept",
        kind=int,
        at_least=1,
        env="SAVE_INTERVAL",
        on_resume=True,
    )
    checkpoints_dir: str = _setting(
        "checkpoints", OUTPUT, "folder that receives a folder for every experiment", kind=str, on_resume=True
    )
    no_tensorboard: bool = _setting(False, OUTPUT, "write no tensorboard_logs", kind=bool, on_resume=True)
    quiet: bool = _setting(False, OUTPUT, "print only warnings, errors and the result", kind=bool, on_resume=True)

    def __post_init__(self) -> None:
        """Check every value against its field."""
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value is None:
                value = setting.metadata["defaults"][self.images is not None]
                object.__setattr__(self, setting.name, value)
            if value is None and setting.default is None:
                continue
            several = setting.metadata["kind"] is tuple
            if several and not isinstance(value, list | tuple):
                raise InputError(f"{flag_name(setting.name)} must be a list of whole numbers, got {value!r}")
            for item in value if several else [value]:
                problem = _problem(item, setting.metadata)
                if problem:
                    raise InputError(f"{flag_name(setting.name)} must be {problem}, got {item!r}")
            if several:
                object.__setattr__(self, setting.name, tuple(value))
        if self.images is not None and self.metric != "euclidean":
            raise InputError("--metric must be euclidean with --images: pixels keep their lengths")

    def as_dict(self) -> dict[str, Any]:
        """Every setting under its own name, ready for JSON."""
        return {**asdict(self), "hidden_dims": list(self.hidden_dims)}

    @classmethod
    def from_experiment(cls, config: Mapping[str, Any]) -> "TrainConfig":
        """Read the settings back from config.json's content, where `data` says more than the flag did.

        Settings that were added since it was written have their defaults.

        Raises:
            InputError: a setting is missing or unusable.
        """
        settings = {setting.name: config[setting.name] for setting in fields(cls) if setting.name in config}
        missing = [name for name in _ALWAYS if name not in settings]
        if missing:
            raise InputError(f"config.json lacks {', '.join(missing)}")
        try:
            settings.pop("data")
            settings["data" if settings.get("images") is None else "images"] = config["data"]["path"]
        except (KeyError, TypeError) as error:
            raise InputError("config.json does not say where its data is") from error
        return cls(**settings)


# What decided the result of a training from the first version on.
_ALWAYS = ("data", "metric", "val_fraction", "latent_dim", "hidden_dims", "loss_function", "tau", "k", "seed")


def flag_name(name: str) -> str:
    """The flag of a field: latent_dim -> --latent-dim."""
    return "--" + name.replace("_", "-")


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _problem(value: Any, limits: Mapping[str, Any]) -> str | None:
    """What `value` must be and is not, or None."""
    kind = int if limits["kind"] is tuple else limits["kind"]
    if type(value) is not kind and not (kind is float and type(value) is int):
        return _KINDS[kind]
    if limits["choices"] and value not in limits["choices"]:
        return "one of " + ", ".join(limits["choices"])
    if kind is float and not math.isfinite(value):
        return "finite"
    if limits["at_least"] is not None and value < limits["at_least"]:
        return f"at least {limits['at_least']}"
    if limits["above"] is not None and value <= limits["above"]:
        return f"above {limits['above']}"
    if limits["multiple"] is not None and value % limits["multiple"]:
        return f"a multiple of {limits['multiple']}"
    if limits["below"] is not None and value >= limits["below"]:
        return f"below {limits['below']}"
    return None

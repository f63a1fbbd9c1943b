"""TrainConfig: every setting of a training once, as a field, a flag of train.py and a key of config.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dploss.config_field import check, flag_name, setting
from dploss.errors import InputError
from dploss.training_settings import TrainingSettings

# What decided the result of a training from the first version on.
_ALWAYS = ("data", "metric", "val_fraction", "latent_dim", "hidden_dims", "loss_function", "tau", "k", "seed")

EVALUATION, OUTPUT = "evaluation and best checkpoints", "output"


@dataclass(frozen=True)
class TrainConfig(TrainingSettings):
    """The settings of a training, checked when made.

    Raises:
        InputError: a value of the wrong type or outside its range; the message names the flag.
    """

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
            check(flag_name(item.name), value, item.metadata)
            if item.metadata["kind"] is tuple:
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

"""Which settings a training has a use for, so that no others are printed or compared."""

from collections.abc import Mapping
from typing import Any

from dploss.config.train_config import OPTIONS

# Of what is written and where, which changes no training.
_OF_FILES = ("checkpoints_dir", "no_tensorboard", "quiet")
_OF_IMAGES = ("images", "image_size", "skip_bad_images")
_OF_VECTORS = ("data", "column", "skip_bad_rows", "metric", "hidden_dims", "matryoshka_dims", "bytes")
_OF_QUERIES = ("queries", "query_column", "query_side", "database")
# Of PCA alone, --epochs 0, none of them changes a bit.
_OF_STEPS = (
    "dropout",
    "loss_function",
    "tau",
    "lambda_rank",
    "lambda_pairdist",
    "lambda_recon",
    "batch_size",
    "lr",
    "save_interval",
)
_OF_RANKING = ("metric_name", "save_top_k", "min_delta", "prune", "keep_every_n_steps")
_OF_IMAGE_METRICS = (
    "num_evaluation_samples",
    "clip_model",
    "clip_pretrained",
    "lpips_net",
    "lpips_weights",
    "inception_weights",
    "dinov2_weights",
)


def applicable(settings: Mapping[str, Any]) -> list[str]:
    """The names of the settings that matter to a training with these settings, in their order.

    The sizes of a Matryoshka encoder say that it is one: `matryoshka` is not among them.

    Args:
        settings: as `TrainConfig.as_dict` gives them, or as config.json of any version holds them.
    """
    images, trained = settings.get("images") is not None, settings.get("epochs") != 0
    ranked = settings.get("eval_every") != 0
    applies = {
        **dict.fromkeys(_OF_FILES, False),
        **dict.fromkeys(_OF_IMAGES, images),
        **dict.fromkeys(_OF_VECTORS, not images),
        **dict.fromkeys(_OF_QUERIES, settings.get("queries") is not None),
        **dict.fromkeys(_OF_STEPS, trained),
        **dict.fromkeys(_OF_RANKING, ranked),
        **dict.fromkeys(_OF_IMAGE_METRICS, images and ranked),
        "matryoshka": False,
        "matryoshka_dims": bool(settings.get("matryoshka")),
        "code": settings.get("bytes") is not None,
    }
    applies["dropout"] = trained and not images and bool(settings.get("hidden_dims"))
    applies["lambda_recon"] = trained and images
    applies["keep_every_n_steps"] = ranked and bool(settings.get("prune"))
    return [name for name in OPTIONS if applies.get(name, True)]

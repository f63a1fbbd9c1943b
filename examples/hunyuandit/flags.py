"""The flags of train_hunyuandit.py."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from dploss.cli.main import Parser
from dploss.tracking.ranking import AUTO


def parser(doc: str | None) -> Parser:
    """The script's flags.

    Args:
        doc: the script's docstring: what it does, a blank line, examples.
    """
    flags = Parser("train_hunyuandit.py", doc)

    model = flags.add_argument_group("model and data")
    source = model.add_mutually_exclusive_group(required=True)
    source.add_argument("--pretrained", metavar="PATH_OR_REPO", help="HunyuanDiT in diffusers' layout")
    source.add_argument("--tiny", action="store_true", help="small configurations with random weights instead")
    model.add_argument(
        "--data", required=True, help="captions.csv (image_path,text_en), or a folder of images with .txt captions"
    )
    model.add_argument("--image-size", type=_size, help="pixels along a side (default: 1024, with --tiny 64)")

    training = flags.add_argument_group("training")
    training.add_argument("--max-steps", type=_at_least(1), default=10_000, help=_default("optimizer steps"))
    training.add_argument("--batch-size", type=_at_least(1), default=1, help=_default("images per process and batch"))
    training.add_argument(
        "--gradient-accumulation", type=_at_least(1), default=1, help=_default("batches per step and process")
    )
    training.add_argument("--lr", type=_above_0, default=1e-4, help=_default("learning rate of AdamW"))
    training.add_argument(
        "--caption-dropout",
        type=_fraction,
        default=0.1,
        help=_default("fraction of captions dropped, for classifier-free guidance"),
    )
    training.add_argument(
        "--ema-decay", type=_fraction, default=0.9999, help=_default("decay of the averaged weights; 0: no average")
    )
    training.add_argument(
        "--mixed-precision",
        choices=("auto", "no", "fp16", "bf16"),
        default="auto",
        help=_default("auto: as in accelerate's configuration, else bf16 or fp16 on a GPU"),
    )
    training.add_argument("--num-workers", type=_at_least(0), default=0, help=_default("processes that read images"))
    training.add_argument(
        "--seed", type=_at_least(0), default=0, help=_default("random seed of the training and the samples")
    )

    saving = flags.add_argument_group("checkpoints")
    saving.add_argument("--output-dir", type=Path, required=True, help="their folder, also of the evaluations and logs")
    saving.add_argument("--ckpt-every", type=_at_least(1), default=1000, help=_default("steps between checkpoints"))
    saving.add_argument("--checkpoint-dirs", action="store_true", help="directories, not files; always with DeepSpeed")
    saving.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        metavar="CHECKPOINT",
        help="resume from the newest checkpoint in --output-dir, or from this one",
    )
    saving.add_argument("--save-top-k", type=_at_least(1), default=3, help=_default("best checkpoints to keep"))
    saving.add_argument(
        "--keep-every-n-steps",
        type=_at_least(0),
        default=10_000,
        help=_default("never delete checkpoints of steps that are multiples of it; 0: no such rule"),
    )
    saving.add_argument("--no-prune", action="store_true", help="delete no checkpoint")

    evaluation = flags.add_argument_group("evaluation")
    evaluation.add_argument("--no-evaluation", action="store_true", help="evaluate no checkpoint, and delete none")
    evaluation.add_argument(
        "--eval-every", type=_at_least(1), default=2, metavar="N", help=_default("evaluate every N-th saved checkpoint")
    )
    evaluation.add_argument(
        "--metric-name",
        nargs="+",
        default=["composite_score"],
        metavar="NAME",
        help="the metric that decides which is best, and further ones, each with its best (default: composite_score)",
    )
    evaluation.add_argument(
        "--min-delta",
        type=_number_or_auto,
        default=0.0,
        metavar="X|auto",
        help=_default(
            "how far a new best must exceed the one before, else it is a tie; auto: the standard error of their gap"
        ),
    )
    evaluation.add_argument(
        "--num-evaluation-samples", type=_at_least(1), default=20, help=_default("images to sample")
    )
    evaluation.add_argument(
        "--evaluation-data", metavar="DATA", help="prompts and photographs for evaluation (default: --data)"
    )
    evaluation.add_argument(
        "--sampling-steps", type=_at_least(1), default=50, help=_default("denoising steps of a sample")
    )
    evaluation.add_argument(
        "--clip-model", default="ViT-B-32", help=_default("CLIP score and CMMD: an open_clip model")
    )
    evaluation.add_argument(
        "--clip-pretrained", default="laion2b_s34b_b79k", help=_default("its weights: a tag or a file")
    )
    evaluation.add_argument("--lpips-net", choices=("alex", "vgg", "squeeze"), default="alex", help=_default("LPIPS"))
    evaluation.add_argument("--lpips-weights", help="LPIPS: a file with the backbone's weights")
    evaluation.add_argument("--inception-weights", help="Inception Score, FID, KID and others: a file with the weights")
    evaluation.add_argument("--dinov2-weights", help="fd_dinov2: a file with DINOv2's weights")
    return flags


def _default(text: str) -> str:
    return f"{text} (default: %(default)s)"


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
        return int(text)

    return whole_number


def _size(text: str) -> int:
    size = _at_least(16)(text)
    if size % 16:
        raise argparse.ArgumentTypeError(f"must be a multiple of 16, got {text}")
    return size


def _fraction(text: str) -> float:
    if not 0 <= _number(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {text}")
    return float(text)


def _above_0(text: str) -> float:
    if not 0 < _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return float(text)


def _number_or_auto(text: str) -> float | str:
    if text != AUTO and not 0 <= _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"must be {AUTO} or a number of at least 0, got {text}")
    return text if text == AUTO else float(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None

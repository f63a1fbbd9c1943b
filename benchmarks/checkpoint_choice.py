"""How often is the checkpoint that a metric crowns truly one of the best three? Simulated trainings of known quality.

A training has 20 checkpoints. Its images are crops of the built-in photographs with blur and noise, whose strength
falls until checkpoint 14 and rises then, as in overfitting; the strengths of a checkpoint's images scatter around its
own. Each checkpoint is evaluated by 20 of them. "Reconstruction": images and references are the same crops.
"Generation": they are other crops of the same photographs, drawn anew for each checkpoint; the references stay. Every
training draws from one pool of degraded crops, 60 for each checkpoint. By chance 15 % would be right.

The docs' figures: uv run python benchmarks/checkpoint_choice.py --inception-weights inception.pth --lpips-weights
alexnet.pth --classifier-weights efficientnet-lite0-57934424.pth
"""

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy.special import log_softmax
from timing import parser, report
from torch import Tensor

from dploss import open_images
from metrics import CMMD, FID, KID, LPIPS, MIND, Coverage, Density, ImagePrecision, ImageRecall, Inception, composite_of
from metrics.clip import CLIP
from metrics.features import SetMetric
from metrics.images import to_image
from metrics.weights import fill, read_state

CHECKPOINTS, BEST, TRUE_BEST = 20, 14, 3
SIZE, POOL = 64, 60
SETTINGS = ("reconstruction", "generation")
SET_METRICS = {
    metric.name: metric(extractor=torch.flatten)
    for metric in (FID, KID, MIND, ImagePrecision, ImageRecall, Density, Coverage)
}


def strengths() -> np.ndarray:
    """The noise's standard deviation of each checkpoint, in levels of 256."""
    steps = np.arange(1, CHECKPOINTS + 1) - BEST
    return 12 + np.where(steps < 0, -2 * steps, 3 * steps)


def clean_pool() -> list[Image.Image]:
    """Crops of the photographs, as many of one as of the other: first of one, then of the other."""
    images = open_images("builtin", image_size=SIZE)
    captions = np.array(images.captions)
    index = np.concatenate(
        [
            rows[np.linspace(0, len(rows) - 1, POOL // 2).astype(int)]
            for rows in (np.flatnonzero(captions == caption) for caption in sorted({*images.captions}))
        ]
    )
    pixels = (images.rows[index].reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    return [Image.fromarray(image) for image in pixels]


def degraded(image: Image.Image, strength: float, random: np.random.Generator) -> Tensor:
    """The image with blur and noise, uint8 (3, SIZE, SIZE)."""
    own = float(strength * np.exp(random.normal(0, 0.5)))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(own / 30)), float)
    noisy = (blurred + random.normal(0, own, blurred.shape)).clip(0, 255).round().astype(np.uint8)
    return to_image(noisy)


def lpips_vectors(images: Tensor, weights: Path) -> np.ndarray:
    """Vectors whose squared distances are LPIPS: the layers' weighted activations, (n, d)."""
    import lpips

    metric = LPIPS(weights=weights)
    metric.prepare()
    network = metric._distance
    scaled = network.scaling_layer(images / 127.5 - 1)
    layers = [lpips.normalize_tensor(layer) for layer in network.net(scaled)]
    heads = [head.model[-1].weight.sqrt() for head in network.lins]
    weighted = [layer * head / layer[0, 0].numel() ** 0.5 for layer, head in zip(layers, heads, strict=True)]
    vectors = torch.cat([layer.flatten(1) for layer in weighted], 1).numpy()
    one, other = metric.measure(images[:1], images[-1:]), np.square(vectors[0] - vectors[-1]).sum()
    assert abs(one - other) < 1e-4, "these are not LPIPS"
    return vectors


def classifier_logits(images: Tensor, weights: Path) -> np.ndarray:
    """ImageNet classes by EfficientNet-Lite0, (n, 1000)."""
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state = read_state(weights)
    own = network.state_dict()
    fill(network, dict(zip(own, state.values(), strict=True)), weights)
    pixels = torch.nn.functional.interpolate(images / 127.5 - 1, (224, 224), mode="bicubic", antialias=True)
    return network(pixels).double().numpy()


def inception_score(logits: np.ndarray) -> float:
    """As `metrics.InceptionScore` in one split."""
    logs = log_softmax(logits, axis=1)
    shares = np.exp(logs)
    return float(np.exp((shares * (logs - np.log(shares.mean(axis=0)))).sum(axis=1).mean()))


def in_batches(images: Tensor, function: Callable[[Tensor], Tensor | np.ndarray]) -> np.ndarray:
    """The function's rows for all images."""
    return np.concatenate([np.asarray(function(batch)) for batch in images.split(60)])


class Pool:
    """What the networks say of the crops: row 0 of each array has the clean ones, row c the ones of checkpoint c."""

    def __init__(self, args: Namespace) -> None:
        random, crops = np.random.default_rng(0), clean_pool()
        images = torch.stack(
            [to_image(crop) for crop in crops]
            + [degraded(crop, strength, random) for strength in strengths() for crop in crops]
        )
        self.rows: dict[str, np.ndarray] = {}
        inception = Inception(args.inception_weights)
        self._add("inception", in_batches(images, lambda batch: inception.features(batch).double()))
        self._add("lpips", in_batches(images, lambda batch: lpips_vectors(batch, args.lpips_weights)))
        if args.classifier_weights:
            logits = in_batches(images, lambda batch: classifier_logits(batch, args.classifier_weights))
            self._add("classifier", logits)
        if args.clip_pretrained:
            clip = CLIP(args.clip_model, args.clip_pretrained)
            self._add("clip", in_batches(images, lambda batch: clip.images(batch).double()))

    def _add(self, name: str, rows: np.ndarray) -> None:
        self.rows[name] = rows.reshape(1 + CHECKPOINTS, POOL, -1)

    def values(self, row: int, index: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """All metrics of a checkpoint, some up to a term that is the same for all checkpoints of a training."""

        def of_sets(metric: SetMetric, name: str) -> float:
            return metric.statistic(self.rows[name][row, index], self.rows[name][0, references])(np.arange(len(index)))

        values = {name: of_sets(metric, "inception") for name, metric in SET_METRICS.items()}
        values["fid"] += self.rows["inception"][0, references].var(axis=0, ddof=1).sum()
        pairs = self.rows["lpips"][row, index] - self.rows["lpips"][0, references]
        values["lpips"] = float(np.square(pairs).sum(axis=1).mean())
        values["cmmd of inception"] = of_sets(CMMD(extractor=torch.flatten), "inception")
        if "clip" in self.rows:
            values["cmmd"] = of_sets(CMMD(extractor=torch.flatten), "clip")
        if "classifier" in self.rows:
            values["inception_score"] = inception_score(self.rows["classifier"][row, index])
        values["composite, guarded"] = composite_of({"lpips": values["lpips"]}).value
        values["composite, unguarded"] = composite_of(values).value
        return values


HIGHER = {"inception_score", "image_precision", "image_recall", "density", "coverage"}


def crowned(values: list[dict[str, float]]) -> dict[str, int]:
    """The best checkpoint by each metric; of equal ones the newest, as the tracker chooses."""
    best = {}
    for name in values[0]:
        sign = 1 if name in HIGHER or name.startswith("composite") else -1
        best[name] = max(range(CHECKPOINTS), key=lambda at: (sign * values[at][name], at))
    return best


def draw(half: int, random: np.random.Generator, without: np.ndarray) -> np.ndarray:
    """Crops of both photographs, `half` of each, none of them in `without`."""
    halves = (np.setdiff1d(np.arange(start, start + POOL // 2), without) for start in (0, POOL // 2))
    return np.concatenate([random.choice(crops, half, replace=False) for crops in halves])


def main() -> None:
    """Simulate trainings and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--inception-weights", type=Path, required=True, metavar="FILE")
    flags.add_argument("--lpips-weights", type=Path, required=True, metavar="FILE", help="AlexNet")
    flags.add_argument(
        "--classifier-weights", type=Path, metavar="FILE", help="EfficientNet-Lite0, for Inception Score"
    )
    flags.add_argument("--clip-model", default="ViT-B-32", metavar="NAME")
    flags.add_argument("--clip-pretrained", metavar="WEIGHTS", help="for CMMD; without it CMMD is left out")
    flags.add_argument("--trainings", type=int, default=200, metavar="N", help="(default: %(default)s)")
    flags.add_argument(
        "--samples", type=int, default=20, metavar="N", help="an evaluation's images (default: %(default)s)"
    )
    args = flags.parse_args()
    start = time.perf_counter()
    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        pool = Pool(args)
    # The matrices of 20 images are too small to share.
    torch.set_num_threads(1)
    right = {*np.argsort(strengths(), kind="stable")[:TRUE_BEST].tolist()}
    hits: dict[str, dict[str, int]] = {}
    for setting in SETTINGS:
        random = np.random.default_rng(1)
        for _ in range(args.trainings):
            references = draw(args.samples // 2, random, np.array([]))
            values = []
            for row in range(1, CHECKPOINTS + 1):
                same = setting == "reconstruction"
                index = references if same else draw(args.samples // 2, random, references)
                values.append(pool.values(row, index, references))
            for name, best in crowned(values).items():
                hits.setdefault(name, dict.fromkeys(SETTINGS, 0))[setting] += best in right
    if not args.clip_pretrained:
        print("cmmd and clip_score are left out: no --clip-pretrained\n")
    rows = [
        {"metric": name} | {setting: f"{100 * count / args.trainings:.0f} %" for setting, count in counts.items()}
        for name, counts in hits.items()
    ]
    report(rows, args.json)
    print(f"\n{args.trainings} trainings, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

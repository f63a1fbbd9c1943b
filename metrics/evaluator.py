"""All metrics over one set of images: a dictionary out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from metrics.clip import CLIP
from metrics.clip_score import CLIPScore
from metrics.cmmd import CMMD
from metrics.errors import InputError, Unavailable
from metrics.fd_dinov2 import FDDINOv2
from metrics.features import Features, SetMetric
from metrics.fid import FID
from metrics.folders import ImageFolder
from metrics.images import as_sequence, to_image
from metrics.inception import Inception
from metrics.inception_score import InceptionScore
from metrics.kid import KID
from metrics.lpips_distance import LPIPS
from metrics.manifold import Coverage, Density, ImagePrecision, ImageRecall
from metrics.metric import Metric
from metrics.mind import MIND
from metrics.pixels import PSNR, SSIM
from metrics.references import References
from metrics.registry import Entry, registered
from metrics.report import Report, grouped
from metrics.runtime import randomness_kept, working_device
from metrics.streaming import missing, stream
from metrics.table import BUILT_IN, COMPOSITE, ERROR_SUFFIX, RESERVED

log = logging.getLogger("metrics")


class ImageEvaluator:
    """Evaluates generated images by every metric that the given images, texts and weights allow.

    Models are loaded when first needed and stay for later calls, until `release`.

    Args:
        device: Where the models run: "cpu", "cuda", "mps", ...
        metrics: What to compute: names, of built-in or registered metrics, and `Metric` objects, in any mixture; None
            for all built-in and registered metrics. An object is reported under its `name`, and used instead of a
            built-in or registered metric of that name: `metrics=["psnr", LPIPS(distance=my_distance)]`. Only a
            registered metric can add a part to the composite score.
        clip_model: `CLIPScore`'s model.
        clip_pretrained: `CLIPScore`'s weights.
        lpips_net: `LPIPS`'s net.
        lpips_weights: `LPIPS`'s file of weights.
        inception_weights: `Inception`'s file of weights, for Inception Score, FID, KID, MIND and precision to coverage.
        dinov2_weights: `DINOv2`'s file of weights; without one there is no fd_dinov2.
        guard: Whether a metric of fewer images than its floor stays out of the composite score. Not by default: with
            few images the composite of all parts found the best checkpoint more often (docs/BEST_CHECKPOINTS.md).
        batch_size: The most images in a batch.
        progress: Whether to show a progress bar on stderr, where that is a terminal.

    Raises:
        InputError: an unknown metric or net, two metrics of one name, a device that cannot be used, or a batch size
            below 1.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        metrics: Sequence[str | Metric] | None = None,
        *,
        clip_model: str = "ViT-B-32",
        clip_pretrained: str | Path = "laion2b_s34b_b79k",
        lpips_net: str = "alex",
        lpips_weights: str | Path | None = None,
        inception_weights: str | Path | None = None,
        dinov2_weights: str | Path | None = None,
        guard: bool = False,
        batch_size: int = 32,
        progress: bool = False,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"the batch size must be at least 1, got {batch_size}")
        device = working_device(device)
        inception = Inception(inception_weights, device)
        clip = CLIP(clip_model, clip_pretrained, device)
        features = Features(inception.features, inception)
        built_in: list[Metric] = [
            CLIPScore(clip=clip),
            LPIPS(lpips_net, lpips_weights, device),
            InceptionScore(inception=inception),
            *(metric(features=features) for metric in (FID, KID, MIND, ImagePrecision, ImageRecall, Density, Coverage)),
            CMMD(clip=clip),
            *([] if dinov2_weights is None else [FDDINOv2(dinov2_weights, device)]),
            PSNR(),
            SSIM(),
        ]
        self._chosen = None if metrics is None else _by_name(metrics)
        given = {name: metric for name, metric in (self._chosen or {}).items() if metric is not None}
        self._ready = {metric.name: metric for metric in built_in} | given
        self._batch_size, self._progress, self._guard = batch_size, progress, guard
        self._made: dict[str, tuple[Entry, Metric]] = {}
        self._out_of_reach: dict[str, Unavailable] = {}
        self._logged: set[str] = set()
        self._names()

    def evaluate(
        self, generated: Any, references: Any = None, prompts: Sequence[str | None] | None = None
    ) -> dict[str, Any]:
        """Every metric's value.

        The random states of torch, numpy and random are restored afterwards.

        Args:
            generated: Images of any kind that `metrics.images.to_image` takes: a list, a batch, or anything with a
                length and an index that gives one image, which is then read batch by batch.
            references: Reference images. Of as many as were generated, each is the reference of the image at its
                index (resized to it where the sizes differ); of another number, they are a set, for FID and the other
                metrics of sets alone. `References` gives both explicitly. Their features are kept: a set that is the
                same as at the last evaluation goes through no network again.
            prompts: A text for each generated image. Where one is None, metrics that need texts are left out.

        Returns:
            A plain dictionary: each metric's value under its name (and "inception_score_std"), its standard error under
            `<name>_se` where it has one, and what that follows from in "jackknife": {metric: its values without each of
            up to 20 groups of images}; "composite_score" and the "composite_parts" it is made of; "num_images",
            "num_references"; "weights": {metric: {"source": path, "sha256": digest}}; "left_out": {metric: why it has
            no value}; "below_floor": {metric: the fewest images from which its value means something} for metrics that
            had fewer; "notes": what to know when reading the values. A reason is also logged as a warning, once.

        Raises:
            InputError: no images, images that cannot be used, another number of prompts than of images, or a file of
                weights that cannot be used.
        """
        generated = as_sequence(generated)
        references = References.of(references, generated)
        names = self._names()
        with randomness_kept(), torch.inference_mode():
            report = self._report(names, generated, references, None if prompts is None else list(prompts))
        self._log(report)
        return report.as_dict()

    def release(self) -> None:
        """Free all models, and forget which weights were out of reach."""
        for metric in [*self._ready.values(), *(metric for _, metric in self._made.values())]:
            metric.release()
        self._made.clear()
        self._out_of_reach.clear()

    def _report(
        self,
        names: list[str],
        generated: Sequence[Any],
        references: References | None,
        given_prompts: list[str | None] | None,
    ) -> Report:
        prompts, why_no_prompts = _complete(given_prompts, generated)
        report = Report(len(generated), len(references.everything) if references else 0)
        streamed: dict[str, Metric] = {}
        functions: dict[str, Callable[..., float]] = {}
        for name in names:
            metric = self._metric(name)
            if not isinstance(metric, Metric):
                functions[name] = metric
            elif reason := missing(metric, references, prompts, why_no_prompts) or self._unprepared(name, metric):
                report.left_out[name] = reason
            else:
                streamed[name] = metric
        comparing = [metric for metric in streamed.values() if metric.needs_references]
        key = references.key() if references and comparing else None
        prepared = [metric for metric in comparing if isinstance(metric, SetMetric) and metric.keep_references(key)]
        for metric in streamed.values():
            if metric not in prepared:
                metric.reset()
        name_of = {id(metric): name for name, metric in streamed.items()}
        total = report.num_images + (report.num_references if len(prepared) < len(comparing) else 0)
        with tqdm(total=total, unit="image", leave=False, disable=None if self._progress else True) as bar:
            stream(
                streamed.values(),
                generated,
                references,
                prompts,
                self._batch_size,
                with_references=prepared,
                progress=bar.update,
                on_unavailable=lambda metric, reason: report.left_out.setdefault(name_of[id(metric)], str(reason)),
            )
        for name, metric in streamed.items():
            if name not in report.left_out:
                if isinstance(metric, SetMetric):
                    metric.features.references_key = key
                report.add(name, metric)
        if functions:
            _call(functions, report, generated, references, prompts)
        report.add_composite(self._guard)
        return report

    def _names(self) -> list[str]:
        """The names to compute, in the order of the report: built-in, registered, then given objects."""
        known = [*dict.fromkeys([*BUILT_IN, *registered(), *self._ready])]
        if FDDINOv2.name not in self._ready:
            if FDDINOv2.name in (self._chosen or ()):
                raise InputError("fd_dinov2 needs a file of weights: dinov2_weights")
            known.remove(FDDINOv2.name)
        unknown = [name for name in self._chosen or () if name not in known]
        if unknown:
            raise InputError(f"no metric has the name {unknown[0]!r}; there are {', '.join(known)}")
        return [name for name in known if self._chosen is None or name in self._chosen]

    def _log(self, report: Report) -> None:
        """Log why metrics are left out, or say nothing, one line for each reason that is new."""
        left_out = {name: reason for name, reason in report.left_out.items() if name != COMPOSITE}
        for what, reasons in (("left out", left_out), ("says nothing", report.says_nothing)):
            for reason, names in grouped(reasons).items():
                line = f"{what}: {', '.join(names)}: {reason}"
                if line not in self._logged:
                    self._logged.add(line)
                    log.warning(line)

    def _metric(self, name: str) -> Metric | Callable[..., float]:
        """The metric of a name: an object, or a registered function."""
        if name in self._ready:
            return self._ready[name]
        entry = registered()[name]
        if not isinstance(entry.metric, type):
            return entry.metric
        # A class is instantiated once for an evaluator, and again if another was registered under its name since.
        if name not in self._made or self._made[name][0] is not entry:
            self._made[name] = entry, entry.metric()
        return self._made[name][1]

    def _unprepared(self, name: str, metric: Metric) -> str | None:
        """Why the metric's model cannot be loaded; remembered, as finding out may take a network's timeout."""
        if name not in self._out_of_reach:
            try:
                metric.prepare()
                return None
            except Unavailable as reason:
                self._out_of_reach[name] = reason
        return str(self._out_of_reach[name])


def _by_name(metrics: Sequence[str | Metric]) -> dict[str, Metric | None]:
    """The chosen names, each with its object where one was given."""
    chosen: dict[str, Metric | None] = {}
    for metric in metrics:
        if not isinstance(metric, str | Metric):
            raise InputError(f"a metric is given by its name or as a metrics.Metric, not as {type(metric).__name__}")
        name = metric if isinstance(metric, str) else metric.name
        if isinstance(metric, Metric) and (name in RESERVED or name.endswith(ERROR_SUFFIX)):
            raise InputError(f"the name {name!r} is taken: choose another one for your metric")
        if name in chosen and (chosen[name] is not None or isinstance(metric, Metric)):
            raise InputError(f"two metrics have the name {name!r}")
        chosen[name] = metric if isinstance(metric, Metric) else None
    return chosen


def _complete(prompts: list[str | None] | None, generated: Sequence[Any]) -> tuple[list[str] | None, str]:
    """The prompts, if every image has one; otherwise None, and why."""
    if prompts is None:
        return None, "it needs prompts"
    texts = [prompt for prompt in prompts if prompt is not None]
    if len(texts) == len(prompts):
        return texts, ""
    if len(prompts) != len(generated):
        raise InputError(f"{len(generated)} images but {len(prompts)} prompts")
    first = prompts.index(None)
    name = generated.names[first] if isinstance(generated, ImageFolder) else f"image {first}"
    return None, f"{len(prompts) - len(texts):,} of {len(prompts):,} images have no caption (first: {name})"


def _call(
    functions: Mapping[str, Callable[..., float]],
    report: Report,
    generated: Sequence[Any],
    references: References | None,
    prompts: list[str] | None,
) -> None:
    """Call registered functions with everything at once."""
    images = [to_image(image, index) for index, image in enumerate(generated)]
    others = None
    if references is not None:
        chosen = references.everything if references.pairs is None else references.pairs
        others = [to_image(image, f"of the references, {index}") for index, image in enumerate(chosen)]
    for name, function in functions.items():
        try:
            report.values[name] = float(function(images, others, prompts))
        except Unavailable as reason:
            report.left_out[name] = str(reason)

"""All metrics over one set of images: a dictionary out."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from metrics.clip_score import CLIPScore
from metrics.composite import composite_of
from metrics.errors import InputError, Unavailable
from metrics.fid import FID
from metrics.images import as_sequence, to_image
from metrics.inception import Inception
from metrics.inception_score import InceptionScore
from metrics.lpips_distance import LPIPS
from metrics.metric import Metric
from metrics.pixels import PSNR, SSIM
from metrics.references import References
from metrics.registry import BUILT_IN, Entry, registered
from metrics.runtime import randomness_kept, working_device
from metrics.streaming import missing, stream

log = logging.getLogger("metrics")


class ImageEvaluator:
    """Judges generated images by every metric that the images, texts and weights at hand allow.

    Models are loaded when first needed and stay for later calls, until `release`.

    Args:
        device: Where the models run: "cpu", "cuda", "mps", ...
        metrics: The names of the metrics to compute; None for all, registered ones among them.
        clip_model: `CLIPScore`'s model.
        clip_pretrained: `CLIPScore`'s weights.
        lpips_net: `LPIPS`'s net.
        lpips_weights: `LPIPS`'s file of weights.
        inception_weights: `Inception`'s file of weights, for FID and Inception Score.
        batch_size: The most images in a batch.
        progress: Whether to show a progress bar on stderr, where that is a terminal.

    Raises:
        InputError: an unknown metric or net, a device that is not there, or a batch without images.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        metrics: Sequence[str] | None = None,
        clip_model: str = "ViT-B-32",
        clip_pretrained: str | Path = "laion2b_s34b_b79k",
        lpips_net: str = "alex",
        lpips_weights: str | Path | None = None,
        inception_weights: str | Path | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"the batch size must be at least 1, got {batch_size}")
        device = working_device(device)
        inception = Inception(inception_weights, device)
        self._built_in: dict[str, Metric] = {
            "clip_score": CLIPScore(clip_model, clip_pretrained, device),
            "lpips": LPIPS(lpips_net, lpips_weights, device),
            "inception_score": InceptionScore(inception=inception),
            "fid": FID(inception=inception),
            "psnr": PSNR(),
            "ssim": SSIM(),
        }
        self._wanted = None if metrics is None else list(metrics)
        self._batch_size, self._progress = batch_size, progress
        self._own: dict[str, tuple[Entry, Metric]] = {}
        self._out_of_reach: dict[str, Unavailable] = {}
        self._told: set[tuple[str, str]] = set()
        self._names()

    def evaluate(self, generated: Any, references: Any = None, prompts: Sequence[str] | None = None) -> dict[str, Any]:
        """Every metric's value.

        The random states of torch, numpy and random are as before afterwards.

        Args:
            generated: Images of any kind that `metrics.images.to_image` takes: a list, a batch, or anything with a
                length and an index that gives one image, which is then read batch by batch.
            references: Reference images. Of as many as were generated, each is the reference of the image at its
                place (brought to its size where that differs); of another number, they are a set, for FID alone.
                `References` says it apart.
            prompts: A text for each generated image.

        Returns:
            A plain dictionary: each metric's value under its name (and "inception_score_std"); "composite_score" and
            the "composite_parts" it is made of; "num_images", "num_references"; "weights": {metric: {"source": path,
            "sha256": digest}}; "left_out": {metric: why it has no value}; "notes": what to know when reading the
            values. A reason is also logged as a warning, once.

        Raises:
            InputError: no images, images that cannot be used, another number of prompts than of images, or a file of
                weights that cannot be used.
        """
        generated = as_sequence(generated)
        described = References.of(references, generated)
        prompts = None if prompts is None else list(prompts)
        with randomness_kept(), torch.inference_mode():
            return self._evaluate(generated, described, prompts)

    def _evaluate(
        self, generated: Sequence[Any], references: References | None, prompts: list[str] | None
    ) -> dict[str, Any]:
        left_out: dict[str, str] = {}
        names, streamed, functions = self._names(), {}, {}
        for name in names:
            metric = self._metric(name)
            if not isinstance(metric, Metric):
                functions[name] = metric
            elif reason := missing(metric, references, prompts) or self._unprepared(name, metric):
                left_out[name] = reason
            else:
                metric.reset()
                streamed[name] = metric
        by_metric = {id(metric): name for name, metric in streamed.items()}
        total = len(generated) + self._size_of_set(streamed, references)
        with tqdm(total=total, unit="image", leave=False, disable=None if self._progress else True) as bar:
            stream(
                streamed.values(),
                generated,
                references,
                prompts,
                self._batch_size,
                bar.update,
                lambda metric, reason: left_out.setdefault(by_metric[id(metric)], str(reason)),
            )
        values: dict[str, float] = {}
        weights: dict[str, dict[str, str]] = {}
        notes: list[str] = []
        for name, metric in streamed.items():
            if name in left_out:
                continue
            try:
                values[name] = float(metric.compute())
            except Unavailable as reason:
                left_out[name] = str(reason)
                continue
            values |= metric.extras()
            notes += metric.notes()
            if source := metric.weights():
                weights[name] = dict(source)
        self._call(functions, (generated, references, prompts), values, left_out)
        return self._report(names, values, generated, references, weights, left_out, notes)

    def _report(
        self,
        names: list[str],
        values: dict[str, float],
        generated: Sequence[Any],
        references: References | None,
        weights: dict[str, dict[str, str]],
        left_out: dict[str, str],
        notes: list[str],
    ) -> dict[str, Any]:
        composite = composite_of(values)
        if composite.value is None:
            left_out["composite_score"] = "none of its parts has a value"
        else:
            values["composite_score"] = composite.value
            if composite.left_out:
                notes.append(
                    f"composite_score: of {', '.join(composite.parts)}, without {', '.join(composite.left_out)}; "
                    "compare it only with composites of the same parts"
                )
        for name, reason in left_out.items():
            if (name, reason) not in self._told and name in names:
                self._told.add((name, reason))
                log.warning("%s is left out: %s", name, reason)
        return {
            **values,
            "composite_parts": list(composite.parts),
            "num_images": len(generated),
            "num_references": len(references.everything) if references else 0,
            "weights": weights,
            "left_out": left_out,
            "notes": notes,
        }

    def release(self) -> None:
        """Let go of all models, and forget which weights were out of reach."""
        for metric in [*self._built_in.values(), *(metric for _, metric in self._own.values())]:
            metric.release()
        self._own.clear()
        self._out_of_reach.clear()

    def _names(self) -> list[str]:
        known = [*BUILT_IN, *registered()]
        unknown = [name for name in self._wanted or [] if name not in known]
        if unknown:
            raise InputError(f"no metric has the name {unknown[0]!r}; there are {', '.join(known)}")
        return [name for name in known if self._wanted is None or name in self._wanted]

    def _metric(self, name: str) -> Any:
        """The metric of a name: an object, or a registered function."""
        if name in self._built_in:
            return self._built_in[name]
        entry = registered()[name]
        if not isinstance(entry.metric, type):
            return entry.metric
        # A class is made once for an evaluator, and anew where another was registered under its name since.
        if name not in self._own or self._own[name][0] is not entry:
            self._own[name] = entry, entry.metric()
        return self._own[name][1]

    def _unprepared(self, name: str, metric: Metric) -> str | None:
        """Why the metric's model cannot be loaded; asked once, as the answer may take a network's patience."""
        if name not in self._out_of_reach:
            try:
                metric.prepare()
                return None
            except Unavailable as reason:
                self._out_of_reach[name] = reason
        return str(self._out_of_reach[name])

    @staticmethod
    def _size_of_set(streamed: dict[str, Metric], references: References | None) -> int:
        wanted = any(metric.needs_references for metric in streamed.values())
        return len(references.everything) if wanted and references else 0

    @staticmethod
    def _call(functions: dict[str, Any], given: tuple, values: dict[str, float], left_out: dict[str, str]) -> None:
        """Call registered functions with everything at once."""
        if not functions:
            return
        generated, references, prompts = given
        images = [to_image(image, place) for place, image in enumerate(generated)]
        others = None
        if references is not None:
            chosen = references.everything if references.pairs is None else references.pairs
            others = [to_image(image, f"of the references, {place}") for place, image in enumerate(chosen)]
        for name, function in functions.items():
            try:
                values[name] = float(function(images, others, prompts))
            except Unavailable as reason:
                left_out[name] = str(reason)

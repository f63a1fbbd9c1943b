"""Evaluate generated images: CLIP score, LPIPS, Inception Score, FID, KID, CMMD and more, and one composite of them.

The public names are imported when first used, so that `import metrics` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metrics.clip_score import CLIPScore as CLIPScore
    from metrics.cmmd import CMMD as CMMD
    from metrics.composite import Composite as Composite
    from metrics.composite import composite_of as composite_of
    from metrics.composite import composite_score as composite_score
    from metrics.errors import InputError as InputError
    from metrics.errors import Unavailable as Unavailable
    from metrics.evaluator import ImageEvaluator as ImageEvaluator
    from metrics.fd_dinov2 import FDDINOv2 as FDDINOv2
    from metrics.fid import FID as FID
    from metrics.inception import Inception as Inception
    from metrics.inception_score import InceptionScore as InceptionScore
    from metrics.kid import KID as KID
    from metrics.lpips_distance import LPIPS as LPIPS
    from metrics.manifold import Coverage as Coverage
    from metrics.manifold import Density as Density
    from metrics.manifold import ImagePrecision as ImagePrecision
    from metrics.manifold import ImageRecall as ImageRecall
    from metrics.metric import Metric as Metric
    from metrics.mind import MIND as MIND
    from metrics.pixels import PSNR as PSNR
    from metrics.pixels import SSIM as SSIM
    from metrics.references import References as References
    from metrics.registry import register as register
    from metrics.registry import unregister as unregister

_MODULES = {
    "CLIPScore": "clip_score",
    "CMMD": "cmmd",
    "Composite": "composite",
    "Coverage": "manifold",
    "Density": "manifold",
    "FDDINOv2": "fd_dinov2",
    "FID": "fid",
    "ImageEvaluator": "evaluator",
    "ImagePrecision": "manifold",
    "ImageRecall": "manifold",
    "Inception": "inception",
    "InceptionScore": "inception_score",
    "InputError": "errors",
    "KID": "kid",
    "LPIPS": "lpips_distance",
    "MIND": "mind",
    "Metric": "metric",
    "PSNR": "pixels",
    "References": "references",
    "SSIM": "pixels",
    "Unavailable": "errors",
    "composite_of": "composite",
    "composite_score": "composite",
    "register": "registry",
    "unregister": "registry",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'metrics' has no attribute {name!r}")
    value = getattr(import_module(f"metrics.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

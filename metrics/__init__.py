"""Evaluate generated images: CLIP score, LPIPS, Inception Score, FID, PSNR, SSIM and one composite of them.

The public names are imported when first used, so that `import metrics` does not wait for torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "CLIPScore": "clip_score",
    "Composite": "composite",
    "FID": "fid",
    "ImageEvaluator": "evaluator",
    "Inception": "inception",
    "InceptionScore": "inception_score",
    "InputError": "errors",
    "LPIPS": "lpips_distance",
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

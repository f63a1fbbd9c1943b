"""Train an encoder that shortens embedding vectors and keeps their nearest neighbours.

The public names are loaded when first used, so that `import dploss` does not wait for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BestCheckpointTracker": "tracking.tracker",
    "CheckpointManager": "experiments.checkpoints",
    "ConvAutoencoder": "models.autoencoder",
    "DPEncoder": "models.encoder",
    "DPLossV1": "losses.distance_preserving",
    "DPLossV1Norm": "losses.distance_preserving",
    "DPLossV2": "losses.distance_preserving",
    "DPLossV2Norm": "losses.distance_preserving",
    "DPLossV3": "losses.distance_preserving",
    "DPReducer": "integrations.sklearn_reducer",
    "RecallEvaluator": "evaluation.recall",
    "TrainConfig": "config",
    "TrainHistory": "experiments.history",
    "RerankingIndex": "integrations.faiss_index",
    "ShortEmbedding": "integrations.sentence_transformer",
    "export_onnx": "integrations.onnx_export",
    "linear_map": "integrations.onnx_export",
    "linear_transform": "integrations.faiss_index",
    "load_encoder": "models.build",
    "open_images": "data.images",
    "open_vectors": "data",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "soft_rank":
        return import_module("dploss.losses.soft_rank")
    if name not in _HOMES:
        raise AttributeError(f"module 'dploss' has no attribute {name!r}")
    value = getattr(import_module(f"dploss.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

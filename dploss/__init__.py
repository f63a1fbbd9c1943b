"""Train an encoder that shortens embedding vectors and keeps their nearest neighbours.

The public names are loaded when first used, so that `import dploss` does not wait for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BestCheckpointTracker": "best_checkpoints",
    "CheckpointManager": "checkpoints",
    "ConvAutoencoder": "autoencoder",
    "DPEncoder": "encoder",
    "DPLossV1": "losses",
    "DPLossV1Norm": "losses",
    "DPLossV2": "losses",
    "DPLossV2Norm": "losses",
    "DPLossV3": "losses",
    "DPReducer": "reducer",
    "RecallEvaluator": "recall",
    "TrainConfig": "config",
    "TrainHistory": "history",
    "RerankingIndex": "faiss_index",
    "ShortEmbedding": "short_embedding",
    "export_onnx": "exports",
    "linear_map": "exports",
    "linear_transform": "faiss_index",
    "load_encoder": "models",
    "open_images": "images",
    "open_vectors": "vectors",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "soft_rank":
        return import_module("dploss.soft_rank")
    if name not in _HOMES:
        raise AttributeError(f"module 'dploss' has no attribute {name!r}")
    value = getattr(import_module(f"dploss.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

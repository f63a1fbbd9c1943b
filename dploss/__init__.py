"""Train an encoder that reduces the dimensions of embedding vectors and preserves their nearest neighbours.

The public names are loaded when first used, so that `import dploss` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dploss.config import TrainConfig as TrainConfig
    from dploss.data import open_vectors as open_vectors
    from dploss.data.images import open_images as open_images
    from dploss.evaluation.recall import RecallEvaluator as RecallEvaluator
    from dploss.experiments.checkpoints import CheckpointManager as CheckpointManager
    from dploss.experiments.history import TrainHistory as TrainHistory
    from dploss.integrations.faiss_index import RerankingIndex as RerankingIndex
    from dploss.integrations.faiss_index import linear_transform as linear_transform
    from dploss.integrations.onnx_export import export_onnx as export_onnx
    from dploss.integrations.onnx_export import linear_map as linear_map
    from dploss.integrations.sentence_transformer import ShortEmbedding as ShortEmbedding
    from dploss.integrations.sharing import share as share
    from dploss.integrations.sklearn_reducer import DPReducer as DPReducer
    from dploss.losses.distance_preserving import DPLossV1 as DPLossV1
    from dploss.losses.distance_preserving import DPLossV1Norm as DPLossV1Norm
    from dploss.losses.distance_preserving import DPLossV2 as DPLossV2
    from dploss.losses.distance_preserving import DPLossV2Norm as DPLossV2Norm
    from dploss.losses.distance_preserving import DPLossV3 as DPLossV3
    from dploss.models.autoencoder import ConvAutoencoder as ConvAutoencoder
    from dploss.models.build import load_encoder as load_encoder
    from dploss.models.encoder import DPEncoder as DPEncoder
    from dploss.search.code_index import CodeIndex as CodeIndex
    from dploss.tracking.tracker import BestCheckpointTracker as BestCheckpointTracker

__version__ = "0.2.0"

_HOMES = {
    "BestCheckpointTracker": "tracking.tracker",
    "CheckpointManager": "experiments.checkpoints",
    "CodeIndex": "search.code_index",
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
    "share": "integrations.sharing",
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

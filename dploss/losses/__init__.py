"""Distance-preserving losses: are the distances within a batch, and their ranks, preserved by the encoder?"""

from dploss.losses.distance_preserving import (
    LOSSES,
    DPLoss,
    DPLossV1,
    DPLossV1Norm,
    DPLossV2,
    DPLossV2Norm,
    DPLossV3,
    LossTerms,
)
from dploss.losses.matryoshka import MatryoshkaLoss

__all__ = [
    "LOSSES",
    "DPLoss",
    "DPLossV1",
    "DPLossV1Norm",
    "DPLossV2",
    "DPLossV2Norm",
    "DPLossV3",
    "LossTerms",
    "MatryoshkaLoss",
]

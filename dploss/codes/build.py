"""Codes by their name: fitted to latents, or as a checkpoint has them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dploss.codes.binary import BinaryCode
from dploss.codes.code import Code, arrays_of
from dploss.codes.elementwise import Float16Code, Int4Code, Int8Code
from dploss.codes.pq import ProductCode
from dploss.codes.refined_code import RefinedCode, RefinedScalarCode, RefinedTrellisCode
from dploss.codes.scalar import ScalarCode
from dploss.codes.trained_binary import TrainedBinaryCode
from dploss.codes.trained_elementwise import (
    TrainedElementwiseCode,
    TrainedFloat16Code,
    TrainedInt4Code,
    TrainedInt8Code,
)
from dploss.codes.trellis import TrellisCode
from dploss.losses.distance_preserving import DPLoss

_ALL: tuple[type[Code], ...] = (TrellisCode, ScalarCode, Float16Code, Int8Code, Int4Code, BinaryCode, ProductCode)
CODES: dict[str, type[Code]] = {code.name: code for code in _ALL}
_REFINED: dict[str, type[RefinedCode]] = {TrellisCode.name: RefinedTrellisCode, ScalarCode.name: RefinedScalarCode}
_BY_LOSS: dict[str, type[TrainedElementwiseCode] | type[TrainedBinaryCode]] = {
    Float16Code.name: TrainedFloat16Code,
    Int8Code.name: TrainedInt8Code,
    Int4Code.name: TrainedInt4Code,
    BinaryCode.name: TrainedBinaryCode,
}
# What training makes of some, by their names.
TRAINED: dict[str, type[Code]] = {**_REFINED, **_BY_LOSS}
ALL_CODES = CODES | {code.name: code for code in TRAINED.values()}


def fit_code(
    name: str,
    latents: np.ndarray,
    n_bytes: int,
    loss: DPLoss | None = None,
    metric: str = "euclidean",
    queries: np.ndarray | None = None,
) -> Code:
    """Fit a code to latents of training rows.

    Args:
        name: a key of CODES.
        latents: (n, d) float32.
        n_bytes: stored for each row.
        loss: with it, what training makes of the code, where there is such a thing and it keeps more neighbours.
        metric: how queries are compared with rows, an encoder's `latent_metric`.
        queries: see `Code.fit`.

    Raises:
        ValueError: a number of bytes that the code cannot have with d dimensions.
    """
    if loss is None or name not in TRAINED:
        return CODES[name].fit(latents, n_bytes, metric, queries)
    if name in _BY_LOSS:
        return _BY_LOSS[name].fit(latents, n_bytes, metric, queries, loss)
    return _REFINED[name].fit(latents, n_bytes, metric, queries)


def code_of(state: Mapping[str, Any]) -> Code:
    """The code that `Code.state_dict` was called on.

    Raises:
        KeyError, TypeError, ValueError: it is no state of a code.
    """
    name, n_bytes = state["name"], state["bytes"]
    if name not in ALL_CODES or type(n_bytes) is not int or n_bytes < 1:
        raise ValueError(f"no code {name!r} of {n_bytes!r} bytes")
    return ALL_CODES[name].from_arrays(n_bytes, arrays_of(state["arrays"]))

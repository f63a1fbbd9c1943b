"""Forms: rows and queries as each way to shorten them gives them, and how they are compared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dploss.codes.code import search_form
from dploss.evaluation.sides import Sides
from dploss.evaluation.space import Space
from dploss.experiments.checkpoints import Checkpoint
from dploss.experiments.history import START
from dploss.experiments.layout import epoch_checkpoint
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.build import load_encoder
from dploss.models.encoder import DPEncoder
from dploss.text import elided

ORIGINAL, RERANKED = "original", "re-ranked x"
_NAME_WIDTH = 24


@dataclass(frozen=True)
class Form:
    """Rows and queries in one form.

    Attributes:
        name: "original", "encoder", "encoder, 64 bytes", ...
        rows: (N, d).
        queries: (Q, d).
        metric: "euclidean", the least distance is nearest, or "ip", the largest inner product is.
    """

    name: str
    rows: np.ndarray
    queries: np.ndarray
    metric: str

    def space(self, queries: np.ndarray | None = None) -> Space:
        """The rows, searched by the queries, or by those of some indices."""
        asked = self.queries if queries is None else self.queries[queries]
        return Space(self.name, torch.from_numpy(self.rows), torch.from_numpy(asked), self.metric, are_rows=False)


def searched(form: str, factor: int) -> str:
    """The name of a search by a form whose k x factor candidates the originals re-rank; 1: by the form alone."""
    return form if factor == 1 else f"{form}, {RERANKED} {factor}"


def table_name(search: str) -> str:
    """The name of a search in the first column of a table, where re-ranked ones are below their form."""
    return f"  {search[search.index(RERANKED) :]}" if RERANKED in search else elided(search, _NAME_WIDTH)


def forms_of(
    encoders: Mapping[str, DPEncoder | ConvAutoencoder],
    baselines: Mapping[str, Sides],
    rows: np.ndarray,
    queries: np.ndarray,
) -> Iterator[Form]:
    """The short forms of rows and queries, one after the other, for all at once are large.

    Args:
        encoders: by name; one that has a code is two forms, of which the second is stored, and searched by floats.
        baselines: by name.
        rows: (N, D) float32.
        queries: (Q, D) float32.
    """
    for name, encoder in encoders.items():
        latents, asked = encoder.encode(rows), encoder.encode_queries(queries)
        yield Form(name, latents, asked, encoder.latent_metric)
        if encoder.code is not None:
            stored = search_form(encoder.code, encoder.code.encode(latents), asked)
            yield Form(f"{name}, {encoder.code.bytes_per_vector} bytes", *stored, "euclidean")
    for name, sides in baselines.items():
        yield Form(name, sides.encode(rows), sides.encode_queries(queries), sides.latent_metric)


def start_of(
    checkpoint: Checkpoint, path: Path, encoder: DPEncoder | ConvAutoencoder
) -> dict[str, DPEncoder | ConvAutoencoder]:
    """The encoder before its first epoch, by its name; none where it is the encoder itself, or is gone."""
    start = path.parent / epoch_checkpoint(0)
    return {START: load_encoder(start).to(encoder.mean.device)} if checkpoint["epoch"] and start.is_file() else {}

"""The encoder whose queries have a map of their own, for queries that do not look like rows, or inner products."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dploss.models.encoder import WEIGHT_SIZE, DPEncoder, initialize_paths
from dploss.models.layers import EqualizedLinear
from dploss.models.sphering import Sphering

_Array = TypeVar("_Array", np.ndarray, Tensor)

# Measured with queries; rows whose norms may change at will need no gain.
_TRAINING_SHARE = 0.75


class AsymmetricEncoder(DPEncoder):
    """Encoder of rows, and one of queries, whose latents are compared by their inner product.

    The largest inner product of latents is the nearest row by the metric. Rows are sphered by the second moment of
    queries (see `Sphering`), then reduced as a DPEncoder reduces vectors, so that distances of sphered rows are how
    much their scores differ for queries. Queries have a linear path and a branch of their own, and no norm restored:
    a query's norm ranks nothing.

    Args:
        input_dim: D, dimensions of a vector.
        hidden_dims: see `DPEncoder`.
        latent_dim: d, dimensions of a latent.
        metric: what latents preserve the order of: "euclidean" distance, "cosine", or "ip", the inner product.
        dropout: see `DPEncoder`.
        dims: see `Encoder`.

    Raises:
        ValueError: an argument outside its range.
    """

    metrics = ("euclidean", "cosine", "ip")
    latent_metric = "ip"
    half_norm: Tensor
    row_sphering: Tensor
    query_sphering: Tensor

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int] = (768,),
        latent_dim: int = 512,
        metric: str = "euclidean",
        dropout: float = 0.0,
        dims: Sequence[int] = (),
    ) -> None:
        super().__init__(input_dim, hidden_dims, latent_dim, metric, dropout, dims)
        self.training_share = _TRAINING_SHARE
        self.query_linear = EqualizedLinear(self.reduced_dim, self.latent_dim, WEIGHT_SIZE)
        self.query_branch = self.new_branch()
        self.register_buffer("half_norm", torch.zeros(()))
        self.register_buffer("row_sphering", torch.eye(self.reduced_dim))
        self.register_buffer("query_sphering", torch.eye(self.reduced_dim))

    @property
    def reduced_dim(self) -> int:
        """D, and for the Euclidean distance one more."""
        return self.input_dim + (self.metric == "euclidean")

    def new_log_gain(self) -> None:
        """None: an inner product takes the norms of rows into account as they are."""

    @torch.no_grad()
    def sphere(self, sphering: Sphering) -> None:
        """Take mean, scale and both linear maps to sphered vectors; the weights are not changed."""
        self.mean.copy_(torch.from_numpy(sphering.mean))
        self.scale.fill_(sphering.scale)
        self.half_norm.fill_(sphering.half_norm)
        self.row_sphering.copy_(torch.from_numpy(sphering.rows))
        self.query_sphering.copy_(torch.from_numpy(sphering.queries))

    def initialize_from_sphering(self, sphering: Sphering) -> None:
        """Initialise both sides with the closed form, and the branch's last layer with 0."""
        self.sphere(sphering)
        projection = torch.from_numpy(sphering.pca.components)
        initialize_paths(self.linear, self.branch, projection)
        initialize_paths(self.query_linear, self.query_branch, projection)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) vectors -> (..., d) latents."""
        return self._reduce(self.sphered(x))

    def sphered(self, x: Tensor) -> Tensor:
        """(..., D) vectors -> (..., D'), whose distances are how much their scores differ, as a mean over queries."""
        u = (self.as_compared(x) - self.mean) / self.scale
        if self.metric == "euclidean":
            u = torch.cat([u, u.square().sum(dim=-1, keepdim=True) / 2 - self.half_norm], dim=-1)
        return u @ self.row_sphering

    def query_latents(self, queries: Tensor) -> Tensor:
        """(..., D) queries -> (..., d) latents."""
        sphered = self.sphered_queries(queries)
        y = self.query_linear(sphered)
        return (y if self.query_branch is None else y + self.query_branch(sphered)) * self.scale

    def sphered_queries(self, queries: Tensor) -> Tensor:
        """(..., D) queries -> (..., D'); their inner products with sphered rows rank these exactly."""
        q = self.as_compared(queries)
        if self.metric == "euclidean":
            q = (q - self.mean) / self.scale
            q = torch.cat([q, -torch.ones_like(q[..., :1])], dim=-1)
        else:
            q = q / self.scale
        return q @ self.query_sphering

    def encode_queries(
        self,
        array: _Array,
        batch_size: int = 8192,
        dim: int | None = None,
        *,
        any_dim: bool = False,
        input_name: str = "queries",
    ) -> _Array:
        """See `Encoder.encode_queries`; the largest inner product with latents of rows is the nearest row."""
        return self._encode(
            lambda rows, size: self.query_latents(rows)[..., :size], array, batch_size, dim, any_dim, input_name
        )


class BothSides(nn.Module):
    """The two sides of an encoder in one call, as a step of a training needs them.

    Args:
        encoder: the one that is trained.
    """

    def __init__(self, encoder: AsymmetricEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, D) rows and (Q, D) queries -> (B, d) and (Q, d) latents, and those that the rows have as queries."""
        asked = self.encoder.query_latents(torch.cat([q, x]))
        return self.encoder(x), asked[: len(q)], asked[len(q) :]

"""The trained baselines of quality.py: other methods of dimensionality reduction.

Where they standardise, they centre the rows and divide them by a single scale: one per coordinate would change which
rows are neighbours. They use Adam, and a tenth of the training rows for early stopping.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional as F

from dploss.data import split_rows
from dploss.models.pca import PCA, restore_norm

HIDDEN, PATIENCE = 768, 10
# Measured best for TorchDR here: number of rows, and their root mean square norm.
SNE_ROWS, SNE_NORM = 4096, 5.0


@dataclass(frozen=True)
class Case:
    """One encoder to fit and to evaluate.

    Attributes:
        name: of the data set, as displayed.
        source: "builtin" or a file, as open_vectors takes it.
        limit: number of rows, the first of the data set.
        seed: of the split and of the method's initialisation.
        size: d, latent dimensions.
        method: its name in METHODS.
        epochs: of our trainings.
        quick: whether the slow baselines stop early, too.
    """

    name: str
    source: str
    limit: int
    seed: int
    size: int
    method: str
    epochs: int
    quick: bool = False


Encode = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, Case], Encode]


def autoencoder(rows: np.ndarray, case: Case) -> Encode:
    """D -> 768 -> d -> 768 -> D with GELU, mean squared error; the latent is the bottleneck."""
    standardise = _standardiser(rows)
    x = standardise(torch.from_numpy(rows))
    torch.manual_seed(case.seed)
    encoder, decoder = _mlp(x.shape[1], HIDDEN, case.size), _mlp(case.size, HIDDEN, x.shape[1])

    def loss(batch: Tensor) -> Tensor:
        return F.mse_loss(decoder(encoder(x[batch])), x[batch])

    _train(nn.ModuleList([encoder, decoder]), loss, len(x), case.seed, batch_size=256, epochs=5 if case.quick else 100)
    return _without_gradients(lambda new: encoder(standardise(new)))


def matryoshka_adaptor(rows: np.ndarray, case: Case) -> Encode:
    """The first d dimensions of y = x + f(x): Yoon et al. 2024, arXiv:2407.20243, unsupervised.

    Reimplemented from the paper, whose authors published no code. The loss is the absolute difference of the cosine
    similarities of y's prefixes and of x, over all pairs and over pairs of a row and one of its 10 nearest, plus
    |f(x)|; weights of 1, Adam, 0.001, 128 rows per batch. Our choices: f is an MLP D -> 768 -> D; one of each row's
    nearest, drawn at random, stands for all; the prefixes are the powers of 2 from 32 on, and d; a latent has the norm
    of its row, so that preserved similarities are preserved Euclidean distances.
    """
    norm = np.linalg.norm(rows, axis=1).mean()
    x = torch.from_numpy(rows / norm)
    near = NearestNeighbors(n_neighbors=10, metric="cosine").fit(rows).kneighbors(return_distance=False)
    near = torch.from_numpy(near)
    dim = rows.shape[1]
    prefixes = {size for size in (2**power for power in range(5, 16)) if size < dim} | {case.size}
    torch.manual_seed(case.seed)
    f = _mlp(dim, HIDDEN, dim)

    def loss(batch: Tensor) -> Tensor:
        drawn = torch.randint(near.shape[1], (len(batch),))
        before = x[torch.cat([batch, near[batch, drawn]])]
        added = f(before)
        after, similarity = before + added, _cosines(before)
        total = added.abs().mean()
        for size in prefixes:
            change = (_cosines(after[:, :size]) - similarity).abs()
            # Row i and the neighbour drawn for it are len(batch) rows apart.
            total = total + change.mean() + change.diagonal(len(batch)).mean()
        return total

    _train(f, loss, len(x), case.seed, batch_size=128, epochs=2 if case.quick else 30)
    encode = _without_gradients(lambda new: (new + f(new))[:, : case.size])
    return lambda new: restore_norm(encode(new / norm), new)


def umap(rows: np.ndarray, case: Case) -> Encode:
    """UMAP by umap-learn (McInnes et al. 2018) with its defaults, initialised from PCA; new rows by its transform.

    The first fit in a process also compiles it, which takes half a minute.
    """
    from umap import UMAP

    model = UMAP(
        n_components=case.size,
        init="pca",
        n_epochs=20 if case.quick else 200,
        random_state=case.seed,
        n_jobs=1,
    )
    return model.fit(rows).transform


def torchdr_sne(rows: np.ndarray, case: Case) -> Encode:
    """TorchDR's SNE (Hinton & Roweis 2002) with an encoder, so that it can encode new rows.

    The encoder is a projection initialised from PCA, as TorchDR's embeddings are, plus an MLP D -> 768 -> d initialised
    to 0. Of TorchDR's methods SNE keeps most neighbours here. Every step compares all pairs of rows, so it is fitted to
    at most SNE_ROWS of them, drawn at random.
    """
    from torchdr import SNE

    chosen = np.random.RandomState(case.seed).permutation(len(rows))[: SNE_ROWS // 4 if case.quick else SNE_ROWS]
    standardise = _standardiser(rows, SNE_NORM * rows.shape[1] ** -0.5)
    torch.manual_seed(case.seed)
    encoder = _FromPCA(PCA.fit(rows, case.size))
    model = SNE(
        n_components=case.size,
        encoder=encoder,
        optimizer="Adam",
        optimizer_kwargs=None,
        lr=1e-4,
        max_iter=10 if case.quick else 100,
        early_exaggeration_coeff=None,
        early_exaggeration_iter=None,
        backend=None,
        device="cpu",
        random_state=case.seed,
    )
    model.fit_transform(standardise(torch.from_numpy(rows[chosen])))
    return _without_gradients(lambda new: model.transform(standardise(new)))


def _train(
    model: nn.Module, loss: Callable[[Tensor], Tensor], rows: int, seed: int, batch_size: int, epochs: int
) -> None:
    """Train by Adam on nine tenths of the rows, and keep the weights with the least loss on the other tenth.

    Args:
        model: the model to train.
        loss: of the rows of (B,) indices.
        rows: number of rows.
        seed: of the validation split and of the batches.
        batch_size: rows per batch.
        epochs: maximum; the training stops after PATIENCE epochs without improvement.
    """
    training, validation = (torch.from_numpy(part) for part in split_rows(rows, 0.1, seed))
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    least, best, weights = np.inf, 0, model.state_dict()
    for epoch in range(epochs):
        for batch in training[torch.randperm(len(training), generator=order)].split(batch_size):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        with torch.no_grad():
            value = loss(validation).item()
        if value < least:
            least, best, weights = value, epoch, copy.deepcopy(model.state_dict())
        elif epoch - best >= PATIENCE:
            break
    model.load_state_dict(weights)


def _mlp(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, output_dim))


class _FromPCA(nn.Module):
    """A projection of centred rows initialised from PCA, plus an MLP initialised to 0."""

    def __init__(self, pca: PCA) -> None:
        super().__init__()
        size, dim = pca.components.shape
        self.linear, self.branch = nn.Linear(dim, size, bias=False), _mlp(dim, HIDDEN, size)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(pca.components))
            self.branch[-1].weight.zero_()
            self.branch[-1].bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.branch(x)


def _standardiser(rows: np.ndarray, size: float = 1.0) -> Callable[[Tensor], Tensor]:
    """A function that centres rows, and scales their root mean square coordinate to `size`."""
    mean = rows.mean(axis=0)
    scale = size / (rows - mean).std()
    return lambda x: (x - torch.from_numpy(mean)) * float(scale)


def _without_gradients(encode: Callable[[Tensor], Tensor]) -> Encode:
    @torch.no_grad()
    def encode_array(rows: np.ndarray) -> np.ndarray:
        return encode(torch.from_numpy(rows)).numpy()

    return encode_array


def _cosines(rows: Tensor) -> Tensor:
    units = F.normalize(rows, dim=-1)
    return units @ units.T

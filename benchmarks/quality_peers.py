"""The trained peers of quality.py: what others use to shorten vectors.

They centre the rows and divide them by one scale, where they standardise at all: one for each coordinate would change
which rows are neighbours. They use Adam and a tenth of the training rows to know when to stop.
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
from dploss.models.pca import PCA

HIDDEN, PATIENCE = 768, 10
# What serves TorchDR best here: so many rows, brought to this root mean square length.
SNE_ROWS, SNE_LENGTH = 4096, 5.0


@dataclass(frozen=True)
class Case:
    """One encoder to fit and to judge.

    Attributes:
        name: of the data set, as it is shown.
        source: "builtin" or a file, as open_vectors takes it.
        limit: only the first so many of its rows.
        seed: of the split and of the method's start.
        size: d, numbers in a latent.
        method: its name in METHODS.
        epochs: of our trainings.
        quick: the slow peers stop early, too.
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
    """D -> 768 -> d -> 768 -> D with GELU, mean squared error; the code is the narrow layer."""
    standardise = _standardiser(rows)
    x = standardise(torch.from_numpy(rows))
    torch.manual_seed(case.seed)
    encoder, decoder = _mlp(x.shape[1], HIDDEN, case.size), _mlp(case.size, HIDDEN, x.shape[1])

    def loss(batch: Tensor) -> Tensor:
        return F.mse_loss(decoder(encoder(x[batch])), x[batch])

    _train(nn.ModuleList([encoder, decoder]), loss, len(x), case.seed, batch_size=256, epochs=5 if case.quick else 100)
    return _without_gradients(lambda new: encoder(standardise(new)))


def matryoshka_adaptor(rows: np.ndarray, case: Case) -> Encode:
    """The first d numbers of y = x + f(x): Yoon et al. 2024, arXiv:2407.20243, unsupervised.

    After descriptions of the paper, for there is no code of its authors: the cosine similarities of y's prefixes should
    be those of x, over all pairs and over the pairs of a row and one of its 10 nearest, plus |f(x)|; absolute
    differences, weights of 1, Adam, 0.001, 128 rows at a time. Ours to choose: f is an MLP D -> 768 -> D; of each row's
    nearest one drawn at random stands for all; the prefixes are the powers of 2 from 32 on, and d; a code has the
    length of its row, so that similarities that are kept are Euclidean distances that are kept.
    """
    length = np.linalg.norm(rows, axis=1).mean()
    x = torch.from_numpy(rows / length)
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
            # Row i and the neighbour drawn for it are len(batch) apart.
            total = total + change.mean() + change.diagonal(len(batch)).mean()
        return total

    _train(f, loss, len(x), case.seed, batch_size=128, epochs=2 if case.quick else 30)
    encode = _without_gradients(lambda new: (new + f(new))[:, : case.size])
    return lambda new: of_length(encode(new / length), new)


def umap(rows: np.ndarray, case: Case) -> Encode:
    """UMAP by umap-learn (McInnes et al. 2018), with its defaults, from PCA; new rows by its transform.

    The first fit of a process also compiles it, which takes half a minute.
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
    """TorchDR's SNE (Hinton & Roweis 2002) of an encoder, which takes new rows as well.

    The encoder is a projection that starts at PCA, as TorchDR's embeddings do, plus an MLP D -> 768 -> d that starts at
    nothing. Of TorchDR's methods SNE keeps most neighbours here. It compares all rows with all at every step, so
    SNE_ROWS of them, drawn at random, stand for more.
    """
    from torchdr import SNE

    chosen = np.random.RandomState(case.seed).permutation(len(rows))[: SNE_ROWS // 4 if case.quick else SNE_ROWS]
    standardise = _standardiser(rows, SNE_LENGTH * rows.shape[1] ** -0.5)
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
    """Adam on nine tenths of the rows; the weights with the least loss on the tenth stay.

    Args:
        model: whose weights to train.
        loss: of the rows of these numbers, (B,).
        rows: how many there are.
        seed: of the tenth and of the batches.
        batch_size: rows at a time.
        epochs: passes at most; the training ends where 10 have brought nothing.
    """
    learnt, judged = (torch.from_numpy(part) for part in split_rows(rows, 0.1, seed))
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    least, best, weights = np.inf, 0, model.state_dict()
    for epoch in range(epochs):
        for batch in learnt[torch.randperm(len(learnt), generator=order)].split(batch_size):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        with torch.no_grad():
            value = loss(judged).item()
        if value < least:
            least, best, weights = value, epoch, copy.deepcopy(model.state_dict())
        elif epoch - best >= PATIENCE:
            break
    model.load_state_dict(weights)


def _mlp(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, output_dim))


class _FromPCA(nn.Module):
    """A projection of centred rows that starts at PCA, plus an MLP that starts at nothing."""

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
    """What centres rows, and brings the root mean square of their numbers to `size`."""
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


def of_length(short: np.ndarray, long: np.ndarray) -> np.ndarray:
    """Bring each row of `short`, (N, d), to the length of its row of `long`, (N, D)."""
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (long, short)]
    return short * (lengths[0] / np.maximum(lengths[1], np.finfo(np.float32).tiny))

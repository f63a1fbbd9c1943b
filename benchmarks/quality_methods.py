"""The methods that quality.py compares: each learns from training rows and gives back an encoder of any rows."""

import tempfile

import numpy as np
from quality_peers import Case, Encode, Fit, autoencoder, matryoshka_adaptor, of_length, torchdr_sne, umap

from dploss.config import TrainConfig
from dploss.losses.distance_preserving import LOSSES
from dploss.models.pca import PCA, RandomProjection, Truncation
from dploss.training.launch import new_experiment


def truncation(rows: np.ndarray, case: Case) -> Encode:
    """The first numbers of every row."""
    return Truncation(case.size).encode


def random_projection(rows: np.ndarray, case: Case) -> Encode:
    """Gaussian random directions (Johnson & Lindenstrauss 1984)."""
    return RandomProjection.draw(rows.shape[1], case.size, case.seed).encode


def pca(rows: np.ndarray, case: Case) -> Encode:
    """The directions of most variance."""
    return PCA.fit(rows, case.size).encode


def whitened_pca(rows: np.ndarray, case: Case) -> Encode:
    """PCA, each coordinate divided by its standard deviation over the training rows."""
    fitted = PCA.fit(rows, case.size)
    spread = fitted.encode(rows).std(axis=0)
    spread = np.maximum(spread, np.finfo(np.float32).eps * spread.max())
    return lambda x: fitted.encode(x) / spread


def pca_lengths_restored(rows: np.ndarray, case: Case) -> Encode:
    """PCA, each projection brought to its row's distance from the mean: z = y * |x - mean| / |y|."""
    fitted = PCA.fit(rows, case.size)
    return lambda x: of_length(fitted.encode(x), x - fitted.mean)


def ours(rows: np.ndarray, case: Case) -> Encode:
    """What train.py trains with the loss of that name, as it is after the last epoch."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            data=case.source,
            limit=case.limit,
            latent_dim=case.size,
            loss_function=case.method,
            seed=case.seed,
            epochs=case.epochs,
            checkpoints_dir=folder,
            no_tensorboard=True,
            quiet=True,
        )
        trainer = new_experiment(config)
        if not np.array_equal(trainer.vectors.rows[trainer.train_rows], rows):
            raise RuntimeError("train.py splits the rows in another way than this benchmark")
        trainer.run()
    return trainer.encoder.encode


UNTRAINED: dict[str, Fit] = {
    "truncation": truncation,
    "random projection": random_projection,
    "PCA": pca,
    "whitened PCA": whitened_pca,
    "PCA, lengths restored": pca_lengths_restored,
}
TRAINED: dict[str, Fit] = {
    "autoencoder": autoencoder,
    "Matryoshka-Adaptor": matryoshka_adaptor,
    "UMAP": umap,
    "TorchDR SNE": torchdr_sne,
}
OURS: dict[str, Fit] = dict.fromkeys(LOSSES, ours)
METHODS = UNTRAINED | TRAINED | OURS
# The package that a method needs beyond those of dploss, by its name on PyPI.
PACKAGES = {"UMAP": "umap-learn", "TorchDR SNE": "torchdr"}

"""The methods that quality.py compares: each is fitted to training rows and returns a function that encodes rows."""

import tempfile

import numpy as np
from quality_peers import Case, Encode, Fit, autoencoder, matryoshka_adaptor, torchdr_sne, umap

from dploss.config import TrainConfig
from dploss.experiments.history import PCA_RENORMALISED
from dploss.losses.distance_preserving import LOSSES
from dploss.models.pca import PCA, RandomProjection, Truncation
from dploss.training.launch import new_experiment


def truncation(rows: np.ndarray, case: Case) -> Encode:
    """The first dimensions of every row, its norm restored."""
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


def pca_renormalised(rows: np.ndarray, case: Case) -> Encode:
    """PCA with the norm of each centred row restored: z = y * |x - mean| / |y|."""
    return PCA.fit(rows, case.size).encode_renormalised


def start(rows: np.ndarray, case: Case) -> Encode:
    """The encoder that train.py starts from: a closed form, `--epochs 0`."""
    return _encoder(rows, case, TrainConfig.loss_function, epochs=0)


def ours(rows: np.ndarray, case: Case) -> Encode:
    """The encoder that train.py trains with this loss, after the last epoch."""
    return _encoder(rows, case, case.method, case.epochs)


def _encoder(rows: np.ndarray, case: Case, loss: str, epochs: int) -> Encode:
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            data=case.source,
            limit=case.limit,
            latent_dim=case.size,
            loss_function=loss,
            seed=case.seed,
            epochs=epochs,
            checkpoints_dir=folder,
            no_tensorboard=True,
            quiet=True,
        )
        run = new_experiment(config)
        if not np.array_equal(run.trainer.rows[run.trainer.train_index], rows):
            raise RuntimeError("train.py splits the rows differently than this benchmark")
        run.run()
    return run.trainer.encoder.encode


UNTRAINED: dict[str, Fit] = {
    "truncation": truncation,
    "random projection": random_projection,
    "PCA": pca,
    "whitened PCA": whitened_pca,
    PCA_RENORMALISED: pca_renormalised,
}
TRAINED: dict[str, Fit] = {
    "autoencoder": autoencoder,
    "Matryoshka-Adaptor": matryoshka_adaptor,
    "UMAP": umap,
    "TorchDR SNE": torchdr_sne,
}
OURS: dict[str, Fit] = {"start": start} | dict.fromkeys(LOSSES, ours)
METHODS = UNTRAINED | TRAINED | OURS
# Packages (PyPI names) that a method needs beyond the dependencies of dploss.
PACKAGES = {"UMAP": "umap-learn", "TorchDR SNE": "torchdr"}

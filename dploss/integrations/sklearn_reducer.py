"""DPReducer: an encoder as a scikit-learn transformer, trained in memory by the same Trainer."""

from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from dploss.config import TrainConfig
from dploss.data import as_vectors
from dploss.data.experiment_data import ExperimentData
from dploss.errors import InputError, SettingError
from dploss.experiments.history import TrainHistory
from dploss.training.code_choice import choose_code
from dploss.training.query_side import choose_query_side
from dploss.training.run import TrainingRun
from dploss.training.start import initialize_trainer, make_trainer
from dploss.training.storage import storage_of

_DEFAULTS = TrainConfig()
# Where scikit-learn has another name.
_SETTING_OF = {"n_components": "latent_dim", "loss": "loss_function", "random_state": "seed"}
_PARAMETER_OF = {setting: parameter for parameter, setting in _SETTING_OF.items()}
# Other dtypes become the first.
_DTYPES = (np.float32, np.float64, np.float16)


def _stores_codes(reducer: "DPReducer") -> bool:
    return reducer.bytes is not None


class DPReducer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Reduces the dimensions of rows, or their bytes, and preserves their nearest neighbours.

    The training is train.py's, on all rows that `fit` gets, with the defaults of its flags. Nothing is written to the
    disk, and nothing is printed.

    With `bytes`, `transform` gives codes, which `inverse_transform` decodes to latents. Codes are compared by
    encoder_.code.score(encoder_.encode(queries), codes), or as latents: the bytes themselves have no distances.

    Args:
        n_components: latent dimensions, 1..n_features; None: 512, or half of n_features below 768; with `bytes`, as
            many as the code has bits for, but 256 at least.
        bytes: of a stored row, all counted; None: `transform` gives latents.
        code: how `bytes` store a latent: "trellis", "scalar", "pq", "int8", "int4", "binary" or "float16"; "auto": the
            one that keeps most neighbours of the rows before the first epoch.
        loss: DPLossV1, DPLossV1Norm, DPLossV2, DPLossV2Norm or DPLossV3.
        tau: temperature of the soft ranks or neighbour probabilities, in standard deviations of a batch's distances.
        k: neighbours that the initialisation is chosen by, and the divisor of V1's rank loss.
        lambda_rank: weight of the rank loss.
        lambda_pairdist: weight of the pair distance loss.
        epochs: passes over the rows; None: 100, or with `bytes` and any code but "pq" 1.
        batch_size: rows whose distances are compared at once, at least 3; all of them where there are fewer.
        lr: peak learning rate.
        hidden_dims: widths of the MLP's hidden layers; () makes the encoder linear; None: (768,), or (2048,) of 50,000
            rows and more.
        dropout: dropout rate of the hidden layers, 0 to below 1.
        metric: what is near, and is preserved: "euclidean" distance, "cosine", or "ip", the largest inner product. The
            latents are compared by Euclidean distance, under "ip", or where `fit` gets queries, by inner product.
        device: where to train: "auto", "cpu", "cuda" or "mps".
        random_state: an int is train.py's seed; a RandomState draws the seed; with None every fit has another one,
            which does not come from NumPy's global random state.

    Attributes:
        encoder_: the trained DPEncoder, on the CPU; with `bytes`, its `code` is fitted to the rows.
        history_: its TrainHistory: the losses of every epoch.
        n_components_: latent dimensions.
        n_features_in_: dimensions of a row.
        feature_names_in_: names of the columns, where `fit` got a data frame with names.
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        bytes: int | None = None,
        code: str = _DEFAULTS.code,
        loss: str = _DEFAULTS.loss_function,
        tau: float = _DEFAULTS.tau,
        k: int = _DEFAULTS.k,
        lambda_rank: float = _DEFAULTS.lambda_rank,
        lambda_pairdist: float = _DEFAULTS.lambda_pairdist,
        epochs: int | None = None,
        batch_size: int = _DEFAULTS.batch_size,
        lr: float = _DEFAULTS.lr,
        hidden_dims: tuple[int, ...] | None = None,
        dropout: float = _DEFAULTS.dropout,
        metric: str = _DEFAULTS.metric,
        device: str = _DEFAULTS.device,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.bytes = bytes
        self.code = code
        self.loss = loss
        self.tau = tau
        self.k = k
        self.lambda_rank = lambda_rank
        self.lambda_pairdist = lambda_pairdist
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.hidden_dims = hidden_dims
        self.dropout = dropout
        self.metric = metric
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None, queries: ArrayLike | None = None) -> "DPReducer":
        """Train the encoder. The global random states of torch and NumPy end as they were.

        Args:
            X: (n_samples, n_features) real numbers, at least 3 rows; computed in float32.
            y: ignored.
            queries: (n_queries, n_features) real numbers that rows are searched with, where rows are not; then latents
                of rows are compared with those of `transform_queries` by their inner product.

        Raises:
            ValueError: a parameter, X or queries that cannot be used.
            TrainingError: the loss became NaN or infinite.
        """
        config = self._config()
        rows: np.ndarray = validate_data(self, X, dtype=_DTYPES, ensure_min_samples=3)
        if self.n_components is not None and config.latent_dim > rows.shape[1]:
            raise ValueError(f"n_components={config.latent_dim} is above n_features={rows.shape[1]}: choose fewer")
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(rows, np.float32)
        asking = None
        if queries is not None:
            config = replace(config, queries="queries")
            asked: np.ndarray = validate_data(self, queries, dtype=_DTYPES, reset=False)
            asking = as_vectors(np.ascontiguousarray(asked, np.float32), "queries", config.metric, fewest=1)
        data = ExperimentData.split(config, as_vectors(rows, "X", config.metric), asking)
        with torch.random.fork_rng():
            config = choose_code(choose_query_side(config, data), data).fitted_to(*rows.shape)
            trainer = make_trainer(config, data)
            initialize_trainer(trainer)
            if config.bytes is not None:
                # Bytes that the code cannot have are refused before the training.
                trainer.encoder.code = storage_of(config, trainer)
            self.history_ = TrainingRun(trainer, TrainHistory()).run()
            if config.bytes is not None and trainer.step:
                trainer.encoder.code = storage_of(config, trainer, trained=True)
        self.encoder_ = trainer.encoder.cpu().eval()
        self.n_components_ = config.latent_dim
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Encode rows.

        Args:
            X: (n_samples, n_features_in_) real numbers; not changed.

        Returns:
            (n_samples, n_components_) of X's floating-point dtype, float32 where it has none. With `bytes`,
            (n_samples, bytes) uint8 codes.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=_DTYPES, reset=False)
        return self.encoder_.encode(rows) if self.encoder_.code is None else self.encoder_.encode_to_codes(rows)

    def transform_queries(self, X: ArrayLike) -> np.ndarray:
        """Encode queries, which stay floats.

        Args:
            X: (n_queries, n_features_in_) real numbers; not changed.

        Returns:
            (n_queries, n_components_) latents of X's floating-point dtype, float32 where it has none; to be compared
            with those of rows as encoder_.latent_metric says.
        """
        check_is_fitted(self)
        return self.encoder_.encode_queries(validate_data(self, X, dtype=_DTYPES, reset=False))

    @available_if(_stores_codes)
    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """Decode codes to latents: the rows as they are stored, not as they were before the reduction.

        Args:
            X: (n_samples, bytes) uint8, from `transform`.

        Returns:
            (n_samples, n_components_) float32.
        """
        check_is_fitted(self)
        code = self.encoder_.code
        assert code is not None  # with bytes
        return code.decode(np.asarray(X))

    def _config(self) -> TrainConfig:
        """The settings of the training, each checked under the name that it has here."""
        settings = {}
        for name, value in (self.get_params(deep=False) | {"random_state": self._seed()}).items():
            setting = _SETTING_OF.get(name, name)
            if value is not None:
                settings[setting] = value
        try:
            return TrainConfig(**settings, val_fraction=0, quiet=True)
        except SettingError as error:
            raise InputError(error.named(lambda setting: _PARAMETER_OF.get(setting, setting))) from error

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return self.random_state
        source = np.random.RandomState() if self.random_state is None else check_random_state(self.random_state)
        return source.randint(2**31)

    @property
    def _n_features_out(self) -> int:
        code = self.encoder_.code
        return self.n_components_ if code is None else code.bytes_per_vector

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        kept = _DTYPES if self.bytes is None else ()
        tags.transformer_tags.preserves_dtype = [np.dtype(dtype).name for dtype in kept]
        return tags

"""Drift: how far new rows have moved from those that an encoder was trained on, and whether a new training would pay.

New rows can have moved, or be harder by themselves, without a new training keeping more of their neighbours. So the
verdict follows from a closed form of the encoder's size, renormalised PCA (with its code), fitted to one half of the
new rows and to as many training rows or more, and both evaluated on the other half. Training rows may be more: a
training on few new rows wins nothing, so where recall fell, as few training rows tell whether more new ones would win.
"""

import numpy as np

from dploss.codes.build import fit_code
from dploss.codes.code import Code, search_form
from dploss.config import TrainConfig
from dploss.data.split import evenly_spaced
from dploss.errors import InputError
from dploss.evaluation.eval_rows import EvalRows
from dploss.evaluation.moves import NOISE, Move, moves
from dploss.evaluation.recall import RecallEvaluator
from dploss.evaluation.verdict import Drift, Gain
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA
from dploss.text import counted

_FITTED_ROWS = 20_000


def measure_drift(
    encoder: DPEncoder | ConvAutoencoder, config: TrainConfig, data: EvalRows, k: int, most: int
) -> Drift:
    """Compare the unseen rows of a file with the held-out rows of the training.

    Args:
        encoder: of the training.
        config: of the training.
        data: of another file than the training's.
        k: neighbours in recall@k.
        most: of more rows, a sample of this size is compared and evaluated on.

    Raises:
        InputError: data is the training's own, its held-out rows cannot be opened, or either has too few rows; or the
            encoder is one for queries.
    """
    if config.is_asymmetric:
        raise InputError(
            "--drift compares rows that search among themselves; this encoder was trained for other queries"
        )
    held_out, test_rows, fitted_rows = samples(data, k, most)
    assert data.train_rows is not None
    train_rows = data.train_rows[evenly_spaced(len(data.train_rows), _FITTED_ROWS)]
    pca = PCA.fit(train_rows, encoder.latent_dim)
    n = min(len(held_out), len(test_rows))
    figures = _recalls(encoder, held_out[:n], test_rows[:n], k) | moves(held_out[:n], test_rows[:n], pca)

    # A few directions may hold nearly all variance: there restored norms spoil what a plain projection keeps.
    kept = {
        project: _kept(held_out, project(pca, held_out), None, k).mean()
        for project in (PCA.encode_renormalised, PCA.encode)
    }
    project = max(kept, key=kept.__getitem__)

    def fitted(rows: np.ndarray, own: PCA | None = None) -> np.ndarray:
        own = own or PCA.fit(rows, encoder.latent_dim)
        code = None if encoder.code is None else fit_code(config.code, project(own, rows), config.bytes or 0)
        return _kept(test_rows, project(own, test_rows), code, k)

    by_training, by_new = fitted(train_rows, pca), fitted(fitted_rows)
    few = len(fitted_rows) < len(train_rows)
    by_few = fitted(train_rows[evenly_spaced(len(train_rows), len(fitted_rows))]) if few else by_training
    gains, at_equal_rows = by_new - by_training, by_new - by_few
    gain = Gain(
        fitted_to_training=float(by_training.mean()),
        fitted_to_new=float(by_new.mean()),
        fitted_to_few_training=float(by_few.mean()),
        gain=float(gains.mean()),
        sampling=NOISE * _error(gains),
        gain_at_equal_rows=float(at_equal_rows.mean()),
        sampling_at_equal_rows=NOISE * _error(at_equal_rows),
        training_rows=len(train_rows),
        new_rows=len(fitted_rows),
        evaluated_rows=len(test_rows),
    )
    return Drift(k, n, "latents" if encoder.code is None else f"{config.code}, {config.bytes} bytes", figures, gain)


def samples(data: EvalRows, k: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held-out rows in random order; two parts of the new rows: to evaluate on, and to fit to."""
    if data.held_out:
        raise InputError(
            f"--drift: {data.source} holds the rows of the training, whose held-out ones cannot have moved"
        )
    if data.train_rows is None:
        raise InputError(f"--drift compares with the training's rows, which cannot be opened: {data.missing}")
    if data.own_held_out is None:
        raise InputError("--drift compares with rows held out of the training, which held out none")
    least = 2 * k + 1
    if len(data.own_held_out) < least:
        held_out = counted(len(data.own_held_out), "held-out row")
        raise InputError(f"--drift: the training has {held_out}; for {k} neighbours it takes {least}")
    if len(data.unseen) < 2 * least:
        left_out = f"{data.note}; " if data.note else ""
        rows = counted(len(data.unseen), "new row")
        raise InputError(f"{data.source}: {left_out}{rows}; --drift takes {2 * least} for {k} neighbours")
    random = np.random.RandomState(0)
    order = random.permutation(data.unseen)
    tested = min(most, len(order) // 2)
    # No more than training rows: more rows alone would be a gain.
    fitted = min(len(order) - tested, len(data.train_rows), _FITTED_ROWS)
    parts = (order[:tested], order[tested : tested + fitted])
    test_rows, fitted_rows = (data.source_rows[np.sort(part)] for part in parts)
    return random.permutation(data.own_held_out), random.permutation(test_rows), fitted_rows


def _recalls(encoder: DPEncoder | ConvAutoencoder, held_out: np.ndarray, new: np.ndarray, k: int) -> dict[str, Move]:
    """Recall of the encoder on as many rows of either, and of its stored form."""
    forms: dict[str, Code | None] = {"recall": None}
    if encoder.code is not None:
        forms["recall_stored"] = encoder.code
    found = {}
    for name, code in forms.items():
        before, after = (_kept(rows, encoder.encode(rows), code, k) for rows in (held_out, new))
        noise = NOISE * float(np.hypot(_error(before), _error(after)))
        values = float(before.mean()), float(after.mean())
        found[name] = Move(*values, noise, abs(values[1] - values[0]) > noise)
    return found


def _kept(rows: np.ndarray, latents: np.ndarray, code: Code | None, k: int) -> np.ndarray:
    """(n,) share of its k nearest neighbours that each row keeps, by latents or as a code stores them."""
    queries = None
    if code is not None:
        latents, queries = search_form(code, code.encode(latents), latents)
    return RecallEvaluator(k, len(rows)).neighbours_kept(rows, latents, [(k, k)], queries)[0] / k


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)

"""Drift: how far new rows have moved from those that an encoder was trained on, and whether a new training would pay.

New rows can have moved, or be harder by themselves, without a new training keeping more of their neighbours. So the
verdict follows from a closed form of the encoder's size, renormalised PCA (with its code), fitted to one half of the
new rows and to as many training rows or more, and both evaluated on the other half. Training rows may be more: a
training on few new rows wins nothing, so where recall fell, as few training rows tell whether more new ones would win.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dploss.codes.build import fit_code
from dploss.codes.code import Code, search_form
from dploss.config import TrainConfig
from dploss.data.split import evenly_spaced
from dploss.errors import InputError
from dploss.evaluation.eval_rows import EvalRows
from dploss.evaluation.moves import NOISE, Move, moves
from dploss.evaluation.recall import RecallEvaluator
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA
from dploss.text import aligned, counted, narrow_table, number

# Exit code of a script whose verdict is retrain.
RETRAIN_CODE = 3
# Of recall: what makes a new training, and encoding all rows anew, worth it.
NOTABLE = 0.02
_FITTED_ROWS = 20_000


@dataclass(frozen=True)
class Gain:
    """What a closed form keeps of the neighbours of new rows, by what it was fitted to.

    Attributes:
        fitted_to_training: its recall@k where it was fitted to training rows.
        fitted_to_new: to other new rows.
        fitted_to_few_training: to as many training rows as there were new ones to fit to.
        gain: fitted_to_new less fitted_to_training: what a training on the new rows can win.
        sampling: three standard errors of that.
        gain_at_equal_rows: fitted_to_new less fitted_to_few_training: what it could with more of them.
        sampling_at_equal_rows: three standard errors of that.
        training_rows: fitted to.
        new_rows: fitted to.
        evaluated_rows: other new rows.
    """

    fitted_to_training: float
    fitted_to_new: float
    fitted_to_few_training: float
    gain: float
    sampling: float
    gain_at_equal_rows: float
    sampling_at_equal_rows: float
    training_rows: int
    new_rows: int
    evaluated_rows: int

    @property
    def pays(self) -> bool:
        """Whether the gain is notable, and more than sampling makes."""
        return self.gain >= NOTABLE and self.gain > self.sampling

    @property
    def would_pay(self) -> bool:
        """Whether it is at equal rows."""
        return self.gain_at_equal_rows >= NOTABLE and self.gain_at_equal_rows > self.sampling_at_equal_rows


@dataclass(frozen=True)
class Drift:
    """How far new rows have moved, and what follows.

    Attributes:
        k: neighbours in recall@k.
        rows: new rows, and as many held-out rows of the training, that the figures are of.
        form: what the gain is measured on: the encoder's code, by its name, or latents.
        figures: by name.
        gain: of a new training.
    """

    k: int
    rows: int
    form: str
    figures: dict[str, Move]
    gain: Gain

    @property
    def verdict(self) -> Literal["fine", "retrain"]:
        """Retrain where that pays, or where recall fell and more rows are all that it takes to pay."""
        return "retrain" if self.gain.pays or (self._fell and self.gain.would_pay) else "fine"

    @property
    def uncertain(self) -> str:
        """Why more new rows could say otherwise; empty where the verdict stands."""
        gain = self.gain
        if self.verdict == "retrain":
            return ""
        if gain.sampling > NOTABLE:
            return f"{counted(gain.evaluated_rows, 'row')} leave ± {gain.sampling:.3f}"
        if gain.would_pay:
            fewness = gain.fitted_to_training - gain.fitted_to_few_training
            return f"that so few rows are fitted to costs {fewness:.3f}; with more the gain could be notable"
        return ""

    @property
    def reason(self) -> str:
        """Of the verdict, in a sentence."""
        gain = self.gain
        if self.verdict == "retrain" and not gain.pays:
            return (
                f"recall fell, and {self._kept(gain.gain_at_equal_rows)} than fitted to as few training rows; a new "
                "training can win that with more new rows: these alone are too few"
            )
        why = f"{self._kept(gain.gain)} than fitted to training rows"
        if self.verdict == "retrain":
            return f"{why}; a new training can win that"
        moved = sum(move.moved for move in self.figures.values())
        if not moved:
            return f"nothing moved by more than sampling makes; {why}"
        fell = "recall fell, as these rows are harder by themselves"
        start = fell if self._fell else f"{counted(moved, 'figure')} moved"
        return f"{start}; {why}, and a new training pays from {NOTABLE} on, beyond sampling's {gain.sampling:.4f}"

    def _kept(self, gain: float) -> str:
        return (
            f"fitted to {self.gain.new_rows:,} of the new rows, a closed form keeps {abs(gain):.4f} "
            f"{'more' if gain >= 0 else 'less'} of the neighbours of {self.gain.evaluated_rows:,} others"
        )

    @property
    def _fell(self) -> bool:
        """Whether the recall of what is stored, or of latents where nothing is, fell notably."""
        move = self.figures.get("recall_stored", self.figures["recall"])
        return move.held_out is not None and move.moved and move.new <= move.held_out - NOTABLE

    def _label(self, name: str) -> str:
        return name.replace("_", " ").replace("recall", f"recall@{self.k}")

    @property
    def exit_code(self) -> int:
        """Of a script."""
        return RETRAIN_CODE if self.verdict == "retrain" else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {
            "notable": NOTABLE,
            "verdict": self.verdict,
            "reason": self.reason,
            "uncertain": self.uncertain or None,
        }

    def lines(self) -> list[str]:
        """For a person."""
        gain = self.gain
        rows = [
            [
                self._label(name),
                number(move.held_out, ".4f"),
                f"{move.new:.4f}",
                f"{move.sampling:.4f}",
                "yes" if move.moved else "",
            ]
            for name, move in self.figures.items()
        ]
        facts = {
            f"training rows ({gain.training_rows:,})": f"recall@{self.k} {gain.fitted_to_training:.4f}",
            f"new rows ({gain.new_rows:,})": f"recall@{self.k} {gain.fitted_to_new:.4f}",
            "gain": f"{gain.gain:+.4f}, by sampling ± {gain.sampling:.4f}; notable from {NOTABLE} on",
        }
        said = {
            "verdict": self.verdict,
            "reason": self.reason,
            "uncertain": self.uncertain,
            "old rows": "their codes and latents stay valid, as the encoder is unchanged; after a new training all "
            "rows must be encoded anew",
        }
        return [
            "",
            f"drift: {self.rows:,} new rows beside as many held-out rows of the training",
            *narrow_table(["", "held-out", "new", "sampling ±", "moved"], rows),
            "",
            f"closed form ({self.form}) on {gain.evaluated_rows:,} new rows, fitted to",
            *(f"  {line}" for line in aligned(facts)),
            "",
            *aligned({name: text for name, text in said.items() if text}),
        ]


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
        InputError: data is the training's own, its held-out rows cannot be opened, or either has too few rows.
    """
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

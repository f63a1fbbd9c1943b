"""The verdict on new rows: what a new training could win on them, why, and as text."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dploss.evaluation.moves import Move
from dploss.text import aligned, counted, narrow_table, number

# Exit code of a script whose verdict is retrain.
RETRAIN_CODE = 3
# Of recall: what makes a new training, and encoding all rows anew, worth it.
NOTABLE = 0.02


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
        fits = {f"{gain.training_rows:,} training rows": gain.fitted_to_training}
        if gain.new_rows < gain.training_rows:
            fits[f"{gain.new_rows:,} training rows"] = gain.fitted_to_few_training
        fits[f"{gain.new_rows:,} new rows"] = gain.fitted_to_new
        facts = {name: f"recall@{self.k} {recall:.4f}" for name, recall in fits.items()}
        facts["gain"] = f"{gain.gain:+.4f}, by sampling ± {gain.sampling:.4f}; notable from {NOTABLE} on"
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

"""An encoder beside what people use instead: measured, as plain values, and as text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dploss.evaluation.eval_rows import JudgedRows
from dploss.evaluation.scores import RERANK_FACTORS, Judgement, judge, rows_per_second
from dploss.experiments.summary import LOSSES
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA, RandomProjection, Truncation
from dploss.text import MISSING, aligned, number, shown, text_table
from dploss.tracking.state import BEST

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Report:
    """An encoder beside what people use instead.

    Attributes:
        checkpoint: its path.
        record: the checkpoint's config.
        epoch: epochs it was trained for.
        data: where the judged rows are from.
        held_out: whether they are the experiment's own held-out rows.
        chosen_on_them: whether the checkpoint was chosen, as the best, by what it does on these very rows.
        rows: how many were judged.
        training_rows: how many the baselines are fitted on; None where they could not be opened.
        device: where the encoder ran.
        rows_per_second: encoding speed there.
        methods: judgements by name, the encoder first.
        cuts: of a Matryoshka encoder, the judgements of the encoder and PCA at each of its sizes.
        left_out: why a method is not among them, by its name.
    """

    checkpoint: str
    record: dict[str, Any]
    epoch: int
    data: str
    held_out: bool
    chosen_on_them: bool
    rows: int
    training_rows: int | None
    device: str
    rows_per_second: float
    methods: dict[str, Judgement]
    cuts: dict[int, dict[str, Judgement]]
    left_out: dict[str, str]

    @property
    def bytes_per_vector(self) -> tuple[int, int]:
        """Before and after, as float32."""
        return _FLOAT_BYTES * self.record["input_dim"], _FLOAT_BYTES * self.record["latent_dim"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        before, after = self.bytes_per_vector
        settings = ("experiment_id", "loss_function", "tau", "metric", "input_dim", "latent_dim")
        return {
            "checkpoint": self.checkpoint,
            "epoch": self.epoch,
            **{name: self.record.get(name) for name in settings},
            "data": self.data,
            "held_out": self.held_out,
            "chosen_on_them": self.chosen_on_them,
            "rows": self.rows,
            "training_rows": self.training_rows,
            "bytes_per_vector": {"original": before, "latent": after},
            "encoding": {"device": self.device, "rows_per_second": self.rows_per_second},
            "methods": {name: asdict(judgement) for name, judgement in self.methods.items()},
            "cuts": {
                dim: {name: asdict(judgement) for name, judgement in both.items()} for dim, both in self.cuts.items()
            },
            "left_out": self.left_out,
        }

    def title(self) -> str:
        """The encoder in one line."""
        record = self.record
        k, recall = min(self.methods["encoder"].recall.items(), key=lambda found: abs(found[0] - 10))
        return (
            f"{shown(record.get('loss_function'))}, {record['input_dim']} → {record['latent_dim']} numbers: "
            f"recall@{k} {recall:.4f}"
        )

    def lines(self) -> list[str]:
        """The report for a person."""
        record, (before, after) = self.record, self.bytes_per_vector
        kind = "held-out rows" if self.held_out else "rows"
        facts = {
            "checkpoint": self.checkpoint,
            "trained": f"{shown(record.get('loss_function'))}, tau {shown(record.get('tau'))}, epoch {self.epoch}",
            "judged on": f"{self.rows:,} {kind} of {self.data}",
            "size": f"{record['input_dim']} -> {record['latent_dim']} numbers, {before:,} -> {after:,} bytes a vector "
            "as float32",
            "encoding": f"{self.rows_per_second:,.0f} rows a second on {self.device}",
        }
        if self.chosen_on_them:
            facts["chosen"] = "as the best by these very rows, which flatters it a little; --data names others"
        ks = list(next(iter(self.methods.values())).recall)
        kept = text_table(
            ["", *(f"recall@{k}" for k in ks), "distortion", "Spearman"],
            [
                [
                    name,
                    *(number(judgement.recall.get(k), ".4f") for k in ks),
                    number(judgement.distortion, ".4f"),
                    number(judgement.spearman, ".4f"),
                ]
                for name, judgement in self.methods.items()
            ],
        )
        if self.training_rows is not None:
            facts["PCA"] = f"fitted on the encoder's {self.training_rows:,} training rows"
        return [
            *aligned(facts),
            *(f"left out: {name}, {reason}" for name, reason in self.left_out.items()),
            "",
            *kept,
            *self._cut(ks),
            "",
            "k x 2, 5, 10 fetched by their short forms, the k nearest of them by the originals kept:",
            *self._reranked(ks),
        ]

    def _cut(self, ks: Sequence[int]) -> list[str]:
        if not self.cuts:
            return []
        rows = [
            [name, str(dim), *(number(judgement.recall.get(k), ".4f") for k in ks)]
            for dim, both in self.cuts.items()
            for name, judgement in both.items()
        ]
        header = ["", "numbers", *(f"recall@{k}" for k in ks)]
        return ["", "cut to the first numbers, each latent brought back to its length:", *text_table(header, rows)]

    def _reranked(self, ks: Sequence[int]) -> list[str]:
        rows = [
            [name, f"x {factor}", *(number(judgement.reranked.get(factor, {}).get(k), ".4f") for k in ks)]
            for name, judgement in self.methods.items()
            for factor in RERANK_FACTORS
        ]
        return text_table(
            ["", "fetched", *(f"recall@{k}" for k in ks)], [row for row in rows if {*row[2:]} != {MISSING}], left=2
        )


def examine(
    checkpoint: Mapping[str, Any],
    path: Path,
    encoder: DPEncoder,
    judged: JudgedRows,
    ks: Sequence[int],
    codes: Mapping[str, np.ndarray],
) -> tuple[Report, np.ndarray]:
    """Judge an encoder, and PCA, truncation and random projection at the same size.

    Args:
        checkpoint: what `load_checkpoint` returned.
        path: where it came from.
        encoder: made from it, on the device to use.
        judged: the rows; PCA is fitted on their training rows.
        ks: neighbours to look for.
        codes: by name, other short forms (n, d) of the judged rows.

    Returns:
        The report, and the encoder's latents of the judged rows.
    """
    rows, size = judged.vectors, encoder.latent_dim
    record = {**checkpoint["config"], "input_dim": encoder.input_dim, "latent_dim": size}
    latents = {"encoder": encoder.encode(rows), **codes}
    left_out = {}
    dims = record.get("matryoshka_dims") or ()
    cuts = {dim: {"encoder": judge(rows, encoder.encode(rows, dim=dim), ks)} for dim in dims}
    if judged.training is not None:
        latents["PCA"] = PCA.fit(judged.training, size).encode(rows)
        for dim, both in cuts.items():
            both["PCA"] = judge(rows, latents["PCA"][:, :dim], ks)
    else:
        left_out["PCA"] = f"which is fitted on the training rows: {judged.missing}"
    latents["truncation"] = Truncation(size).encode(rows)
    latents["random projection"] = RandomProjection.draw(encoder.input_dim, size, record["seed"]).encode(rows)
    report = Report(
        checkpoint=str(path),
        record=record,
        epoch=checkpoint["epoch"],
        data=judged.source,
        held_out=judged.held_out,
        chosen_on_them=judged.held_out and _is_best(path) and record.get("metric_name") not in LOSSES,
        rows=len(rows),
        training_rows=None if judged.training is None else len(judged.training),
        device=encoder.mean.device.type,
        rows_per_second=rows_per_second(encoder.encode, rows),
        methods={name: judge(rows, latent, ks) for name, latent in latents.items()},
        cuts=cuts,
        left_out=left_out,
    )
    return report, latents["encoder"]


def _is_best(path: Path) -> bool:
    """Whether a checkpoint is the one that its experiment's tracker chose."""
    best = path.parent / BEST
    return best.is_file() and best.samefile(path)

"""An encoder beside its baselines: scores, as plain values and as text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dploss.config import TrainConfig
from dploss.evaluation.eval_rows import EvalRows
from dploss.evaluation.forms import start_of
from dploss.evaluation.peers import NO_PEERS, Peers
from dploss.evaluation.scores import Scores, recall_columns, rows_per_second, score
from dploss.evaluation.sides import Sides, pca_sides
from dploss.evaluation.stored import StoredScores, score_stored, stored_lines
from dploss.evaluation.ties import Ties, count_ties
from dploss.experiments.catalog import is_best
from dploss.experiments.checkpoints import Checkpoint
from dploss.experiments.history import PCA as PCA_NAME
from dploss.experiments.history import PCA_RENORMALISED, START
from dploss.experiments.layout import epoch_checkpoint
from dploss.experiments.record import ExperimentRecord
from dploss.experiments.summary import LOSSES
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.base import Encoder
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA, RandomProjection, Truncation
from dploss.text import MISSING, aligned, counted, elided, narrow_table, number, shown, wrapped

_FLOAT_BYTES = 4
# Of a path beside its name, and of a method in the first column of a table.
_NAME_WIDTH, _METHOD_WIDTH = 66, 24


@dataclass(frozen=True)
class Report:
    """The scores of an encoder and of its baselines.

    Attributes:
        checkpoint: its path.
        record: the experiment's.
        epoch: epochs it was trained for.
        data: where the rows are from.
        held_out: whether they are the experiment's own held-out rows.
        chosen_on_them: whether the checkpoint was chosen as the best by its recall on these very rows.
        rows: how many were evaluated on.
        training_rows: how many the baselines are fitted on; None where they could not be opened.
        device: where the encoder ran.
        rows_per_second: encoding speed there.
        methods: scores by name, the encoder first.
        cuts: of a Matryoshka encoder, the scores of the encoder, its start and PCA at each of its dimensions.
        left_out: why a method is not among them, by its name.
        ties: rows whose nearest neighbours are not determined.
        training_rows_left_out: of the data; None where that could not be checked.
        note: what a person should know of them.
        bad_rows_left_out: rows of the data that cannot be used.
        bad_rows: what a person should know of these; None where there are none.
        stored: by name, the scores of the stored forms of the encoder, its start and the code's peers; empty without a
            code.
    """

    checkpoint: str
    record: ExperimentRecord
    epoch: int
    data: str
    held_out: bool
    chosen_on_them: bool
    rows: int
    training_rows: int | None
    device: str
    rows_per_second: float
    methods: dict[str, Scores]
    cuts: dict[int, dict[str, Scores]]
    left_out: dict[str, str]
    ties: Ties
    training_rows_left_out: int | None
    note: str
    bad_rows_left_out: int
    bad_rows: str | None
    stored: dict[str, StoredScores]

    @property
    def bytes_per_vector(self) -> tuple[int, int]:
        """Before and after, as float32."""
        return _FLOAT_BYTES * self.record.input_dim, _FLOAT_BYTES * self.record.config.latent_dim

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        before, after = self.bytes_per_vector
        config = self.record.config
        return {
            "checkpoint": self.checkpoint,
            "epoch": self.epoch,
            "experiment_id": self.record.origin.experiment_id,
            "loss_function": config.loss_function,
            "tau": config.tau,
            "metric": config.metric,
            "input_dim": self.record.input_dim,
            "latent_dim": config.latent_dim,
            "data": self.data,
            "held_out": self.held_out,
            "chosen_on_them": self.chosen_on_them,
            "rows": self.rows,
            "training_rows": self.training_rows,
            "bytes_per_vector": {"original": before, "latent": after},
            "encoding": {"device": self.device, "rows_per_second": self.rows_per_second},
            "methods": {name: asdict(scores) for name, scores in self.methods.items()},
            "cuts": {dim: {name: asdict(scores) for name, scores in both.items()} for dim, both in self.cuts.items()},
            "left_out": self.left_out,
            "ties": asdict(self.ties),
            "training_rows_left_out": self.training_rows_left_out,
            "bad_rows_left_out": self.bad_rows_left_out,
            "stored": {name: asdict(scores) for name, scores in self.stored.items()},
        }

    def title(self) -> str:
        """The encoder in one line."""
        config = self.record.config
        k, recall = min(self.methods["encoder"].recall.items(), key=lambda found: abs(found[0] - 10))
        size = f"{self.record.input_dim} → {counted(config.latent_dim, 'dimension')}"
        return f"{config.loss_function}, {size}: recall@{k} {recall:.4f}"

    def lines(self) -> list[str]:
        """The report for a person."""
        config, input_dim, (before, after) = self.record.config, self.record.input_dim, self.bytes_per_vector
        kind = "held-out rows" if self.held_out else "rows"
        loss = f"{config.loss_function}, tau {shown(config.tau)}, " if config.epochs else ""
        facts = {
            "checkpoint": elided(self.checkpoint, _NAME_WIDTH),
            "trained": f"{loss}epoch {self.epoch}",
            "evaluated on": f"{self.rows:,} {kind} of {elided(self.data, _NAME_WIDTH)}",
            "size": f"{input_dim} -> {counted(config.latent_dim, 'dimension')}, {before:,} -> {after:,} bytes a vector "
            "as float32",
            "encoding": f"{self.rows_per_second:,.0f} rows a second on {self.device}",
        }
        if self.chosen_on_them:
            facts["chosen"] = "as the best by these very rows, a slight optimistic bias; --data takes other rows"
        tied = self.ties.warning("rows")
        said = {"bad rows": self.bad_rows, "training rows": self.note, "ties": tied}
        facts |= {name: line for name, line in said.items() if line}
        ks = list(next(iter(self.methods.values())).recall)
        kept = narrow_table(
            ["", *recall_columns(ks), "distortion", "Spearman"],
            [
                [
                    elided(name, _METHOD_WIDTH),
                    *(number(scores.recall.get(k), ".4f") for k in ks),
                    number(scores.distortion, ".4f"),
                    number(scores.spearman, ".4f"),
                ]
                for name, scores in self.methods.items()
            ],
        )
        if self.training_rows is not None:
            facts["PCA"] = f"fitted on the encoder's {self.training_rows:,} training rows"
        return [
            *aligned(facts),
            *(line for one in self.left_out.items() for line in wrapped(f"left out: {', '.join(one)}", indent=2)),
            "",
            *kept,
            *self._truncated(ks),
            *stored_lines(self.stored, ks),
            "",
            "re-ranked: k x 2, 5, 10 candidates by latents, the k nearest by the originals:",
            *self._reranked(ks),
        ]

    def _truncated(self, ks: Sequence[int]) -> list[str]:
        if not self.cuts:
            return []
        rows = [
            [name, str(dim), *(number(scores.recall.get(k), ".4f") for k in ks)]
            for dim, both in self.cuts.items()
            for name, scores in both.items()
        ]
        header = ["", "dimensions", *recall_columns(ks)]
        return ["", "truncated to the first dimensions, norm restored:", *narrow_table(header, rows, left=2)]

    def _reranked(self, ks: Sequence[int]) -> list[str]:
        rows = [
            [elided(name, _METHOD_WIDTH), f"x {factor}", *(number(by_k.get(k), ".4f") for k in ks)]
            for name, scores in self.methods.items()
            for factor, by_k in scores.reranked.items()
        ]
        found = [row for row in rows if {*row[2:]} != {MISSING}]
        return narrow_table(["", "candidates", *recall_columns(ks)], found, left=2)


def evaluate_encoder(
    checkpoint: Checkpoint,
    path: Path,
    encoder: DPEncoder | ConvAutoencoder,
    data: EvalRows,
    ks: Sequence[int],
    encoded: Mapping[str, np.ndarray],
    peers: Peers = NO_PEERS,
) -> tuple[Report, np.ndarray]:
    """Score an encoder, and its start, PCA, truncation and random projection to as many dimensions.

    Args:
        checkpoint: what `load_checkpoint` returned.
        path: where it came from.
        encoder: made from it, on the device to use.
        data: the rows; PCA is fitted on their training rows.
        ks: neighbours to look for.
        encoded: by name, other encodings (n, d) of the rows.
        peers: of its code, fitted to the training rows.

    Returns:
        The report, and the encoder's latents of the rows.
    """
    record = ExperimentRecord.from_dict(checkpoint["config"])
    rows, dim = data.rows, encoder.latent_dim
    own, left_out = {"encoder": encoder} | start_of(checkpoint, path, encoder), dict(peers.left_out)
    if checkpoint["epoch"] and START not in own:
        left_out[START] = f"no {epoch_checkpoint(0)} beside the checkpoint"
    sides: dict[str, Sides] = dict(own)
    if data.train_rows is not None:
        pca = PCA.fit(data.train_rows, encoder.latent_dim)
        metric = record.config.metric
        sides |= {PCA_RENORMALISED: pca_sides(pca, metric, True), PCA_NAME: pca_sides(pca, metric, False)}
    else:
        left_out |= dict.fromkeys((PCA_RENORMALISED, PCA_NAME), f"fitted on the training rows: {data.missing}")
    cuts = {
        d: {name: _score(rows, one, record.config, ks, d) for name, one in sides.items()}
        for d in record.config.matryoshka_dims
    }
    latents, about = encoder.encode(rows), compared(encoder, record.config, rows)
    methods = {"encoder": score(rows, latents, ks, *about)}
    methods |= {name: score(rows, one, ks, *about) for name, one in encoded.items()}
    methods |= {name: _score(rows, one, record.config, ks) for name, one in sides.items() if name != "encoder"}
    projection = RandomProjection.draw(encoder.input_dim, dim, record.config.seed)
    for name, encode in (("truncation", Truncation(dim).encode), ("random projection", projection.encode)):
        methods[name] = score(rows, encode(rows), ks, about[0], None, about[0])
    report = Report(
        checkpoint=str(path),
        record=record,
        epoch=checkpoint["epoch"],
        data=data.source,
        held_out=data.held_out,
        chosen_on_them=data.held_out and is_best(path) and record.config.metric_name not in LOSSES,
        rows=len(rows),
        training_rows=None if data.train_rows is None else len(data.train_rows),
        device=encoder.mean.device.type,
        rows_per_second=rows_per_second(encoder.encode, rows),
        methods=methods,
        cuts=cuts,
        left_out=left_out,
        ties=count_ties(rows, ks, about[0]),
        training_rows_left_out=data.training_rows_left_out,
        note=data.note,
        bad_rows_left_out=data.bad_rows_left_out,
        bad_rows=data.bad_rows,
        stored=_stored(own, record.config, rows, ks) | peers.score(rows, ks),
    )
    return report, latents


def compared(encoder: Encoder, config: TrainConfig, rows: np.ndarray) -> tuple[str, np.ndarray | None, str]:
    """How rows and latents are compared: the metric, the rows as queries, if these differ, and that of latents."""
    metric, latent_metric = config.row_metric, encoder.latent_metric
    return metric, None if latent_metric == "euclidean" else encoder.encode_queries(rows), latent_metric


def _score(rows: np.ndarray, sides: Sides, config: TrainConfig, ks: Sequence[int], dim: int | None = None) -> Scores:
    queries = None if sides.latent_metric == "euclidean" else sides.encode_queries(rows, dim=dim)
    return score(rows, sides.encode(rows, dim=dim), ks, config.row_metric, queries, sides.latent_metric)


def _stored(
    encoders: Mapping[str, DPEncoder | ConvAutoencoder], config: TrainConfig, rows: np.ndarray, ks: Sequence[int]
) -> dict[str, StoredScores]:
    """Scores of the stored forms of encoders that have a code."""
    return {
        name: score_stored(rows, encoder.encode(rows), encoder.code, ks, *compared(encoder, config, rows)[:2])
        for name, encoder in encoders.items()
        if encoder.code is not None
    }

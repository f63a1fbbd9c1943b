"""One experiment as text, and the values that lists and comparisons of several show of each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dploss.config import applicable
from dploss.experiments.catalog import Experiment
from dploss.experiments.history import MOST_EPOCHS, PCA_RENORMALISED
from dploss.experiments.recalls import MeasuredRecall, Recall
from dploss.text import MISSING, aligned, counted, display_width, duration, elided, number, shown
from metrics.table import ERROR_SUFFIX

LOSSES = {"total_loss": "total", "rank_loss": "rank", "pairdist_loss": "pairdist"}
NAME_WIDTH = 28


@dataclass(frozen=True)
class Extremes:
    """A loss at the end and at its lowest; NaN where it was not recorded.

    Attributes:
        final: of the last epoch.
        best: the lowest.
        best_epoch: the first epoch that had it.
    """

    final: float
    best: float
    best_epoch: float


def extremes(experiment: Experiment, loss: str) -> Extremes:
    """The end and the best of total_loss, rank_loss or pairdist_loss."""
    history = experiment.history
    values = getattr(history, loss)
    finite = [(value, epoch) for value, epoch in zip(values, history.epochs, strict=True) if math.isfinite(value)]
    best, epoch = min(finite, default=(math.nan, math.nan))
    return Extremes(values[-1] if values else math.nan, best, epoch)


def data_name(experiment: Experiment, width: int = NAME_WIDTH) -> str:
    """Where the vectors came from, shortened; a dash where config.json does not say."""
    data = experiment.config.get("data")
    path = data.get("path") if isinstance(data, dict) else None
    if not isinstance(path, str):
        return MISSING
    return elided(path if display_width(path) <= width else Path(path).name or path, width)


def created(experiment: Experiment) -> str:
    """When the training began, by this machine's clock; a dash where no calendar has that."""
    try:
        return f"{experiment.created.astimezone():%Y-%m-%d %H:%M}"
    except (OverflowError, OSError, ValueError):
        return MISSING


def stored_form(experiment: Experiment) -> tuple[str, str]:
    """Bytes of a stored vector and the name of its code; dashes where latents are stored as they are."""
    n_bytes = experiment.config.get("bytes")
    return (MISSING, MISSING) if n_bytes is None else (short(n_bytes), short(experiment.config.get("code")))


def outcome(experiment: Experiment) -> dict[str, Any]:
    """What came of a training, as plain values for JSON."""
    history = experiment.history
    return {
        "status": history.status,
        "epochs": len(history.epochs),
        **{loss: asdict(extremes(experiment, loss)) for loss in LOSSES},
        "start_recall": history.start_recall,
        "pca_renormalised_recall": history.pca_renormalised_recall,
        "pca_recall": history.pca_recall,
        "pca_int8_recall": history.pca_int8_recall,
        "pca_pq_recall": history.pca_pq_recall,
        "seconds": history.cumulative_time[-1] if history.cumulative_time else math.nan,
    }


def epochs_done(experiment: Experiment) -> str:
    """The last finished epoch, and how many there are to be: "40/100"."""
    done = number(experiment.history.epochs[-1], "g") if experiment.history.epochs else "0"
    wanted = experiment.config.get("epochs")
    return f"{done}/{wanted}" if type(wanted) is int and 0 <= wanted <= MOST_EPOCHS else done


def summary(experiment: Experiment, recalls: Sequence[MeasuredRecall]) -> list[str]:
    """One experiment: settings, best and final losses, recall, times.

    Args:
        experiment: which.
        recalls: measured or recorded, in order of epochs; may be empty.
    """
    config, history = experiment.config, experiment.history
    known = applicable(config)

    def given(*names: str) -> str:
        return ", ".join(
            f"{name} {short(config[name])}" for name in names if name in known and config.get(name) is not None
        )

    (n_bytes, code), latent = stored_form(experiment), config.get("latent_dim")
    facts = {
        "experiment": elided(experiment.id, 40),
        "created": created(experiment),
        "status": f"{history.status}, epoch {epochs_done(experiment)}",
        "data": data_name(experiment, 40),
        "": given("val_fraction", "metric", "limit"),
        "size": f"{short(config.get('input_dim'))} -> {short(latent)} dimension{'' if latent == 1 else 's'}",
        "stored": f"{n_bytes} bytes a vector, {code}" if n_bytes != MISSING else "",
        "loss": elided(shown(config.get("loss_function")), 40) if "loss_function" in known else "",
        " ": given("tau", "lambda_rank", "lambda_pairdist"),
        "encoder": given("matryoshka_dims", "hidden_dims", "init"),
        "training": given("batch_size", "lr", "seed"),
    }
    for loss, name in LOSSES.items():
        found = extremes(experiment, loss)
        facts[f"{name} loss"] = (
            f"{number(found.final)} at the end, best {number(found.best)} in epoch {number(found.best_epoch, 'g')}"
        )
    if recalls:
        last, top = recalls[-1], max(recalls, key=lambda one: one.recall.value)
        facts[recall_name(recalls)] = (
            f"{number(last.recall.value, '.4f')} in epoch {last.epoch:g}, best {number(top.recall.value, '.4f')}"
            f" in epoch {top.epoch:g}"
        )
        facts["  measured on"] = _measured_on(last.recall)
        for name, value in history.baselines().items():
            facts[f"  {name}"] = f"{value:.4f}, {top.recall.value - value:+.4f} gained by the best"
    for dim, values in history.recall_by_dim.items():
        if values:
            pca = number(history.baselines(dim).get(PCA_RENORMALISED), ".4f")
            facts[f"  first {dim}"] = (
                f"{number(values[-1], '.4f')} in epoch {history.recall_epochs[-1]:g} ({PCA_RENORMALISED} {pca})"
            )
    best = best_epoch(experiment)
    if best is not None:
        facts["best.pt"] = f"of epoch {best}"
        facts |= {
            f"  {elided(name, NAME_WIDTH)}": number(values[epochs.index(best)], ".4f")
            for name, (epochs, values) in evaluated(experiment).items()
            if best in epochs
        }
    seconds = history.cumulative_time[-1] if history.cumulative_time else math.nan
    each = seconds / len(history.epochs) if history.epochs else math.nan
    facts["time"] = f"{duration(seconds)} of training, {number(each, '.3g')} s an epoch"
    return aligned({name: value for name, value in facts.items() if value})


def evaluated(experiment: Experiment) -> dict[str, tuple[list[int], list[float]]]:
    """Epochs and values of every metric of images that was measured, by its name; no standard errors or deviations."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for evaluation in experiment.history.evaluations:
        for name, value in evaluation.values().items():
            if name not in (*LOSSES, "recall") and not name.endswith(("_std", ERROR_SUFFIX)):
                epochs, values = curves.setdefault(name, ([], []))
                epochs.append(evaluation.epoch)
                values.append(value)
    return curves


def best_epoch(experiment: Experiment) -> int | None:
    """The epoch of the best checkpoint, as the tracker decided during the training."""
    return next((one.epoch for one in reversed(experiment.history.evaluations) if one.is_best), None)


def recall_name(recalls: Sequence[MeasuredRecall]) -> str:
    """recall@5; recall@k where the recalls have several k or none is known."""
    ks = {one.recall.k for one in recalls}
    k = ks.pop() if len(ks) == 1 else None
    return f"recall@{k or 'k'}"


def setting(config: Mapping[str, Any], name: str) -> Any:
    """A setting's value in a record; of data and queries, which are objects there, the path."""
    value = config.get(name)
    return value.get("path") if name in ("data", "queries") and isinstance(value, dict) else value


def _measured_on(recall: Recall) -> str:
    if not recall.rows:
        return "rows not recorded"
    if recall.queries is None:
        return f"{recall.rows:,} held-out rows"
    return f"{recall.queries:,} held-out queries on {counted(recall.rows, 'row')}"


def short(value: object) -> str:
    """A setting's value, cut to the width of a table's column."""
    return elided(shown(value), NAME_WIDTH)

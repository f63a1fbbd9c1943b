"""Experiments in a list: for a person two lines of each, for programs an object."""

import math
from collections.abc import Sequence
from typing import Any

from dploss.config import applicable
from dploss.experiments.catalog import Experiment, short_ids
from dploss.experiments.history import TrainHistory
from dploss.experiments.summary import created, data_name, epochs_done, extremes, outcome, setting, short, stored_form
from dploss.text import MISSING, fitted_table, number, shown, wrapped_list

_HEADER = ("#", "id", "created", "status", "epochs", "total loss", "best recall")


def listing(experiments: Sequence[Experiment]) -> list[str]:
    """The lines of `--list`: of each experiment a numbered row of a table, and below it what was trained on what."""
    ids = short_ids([experiment.id for experiment in experiments])
    rows = []
    for place, experiment in enumerate(experiments, start=1):
        history = experiment.history
        best = _best_recall(history)
        rows.append(
            (
                str(place),
                shown(ids[experiment.id]),
                created(experiment),
                history.status,
                epochs_done(experiment),
                number(extremes(experiment, "total_loss").final),
                f"{history.recall_history[best]:.4f} @{history.recall_k or '?'}" if best is not None else MISSING,
            )
        )
    header, *lines = fitted_table(_HEADER, rows, left=4, elastic=1)
    indent = " " * (len(rows[-1][0]) + 2)
    listed = [header]
    for line, experiment in zip(lines, experiments, strict=True):
        listed += [line, *wrapped_list(indent, _details(experiment), indent=len(indent))]
    return listed


def _best_recall(history: TrainHistory) -> int | None:
    """Where in the history the highest recall is; None where none was measured."""
    found = [(value, place) for place, value in enumerate(history.recall_history) if math.isfinite(value)]
    return max(found)[1] if found else None


def _details(experiment: Experiment) -> list[str]:
    """Data, sizes, bytes, distance, layers, loss and held-out rows, as far as they matter to the training."""
    config, known = experiment.config, applicable(experiment.config)
    sizes = config.get("matryoshka_dims") if "matryoshka_dims" in known else None
    latent = "/".join(map(short, sizes)) if isinstance(sizes, list) and sizes else short(config.get("latent_dim"))
    n_bytes, code = stored_form(experiment)
    split = config.get("split")
    held_out = split.get("held_out_rows") if isinstance(split, dict) else None
    layers = {"none": "linear"}.get(short(config.get("hidden_dims")), f"MLP {short(config.get('hidden_dims'))}")
    tau = f" tau {short(config['tau'])}" if "tau" in config else ""
    parts = {
        "": data_name(experiment),
        "latent_dim": f"{short(config.get('input_dim'))} -> {latent}",
        "code": f"{n_bytes} bytes {code}",
        "metric": short(config.get("metric")),
        "hidden_dims": layers,
        "loss_function": f"{short(config.get('loss_function'))}{tau}",
        "val_fraction": f"{held_out:,} held out" if type(held_out) is int else "",
    }
    return [text for name, text in parts.items() if text and (not name or (name in known and name in config))]


def records(experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """The objects of `--list --json`: which experiment, its data, the settings that matter to it, and the outcome."""
    found = []
    for experiment in experiments:
        config, history = experiment.config, experiment.history
        data, split = (value if isinstance(value, dict) else {} for value in (config.get("data"), config.get("split")))
        best = _best_recall(history)
        found.append(
            {
                "experiment": experiment.id,
                "folder": str(experiment.folder),
                "created": experiment.created.isoformat(),
                "data": data.get("path"),
                "rows": data.get("rows"),
                "train_rows": split.get("train_rows"),
                "held_out_rows": split.get("held_out_rows"),
                "input_dim": config.get("input_dim"),
                "settings": {
                    name: setting(config, name) for name in applicable(config) if name not in ("data", "images")
                },
                **outcome(experiment),
                "best_recall": None
                if best is None
                else {
                    "epoch": history.recall_epochs[best],
                    "value": history.recall_history[best],
                    "k": history.recall_k,
                    "rows": history.recall_rows,
                },
            }
        )
    return found

"""--query-side auto: whether queries are encoded by a side of their own, or as rows are."""

from dataclasses import replace

from dploss.config import TrainConfig
from dploss.data.experiment_data import ExperimentData
from dploss.data.split import evenly_spaced
from dploss.evaluation.held_out import HeldOut
from dploss.training.progress import Progress
from dploss.training.start import initialize_trainer, make_trainer
from dploss.training.storage import storage_of
from dploss.training.torchrun import is_main_process

_ROWS, _QUERIES = 5000, 1000
# Of what the shared side loses at the start, how much its own must win back: where queries are like rows, rows teach a
# shared side more than both sides are taught.
_NOTABLE = 0.05


def choose_query_side(config: TrainConfig, data: ExperimentData) -> TrainConfig:
    """Settle query_side auto by what training queries find among training rows, at the start of both trainings.

    Half of the training queries are fitted to, and the other half searches. With bytes it is what they find in the
    stored form, by the code that training makes.

    Args:
        config: the settings; without queries, or with a side that is named, they stay as they are.
        data: rows and queries.

    Returns:
        The settings with the side; under "ip" it is their own.

    Raises:
        InputError: settings or rows that no training can have.
    """
    if data.queries is None or config.query_side != "auto":
        return config
    if config.metric == "ip":
        return replace(config, query_side="own")
    sample = data.train_index[evenly_spaced(len(data.train_index), _ROWS)]
    index = data.queries.train_index
    halved = replace(data, queries=replace(data.queries, train_index=index[::2]))
    queries = data.queries.vectors.rows[index[1::2][:_QUERIES]]
    log = Progress(config.quiet).log if is_main_process() else lambda line: None
    if not len(queries):
        log("--query-side shared: one training query is too few to compare by")
        return replace(config, query_side="shared")
    k = max(1, min(config.k, len(sample) // 10))
    searched = HeldOut(data.vectors.rows, sample, k, (), config.seed, queries=queries)
    log("choosing how queries are encoded ...")
    recalls = {}
    for side in ("shared", "own"):
        named = replace(config, query_side=side)
        fitted = named.fitted_to(len(data.train_index), data.vectors.rows.shape[1])
        if fitted.code == "auto":
            # Which code it will be is chosen after this, for the side that was.
            fitted = replace(fitted, bytes=None)
        trainer = make_trainer(fitted, halved)
        initialize_trainer(trainer)
        code = None if fitted.bytes is None else storage_of(fitted, trainer, trained=fitted.epochs > 0)
        recalls[side] = searched.recall(trainer.encoder, code).value
    needed = recalls["shared"] + (_NOTABLE if config.epochs else 0.0) * (1 - recalls["shared"])
    # On several machines the last bits may differ.
    chosen = trainer.group.first("own" if recalls["own"] > needed else "shared")
    found = ", ".join(f"{side} {recall:.4f}" for side, recall in recalls.items())
    log(f"--query-side {chosen}: recall@{k} of training queries at the start: {found}")
    return replace(config, query_side=chosen)  # type: ignore[arg-type]  # its choices

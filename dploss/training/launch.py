"""From settings to a training that is ready to run: a new experiment, or one that resumes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dploss.config import OPTIONS, TrainConfig
from dploss.data import Vectors
from dploss.data.experiment_data import ExperimentData, open_data, open_experiment_data
from dploss.data.images import Images, UnreadableImagesError
from dploss.errors import InputError, SettingError, one_line
from dploss.evaluation.held_out import HeldOut
from dploss.evaluation.sides import pca_sides
from dploss.experiments.catalog import find_experiment, open_experiment, refuse_links, short_id
from dploss.experiments.checkpoints import CheckpointManager, load_checkpoint
from dploss.experiments.history import TrainHistory
from dploss.experiments.layout import HISTORY, LATEST
from dploss.experiments.provenance import origin_of
from dploss.experiments.record import DataRecord, ExperimentRecord, Origin, SplitRecord
from dploss.files.atomic import check_writable
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.pca import PCA
from dploss.text import counted
from dploss.training.checkpoint_evaluator import tracked_metric
from dploss.training.checks import doubts
from dploss.training.code_choice import choose_code
from dploss.training.loggers.run_log import check_installed
from dploss.training.progress import Progress
from dploss.training.query_side import choose_query_side
from dploss.training.row_checks import check_differ, distances_from_median, far_rows, trained_twins
from dploss.training.run import ExperimentRun, TrainingRun
from dploss.training.start import initialize_trainer, make_trainer
from dploss.training.storage import add_baselines, storage_of
from dploss.training.torchrun import is_main_process
from dploss.training.trainer import Trainer


def new_experiment(config: TrainConfig) -> TrainingRun:
    """Open the data and prepare a training from its initialisation; nothing is written yet.

    Returns:
        In the main process an ExperimentRun, in others a run that writes nothing.

    Raises:
        InputError: data or settings that cannot be used.
    """
    # Before an hour of reading.
    check_installed(config)
    check_writable(Path(config.checkpoints_dir))
    manager = CheckpointManager(config.checkpoints_dir)
    try:
        data = open_data(config)
    except UnreadableImagesError as error:
        raise SettingError("{line}; {skip_bad_images} leaves them out", line=error) from error
    config = choose_code(choose_query_side(config, data), data)
    input_dim = data.vectors.rows.shape[1]
    fitted = config.fitted_to(len(data.train_index), input_dim)
    if fitted.latent_dim != config.latent_dim and is_main_process():
        why = "as many as the code has bits for, 256 at least" if config.bytes else f"half of the vectors' {input_dim}"
        Progress(config.quiet).log(f"--latent-dim {fitted.latent_dim}: {why}")
    if fitted.epochs != config.epochs and is_main_process():
        Progress(config.quiet).log(f"--epochs {fitted.epochs}: --code {config.code} is trained after the first")
    config = fitted
    return _prepare(config, data, manager, origin_of(manager.experiment_id), checkpoint=None)


def resumed_experiment(reference: str, given: Mapping[str, Any]) -> TrainingRun:
    """Open an experiment and prepare to resume from its latest checkpoint, or from the one that is named.

    An experiment that was stopped before its first checkpoint starts again, under its own settings.

    Args:
        reference: its UUID, a unique prefix, or the path of its folder or of one of its checkpoints.
        given: settings given anew; one that decides what is trained must equal the experiment's own.

    Returns:
        As `new_experiment`.

    Raises:
        InputError: no such experiment, one that is being trained, other settings or rows than its own, or an unusable
            checkpoint.
    """
    folder = find_experiment(given.get("checkpoints_dir", TrainConfig.checkpoints_dir), reference)
    manager = CheckpointManager(folder.parent, folder.name)
    # Before anything is read: what another process writes meanwhile would be lost.
    if is_main_process():
        manager.lock()
    try:
        return _resume(manager, reference, given)
    except BaseException:
        manager.unlock()
        raise


def _prepare(
    config: TrainConfig, data: ExperimentData, manager: CheckpointManager, origin: Origin, checkpoint: Path | None
) -> TrainingRun:
    """The run, initialised or loaded from a checkpoint."""
    progress, is_main, vectors = Progress(config.quiet), is_main_process(), data.vectors
    input_dim = vectors.rows.shape[1]
    source, distances = config.images or config.data, distances_from_median(vectors.rows)
    check_differ(source, distances)
    trainer = make_trainer(config, data)
    held_out = HeldOut.of(config, data)
    if is_main:
        tied = held_out.ties().warning("held-out rows") if held_out and data.queries is None else None
        left_out = vectors.left_out and f"{source}: {vectors.left_out}"
        notes = map(one_line, vectors.notes) if isinstance(vectors, Images) else ()
        far = far_rows(source, distances, vectors.kept)
        unasked = None
        if data.queries is not None and not len(data.queries.held_out_index):
            unasked = "no queries are held out, so recall is not measured"
        twins = trained_twins(vectors.rows, distances, data.train_index, data.held_out_index)
        for doubt in (
            left_out,
            *notes,
            *doubts(config, input_dim, len(trainer.train_index)),
            far,
            twins,
            tied,
            unasked,
        ):
            if doubt is not None:
                progress.warn(doubt)
    if checkpoint is not None:
        history = _load(trainer, checkpoint)
    else:
        if is_main:
            progress.log(f"fitting PCA to {len(trainer.train_index):,} x {input_dim} training rows ...")
        pca = initialize_trainer(trainer)
        history = _initial_history(config, pca, held_out)
        if config.bytes is not None:
            # Now, for bytes that the code cannot have are said before anything is written.
            trainer.encoder.code = storage_of(config, trainer)
            if held_out:
                add_baselines(history, config, pca, trainer.train_rows, held_out)
    if not is_main:
        return TrainingRun(trainer, history)
    reconstruction = None
    encoder = trainer.encoder
    if isinstance(vectors, Images) and isinstance(encoder, ConvAutoencoder) and held_out and config.eval_every:
        # Imported late: a training on vectors needs none of the image metrics.
        from dploss.training.reconstruction import Reconstruction

        reconstruction = Reconstruction(encoder, vectors, data.held_out_index, config)
    return ExperimentRun(
        trainer,
        history,
        record=ExperimentRecord(
            config,
            _record_of(vectors),
            input_dim,
            SplitRecord(len(data.train_index), len(data.held_out_index)),
            origin,
            None if data.queries is None else _record_of(data.queries.vectors),
        ),
        manager=manager,
        progress=progress,
        held_out=held_out,
        metric_name=tracked_metric(config, bool(held_out), reconstruction, progress.warn),
        reconstruction=reconstruction,
        resumed_from=checkpoint,
    )


def _record_of(vectors: Vectors) -> DataRecord:
    return DataRecord(vectors.source, len(vectors.rows), vectors.fingerprint, vectors.bad.count)


def _initial_history(config: TrainConfig, pca: PCA, held_out: HeldOut) -> TrainHistory:
    """A history without epochs; it has the recall of PCA, with and without the norm, which the encoder is to exceed."""
    history = TrainHistory()
    if held_out:
        plain, renormalised = (pca_sides(pca, config.metric, restored) for restored in (False, True))
        recall = held_out.recall(plain)
        history.recall_k, history.recall_rows, history.recall_queries = recall.k, recall.rows, recall.queries
        history.pca_recall, history.pca_renormalised_recall = recall.value, held_out.recall(renormalised).value
        history.pca_recall_by_dim = _by_text(held_out.recall_by_dim(plain))
        history.pca_renormalised_recall_by_dim = _by_text(held_out.recall_by_dim(renormalised))
    return history


def _by_text(recalls: Mapping[int, float]) -> dict[str, float]:
    return {str(dim): value for dim, value in recalls.items()}


def _load(trainer: Trainer, path: Path) -> TrainHistory:
    """Resume from a checkpoint as if the training had never stopped.

    Raises:
        InputError: the file is no checkpoint, or one of other settings.
    """
    checkpoint = load_checkpoint(path)
    try:
        trainer.load_state_dict(checkpoint)
        history = TrainHistory.from_dict(checkpoint["train_history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: it does not fit its experiment's config.json: {error}") from error
    beside = path.parent / HISTORY
    if path.name != LATEST and beside.exists():
        # A kept checkpoint is evaluated after it is written; the history beside it has the result.
        evaluations = TrainHistory.load(beside).evaluations
        history.evaluations = [one for one in evaluations if one.epoch <= trainer.epoch]
    history.status = "running"
    return history


def _resume(manager: CheckpointManager, reference: str, given: Mapping[str, Any]) -> TrainingRun:
    folder = manager.folder
    refuse_links(folder)
    stored = ExperimentRecord.load(folder)
    config = replace(stored.config, **{"quiet": False, **given, "checkpoints_dir": str(folder.parent)})
    for name, setting in OPTIONS.items():
        old, new = getattr(stored.config, name), getattr(config, name)
        if old != new and not setting.on_resume:
            template = f"{{{name}}} {{new}}: experiment {{id}} has {{old}}; leave {{{name}}} out to resume it"
            raise SettingError(template, new=new, old=old, id=folder.name)
    check_installed(config)
    named = Path(reference) if reference.endswith(".pth") else folder / LATEST
    data = open_experiment_data(stored, config)
    run = _prepare(config, data, manager, stored.origin, checkpoint=named if named.exists() else None)
    if _nothing_left(run.trainer, folder):
        template = "experiment {id} has its {n}; raise {epochs} to resume it"
        raise SettingError(template, id=short_id(folder), n=counted(run.trainer.epoch, "epoch"))
    return run


def _nothing_left(trainer: Trainer, folder: Path) -> bool:
    """Whether nothing is left to train, or to write: a training can be killed between its last step and its history."""
    try:
        return trainer.step > trainer.steps or (
            trainer.step == trainer.steps and open_experiment(folder).history.status == "completed"
        )
    except InputError:
        return False

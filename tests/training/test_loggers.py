"""What Weights & Biases and MLflow get of a training: their calls by stand-ins, and the packages where they are."""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.experiments.history import TrainHistory
from dploss.training.launch import new_experiment, resumed_experiment
from dploss.training.loggers.run_log import RunLog, check_installed, result_of

SMALL = {"limit": 300, "latent_dim": 8, "hidden_dims": (16,), "epochs": 2, "save_interval": 1, "batch_size": 128}


@pytest.fixture
def settings(tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    return {**SMALL, "checkpoints_dir": str(tmp_path / "checkpoints"), "no_tensorboard": True, "quiet": True}


def module(name: str, **names: object) -> ModuleType:
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None, origin="stand-in")
    vars(made).update(names)
    return made


@pytest.fixture
def install(monkeypatch) -> Iterator:
    """Put modules in the place of packages, for as long as the test takes."""

    def forget() -> None:
        for name in ("wandb_run", "mlflow_run"):
            sys.modules.pop(f"dploss.training.loggers.{name}", None)

    forget()
    yield lambda *modules: [monkeypatch.setitem(sys.modules, one.__name__, one) for one in modules]
    forget()


class Wandb:
    """What a training calls of wandb; `runs` are its calls of init, and what was logged to each."""

    def __init__(self) -> None:
        self.runs: list[SimpleNamespace] = []
        self.fails_at = math.inf

    def init(self, **options: object) -> SimpleNamespace:
        run = SimpleNamespace(options=options, logged=[], axes=[], summary={}, finished=None)

        def log(values: dict) -> None:
            if len(run.logged) >= self.fails_at:
                raise ConnectionError("no route\nto host")
            run.logged.append(values)

        run.log, run.define_metric = log, lambda name, **more: run.axes.append((name, more))
        run.finish = lambda exit_code: setattr(run, "finished", exit_code)
        self.runs.append(run)
        return run


@pytest.fixture
def wandb(install) -> Wandb:
    service = Wandb()
    install(module("wandb", init=service.init, Settings=dict, Image=lambda image: image.size))
    return service


def series(run: SimpleNamespace, tag: str) -> list[tuple[int, float]]:
    return [(one["step"], one[tag]) for one in run.logged if tag in one]


def test_wandb_gets_settings_losses_recalls_baselines_and_the_result(wandb, settings):
    training = new_experiment(TrainConfig(**settings, log_to="wandb", matryoshka_dims=(4, 8)))
    history = training.run()
    (run,) = wandb.runs
    assert run.options["id"] == training.folder.name and run.options["project"] == "dploss"
    assert run.options["config"] == training.record.as_dict() and run.options["dir"] == str(training.folder)
    assert run.options["settings"] == {"console": "off", "silent": True, "finish_timeout": 300}
    assert run.axes == [("step", {}), ("*", {"step_metric": "step"})]
    steps = training.trainer.steps_per_epoch
    assert series(run, "Loss/Total") == [(steps, history.total_loss[0]), (2 * steps, history.total_loss[1])]
    recalls = series(run, "Recall/At_5")
    assert recalls == list(zip((0, steps, 2 * steps), history.recall_history, strict=True))
    assert series(run, "Recall/At_5_4_dims")[-1] == (2 * steps, history.recall_by_dim["4"][-1])
    assert all(0 < error < 0.2 for _, error in series(run, "Recall/At_5_Standard_Error"))
    assert [value for _, value in series(run, "Evaluation/IsBest")] == [one.is_best for one in history.evaluations]
    assert series(run, "Baseline/PCA") == [(0, history.pca_recall)]
    assert series(run, "Baseline/PCA_renormalised") == [(0, history.pca_renormalised_recall)]
    assert run.summary == {"step": 2 * steps, **result_of(history)} and run.finished == 0


def test_wandb_s_own_variables_hold(wandb, settings, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    new_experiment(TrainConfig(**settings, log_to="wandb")).run()
    assert wandb.runs[0].options["project"] == "mine"


def test_a_training_that_resumes_continues_its_run(wandb, settings):
    training = new_experiment(TrainConfig(**settings, log_to="wandb"))
    training.run(lambda: training.trainer.epoch == 1)
    assert training.history.status == wandb.runs[0].summary["status"] == "interrupted" and not wandb.runs[0].finished
    again = resumed_experiment(str(training.folder), {"quiet": True})
    again.run()
    first, second = wandb.runs
    assert second.options["id"] == first.options["id"] and second.options["resume"] == "allow"
    assert [step for step, _ in series(second, "Loss/Total")] == [2 * training.trainer.steps_per_epoch]
    assert not series(second, "Baseline/PCA")
    resumed_experiment(str(training.folder), {"quiet": True, "epochs": 3, "log_to": "none"}).run()
    assert len(wandb.runs) == 2


@pytest.mark.parametrize("fails_at", [0, 3])
def test_a_service_that_fails_is_said_once_and_the_training_ends_as_it_would(fails_at, wandb, settings, capsys):
    expected = new_experiment(TrainConfig(**settings)).run()
    wandb.fails_at = fails_at
    history = new_experiment(TrainConfig(**settings, log_to="wandb")).run()
    assert history.status == "completed" and history.total_loss == expected.total_loss
    warnings = [line for line in capsys.readouterr().err.splitlines() if "logs no more" in line]
    assert warnings == ["warning: wandb logs no more of this training, which continues: no route to host"]


def test_a_service_that_cannot_be_started_is_one_line_and_nothing_is_trained(install, settings, call):
    def init(**options: object) -> None:
        raise RuntimeError("no key:\nwandb login")

    install(module("wandb", init=init, Settings=dict))
    flags = ("--limit", 300, "--latent-dim", 8, "--batch-size", 64, "--quiet", "--log-to", "wandb")
    done = call("train.py", *flags)
    assert (done.returncode, done.stderr) == (2, "train.py: cannot log to wandb: no key: wandb login\n")
    (history,) = Path("checkpoints").glob("*/train_history.json")
    assert json.loads(history.read_text())["status"] == "failed" and not list(history.parent.glob("*.pth"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named_before_anything_is_read(name, settings, call, monkeypatch):
    monkeypatch.setattr("dploss.training.loggers.run_log.find_spec", lambda name: None)
    done = call("train.py", "--data", "gone.npy", "--quiet", "--log-to", name)
    line = f"--log-to {name} needs a package that is not installed: pip install 'dploss[{name}]'"
    assert (done.returncode, done.stderr) == (2, f"train.py: {line}\n")
    assert not Path("checkpoints").exists()


def test_a_folder_of_wandb_s_files_is_no_package(settings, monkeypatch):
    monkeypatch.setattr("dploss.training.loggers.run_log.find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(InputError, match="log_to wandb needs a package that is not installed"):
        check_installed(TrainConfig(log_to="wandb"))


def test_images_are_logged(wandb, mlflow, settings):
    record = new_experiment(TrainConfig(**settings)).record
    folder = Path(settings["checkpoints_dir"], "one")
    folder.mkdir(parents=True)
    for name in ("wandb", "mlflow"):
        chosen = replace(record, config=replace(record.config, log_to=name))
        RunLog.start(folder, chosen, TrainHistory(), 0, pytest.fail).image("Samples/000", Image.new("RGB", (6, 4)), 9)
    assert wandb.runs[0].logged == [{"Samples/000": (6, 4), "step": 9}]
    assert mlflow.runs["run 0"].images == [("Samples/000", (6, 4), 9)]


def test_the_result_of_a_training_without_held_out_rows():
    history = TrainHistory(status="completed")
    assert result_of(history) == {"status": "completed", "epochs": 0}
    history.add_epoch(3.0, 2.0, 1.0, 0.1, 5.0)
    assert result_of(history) == {"status": "completed", "epochs": 1, "total_loss": 3.0, "seconds": 5.0}
    history.add_recall(0.5)
    assert result_of(history)["best_recall"] == 0.5


@dataclass
class Entry:
    """Metric, Param or RunTag."""

    key: str
    value: object
    timestamp: int = 0
    step: int = 0


class MlflowError(Exception):
    """MlflowException."""

    def __init__(self, error_code: str) -> None:
        super().__init__(error_code)
        self.error_code = error_code


class Mlflow:
    """What a training calls of an MlflowClient, whose runs are by their ids."""

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}
        self.experiments: dict[str, str] = {}
        self.error_code = "RESOURCE_DOES_NOT_EXIST"

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"id of {name}")

    def create_run(self, experiment_id: str, run_name: str, tags: dict) -> SimpleNamespace:
        run = SimpleNamespace(experiment=experiment_id, name=run_name, tags=dict(tags), params={}, metrics=[])
        run.status, run.images = "RUNNING", []
        self.runs[f"run {len(self.runs)}"] = run
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run {len(self.runs) - 1}"))

    def update_run(self, run_id: str, status: str) -> None:
        if run_id not in self.runs:
            raise MlflowError(self.error_code)
        self.runs[run_id].status = status

    def log_batch(self, run_id: str, metrics: list = (), params: list = (), tags: list = ()) -> None:
        run = self.runs[run_id]
        run.metrics += metrics
        run.params |= {one.key: one.value for one in params}
        run.tags |= {one.key: one.value for one in tags}

    def log_image(self, run_id: str, image: Image.Image, key: str, step: int) -> None:
        self.runs[run_id].images.append((key, image.size, step))

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status


@pytest.fixture
def mlflow(install) -> Mlflow:
    service = Mlflow()
    entities = module("mlflow.entities", Metric=Entry, Param=Entry, RunTag=Entry)
    install(
        module("mlflow", MlflowClient=lambda: service),
        entities,
        module("mlflow.exceptions", MlflowException=MlflowError),
    )
    return service


def test_mlflow_gets_the_same_and_a_training_that_resumes_continues_its_run(mlflow, settings):
    training = new_experiment(TrainConfig(**settings, log_to="mlflow"))
    training.run(lambda: training.trainer.epoch == 1)
    assert mlflow.runs["run 0"].status == "KILLED"
    assert json.loads((training.folder / "mlflow_run.json").read_text()) == {"run_id": "run 0"}
    history = resumed_experiment(str(training.folder), {"quiet": True}).run()
    (run,) = mlflow.runs.values()
    assert (run.experiment, run.name, run.status) == ("id of dploss", training.folder.name[:8], "FINISHED")
    assert run.tags == {"dploss.experiment_id": training.folder.name, "status": "completed"}
    assert run.params["latent_dim"] == "8" and run.params["data.path"] == "builtin" and "column" not in run.params
    losses = [(one.step, one.value) for one in run.metrics if one.key == "Loss/Total"]
    steps = training.trainer.steps_per_epoch
    assert losses == [(steps, history.total_loss[0]), (2 * steps, history.total_loss[1])]
    results = {one.key: one.value for one in run.metrics if one.key.startswith("summary/")}
    assert results["summary/best_recall"] == max(history.recall_history) and results["summary/epochs"] == 2


def test_a_run_that_the_server_has_no_more_starts_anew(mlflow, settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    training = new_experiment(TrainConfig(**settings, log_to="mlflow"))
    training.run()
    mlflow.runs = {"run 7": mlflow.runs.pop("run 0")}
    resumed_experiment(str(training.folder), {"quiet": True, "epochs": 3}).run()
    assert {*mlflow.runs} == {"run 7", "run 1"} and mlflow.runs["run 1"].experiment == "id of mine"
    mlflow.runs, mlflow.error_code = {}, "PERMISSION_DENIED"
    with pytest.raises(InputError, match="cannot log to mlflow: PERMISSION_DENIED"):
        resumed_experiment(str(training.folder), {"quiet": True, "epochs": 4}).run()
    (training.folder / "mlflow_run.json").write_text("[]")
    with pytest.raises(InputError, match=r"mlflow_run\.json: it names no run of MLflow: delete it"):
        resumed_experiment(str(training.folder), {"quiet": True, "epochs": 4}).run()


def test_the_real_wandb_logs_offline(settings, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    training = new_experiment(TrainConfig(**settings, log_to="wandb"))
    assert training.run().status == "completed"
    (log,) = (training.folder / "wandb").glob(f"offline-run-*/run-{training.folder.name}.wandb")
    written = log.read_bytes()
    words = ("Loss/Total", "Recall/At_5_Standard_Error", "Baseline/PCA", "best_recall", "DPLossV3")
    assert all(word.encode() in written for word in words)


def test_the_real_mlflow_logs_to_files(settings, monkeypatch, tmp_path):
    library = pytest.importorskip("mlflow")
    # SQLite, its default, takes many seconds to be made.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    training = new_experiment(TrainConfig(**settings, log_to="mlflow"))
    history = training.run(lambda: training.trainer.epoch == 1)
    history = resumed_experiment(str(training.folder), {"quiet": True}).run()
    client = library.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("dploss").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["latent_dim"] == "8"
    losses = client.get_metric_history(run.info.run_id, "Loss/Total")
    assert [one.value for one in losses] == pytest.approx(history.total_loss)
    assert run.data.metrics["summary/best_recall"] == pytest.approx(max(history.recall_history))

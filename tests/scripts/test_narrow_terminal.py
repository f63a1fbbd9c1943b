"""No line that a command prints is wider than a terminal of 80 columns, whatever was trained and what it is called."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from wcwidth import wcswidth

from dploss.cli.messages import message_lines
from dploss.experiments.catalog import list_experiments
from dploss.experiments.comparison import compare
from dploss.experiments.history import TrainHistory
from dploss.experiments.listing import listing
from dploss.tracking.tracker import BestCheckpointTracker
from dploss.training.progress import Progress
from metrics.table import BUILT_IN

WIDTH = 80
SCRIPTS = ("train.py", "test.py", "encode.py", "quick_plot.py", "visualize_training.py")
FOLDER, FILE = "문장_임베딩_실험_자료_" * 3, "한국어_사전_표제어_임베딩_벡터.parquet"
SMALL = ("--hidden-dims", "8", "--batch-size", "64", "--save-interval", "1")
STORED = ("--checkpoints-dir", "stored")
IMAGES = ("--image-size", "16", "--limit", "60", "--batch-size", "18", "--latent-dim", "4", "--save-interval", "1")
COMMANDS = [
    ("train", "--data", FILE, "--latent-dim", "16", "--epochs", "2", "--metric", "cosine", *SMALL),
    ("train", "--data", FILE, "--matryoshka-dims", "8,16,32", "--epochs", "1", *SMALL),
    ("train", "--data", FILE, "--target-recall", "0.7", "--epochs", "1", *SMALL),
    ("train", "--data", FILE, "--bytes", "--target-recall", "0.5", "--latent-dim", "32", "--epochs", "0"),
    (
        "train",
        "--data",
        FILE,
        "--bytes",
        "8",
        "--latent-dim",
        "32",
        "--epochs",
        "1",
        "--tau",
        "0.123456789",
        *SMALL,
        *STORED,
    ),
    ("train", "--images", "builtin", "--epochs", "1", "--metric-name", "psnr", *IMAGES),
    ("test", "--neighbours", "2", "--k", "1", "5", "10", "15", "20", "25", "29", "--peers", *STORED),
    ("encode", FILE, "codes.npy", *STORED),
    ("encode", "--decode", "codes.npy", "latents.npy"),
    ("test", "--encoded", "codes.npy", "--k", "5"),
    ("plot",),
    ("visualize", "--recall-history"),
    ("visualize", "--list"),
    ("visualize", "--compare"),
]
# One process: it takes seconds to load torch.
RUN = """
import json, sys
from importlib import import_module
from pathlib import Path

import pytest
from no_network import no_weights

from dploss.evaluation import scores

no_weights(pytest.MonkeyPatch(), Path("no_weights"))
scores.TIMED_SECONDS = 0.01
commands = json.loads(sys.argv[1])
for name, *flags in commands:
    sys.argv[0] = f"{name}.py"
    print(f"$ {name}", flush=True)
    if import_module(f"dploss.commands.{name}").main([*flags]):
        sys.exit(f"failed: {flags}")
"""


def too_wide(text: str, folder: Path) -> list[str]:
    """Lines of over 80 columns; the path of a result stands alone, whole: it is there to be copied, or piped."""
    lines = [re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", line).rstrip() for line in re.split("[\r\n]", text)]
    # A warning of the figures stays one line, as errors do; it comes where no font has Korean letters.
    return [one for one in lines if wcswidth(one) > WIDTH and not (folder / one).exists() and "no font for" not in one]


def test_no_command_breaks_a_line(tmp_path, terminal, monkeypatch):
    pytest.importorskip("faiss")
    folder = tmp_path / FOLDER
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 48)) * 0.9 ** np.arange(48)
    texts = [f"{number}번 표제어는 뜻이 길어서 한 줄에 들어가지 않는 문장입니다 " * 3 for number in range(300)]
    pq.write_table(pa.table({"emb": list(rows.astype(np.float32)), "text": texts}), folder / FILE)
    (tmp_path / "every_command.py").write_text(RUN)
    commands = json.dumps([[str(folder / part) if part == FILE else part for part in command] for command in COMMANDS])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    code, shown = terminal("\n\n", str(tmp_path / "every_command.py"), commands)
    assert code == 0, shown
    assert [shown.count(f"$ {name}\n") for name in ("train", "test", "encode", "plot", "visualize")] == [6, 2, 2, 1, 3]
    assert too_wide(shown, tmp_path) == []
    for part in ("OPQ, norm restored, 8 bytes", "bytes a vector", "first 8 dimensions", "gain is over", "rows of /"):
        assert part in shown
    assert not re.search(r"(?<![\d,])1 (epochs|rows)\b", shown)
    settings = shown[shown.index("image_size=16") :].partition("start ")[0]
    assert "lambda_recon=1" in settings and "metric_name=psnr" in settings
    assert not re.search("hidden_dims|dropout|matryoshka|metric=|bytes|code=", settings)


def test_a_summary_of_many_metrics_breaks_between_them(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "psnr")
    (tmp_path / "1.pt").touch()
    tracker.update(1, 1, tmp_path / "1.pt", {name: 12345.678 for name in BUILT_IN})
    assert len(tracker.summary().splitlines()) == 7
    lines = tracker.summary(WIDTH).splitlines()
    assert max(map(len, lines)) <= WIDTH
    together = " ".join(line.strip() for line in lines[5:-1])
    assert all(f"{name}: 12345.6" in line for name in BUILT_IN for line in lines if f"{name}:" in line)
    assert together.startswith("Metrics: clip_score: 12345.6780, lpips: ") and together.endswith("ssim: 12345.6780")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("started", ["train.py", "/bin/dploss"])
def test_help_fits_under_either_name(script, started, call, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", [started])
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    done = call(script, "--help")
    assert done.returncode == 0 and too_wide(done.stdout, tmp_path) == []
    assert ("dploss " if "dploss" in started else script) in done.stdout and "Examples:" in done.stdout


@pytest.mark.parametrize("epochs", [1, 12, 1000])
@pytest.mark.parametrize("loss", [1234567.8, 0.12345678, 0.00012345678, 1.2345678e-9])
@pytest.mark.parametrize("seconds", [0.012345, 59.94, 3599.0])
def test_an_epoch_is_a_line_with_all_of_its_numbers(epochs, loss, seconds, capsys):
    history = TrainHistory()
    history.add_epoch(loss, loss, loss, 0.001, seconds)
    Progress().epoch(history, epochs)
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) <= WIDTH and line.startswith(f"epoch {1:>{len(str(epochs))}}/{epochs} ")
    for name in ("total", "rank", "pairdist"):
        assert float(line.split(f" {name} ")[1].split()[0]) == pytest.approx(loss, rel=0.05)
    assert " ETA " in line


def test_twelve_runs_are_compared_in_lines(trained):
    experiments = list_experiments(trained)[0] * 4
    for lines in (listing(experiments), compare(experiments, [[]] * 12).lines()):
        assert max(map(wcswidth, lines)) <= WIDTH and len(lines) < 45


def test_messages_are_broken_at_a_terminal_alone(tmp_path):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    person, screen = pty.openpty()
    termios.tcsetwinsize(screen, (40, 60))
    text = "warning: --latent-dim 768 is the size of the vectors: nothing gets shorter, not even by one dimension"
    with os.fdopen(screen, "w") as stream:
        lines = message_lines(text, stream)
    os.close(person)
    assert [line.strip() for line in lines] == [
        "warning: --latent-dim 768 is the size of the vectors:",
        "nothing gets shorter, not even by one dimension",
    ]
    with open(tmp_path / "log", "w") as stream:
        assert message_lines(text, stream) == [text]

import json
import re

import pytest
from conftest import ROOT

READMES = ("README.md", "README.ko.md")


def blocks(readme, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)


def test_both_languages_show_the_same_commands_and_code():
    def plain(block):
        # Comments are in the reader's language.
        return [re.sub(r"\s*#.*", "", line) for line in block.splitlines()]

    for language in ("bash", "python"):
        assert [plain(one) for one in blocks(READMES[0], language)] == [
            plain(one) for one in blocks(READMES[1], language)
        ]


def test_the_training_loop_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    from metrics import Unavailable

    def unreachable(*args):
        raise Unavailable("its weights are out of reach")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no_cache"))
    monkeypatch.setattr("metrics.weights.require_network", unreachable)
    monkeypatch.setattr("metrics.clip_score._tagged_file", unreachable)
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in blocks("README.md", "python") if "BestCheckpointTracker" in block]
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 30
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "new best: " in printed and "Tracking metric: psnr" in printed and "Saved checkpoints: 3/3" in printed
    results = json.loads((tmp_path / "results/run1/best_checkpoint_results.json").read_text())
    # The loop draws its model's weights at random, so any of its four checkpoints may be the best.
    scores = [one["metrics"]["psnr"] for one in results["checkpoints"]]
    assert len(scores) == 3 and results["best"]["metrics"]["psnr"] == max(scores)
    assert (tmp_path / "results/run1/best.pt").resolve().name == results["best"]["path"]


@pytest.mark.parametrize("readme", READMES)
def test_every_script_that_is_named_is_there(readme):
    named = re.findall(r"uv run python (\S+\.py)", (ROOT / readme).read_text(encoding="utf-8"))
    assert len(named) > 10 and all((ROOT / name).is_file() for name in named)


def test_every_promise_names_tests_that_there_are():
    promised = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "RELIABILITY.md").read_text(encoding="utf-8")))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert len(promised) > 20
    assert not [name for name in promised if f"\ndef {name}(" not in tests]

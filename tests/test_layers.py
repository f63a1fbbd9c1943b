"""Which package may import which: only from a lower line, never from its own or a higher one."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

# From the ground up. Packages of one line know nothing of each other.
LAYERS = [
    {"errors"},
    {"files", "text", "losses"},
    {"config", "tracking"},
    {"experiments"},
    {"data"},
    {"codes", "cli"},
    {"models"},
    {"evaluation", "encoding", "plots", "search"},
    {"training"},
    {"integrations"},
    {"commands"},
    {"__main__"},
    {"short_embedding", "vectors"},  # the names of older versions
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Narrower than the lines: what a package may import of dploss at all.
ONLY = {"losses": set(), "tracking": {"errors", "files", "text"}}
MOST_LINES = 300
MODULES = sorted((ROOT / "dploss").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of all that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages_of(path: Path) -> set[str]:
    """The packages, and modules beside them, of dploss that a file imports."""
    names = (name.split(".") for name in imported(path))
    return {parts[1] for parts in names if parts[0] == "dploss" and len(parts) > 1}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path):
    home = path.relative_to(ROOT / "dploss").with_suffix("").parts[0]
    if home == "__init__":
        return
    others = packages_of(path) - {home}
    assert not [name for name in others if LEVEL[name] >= LEVEL[home]]
    assert others <= ONLY.get(home, others)


def test_the_training_loop_knows_no_file_figure_tracker_metric_or_image():
    path = ROOT / "dploss" / "training" / "trainer.py"
    assert packages_of(path) <= {"config", "data", "errors", "models", "training"}
    assert not [name for name in imported(path) if name.split(".")[0] == "metrics"]
    assert "images" not in path.read_text(encoding="utf-8")


def test_plots_draw_without_torch():
    for path in (ROOT / "dploss" / "plots").glob("*.py"):
        assert not [
            name for name in imported(path) if name.split(".")[0] == "torch" or name.startswith("dploss.models")
        ]


@pytest.mark.parametrize("path", sorted((ROOT / "metrics").glob("*.py")), ids=lambda path: path.name)
def test_metrics_know_nothing_of_dploss(path: Path):
    assert not packages_of(path)


def test_a_module_is_read_in_one_sitting():
    paths = [*MODULES, *ROOT.glob("*.py"), *(ROOT / "metrics").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert not {path: count for path, count in lines.items() if count > MOST_LINES}

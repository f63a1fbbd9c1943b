"""docs/FROM_HUNYUANDIT_FORK.md says what there is."""

import os
import re
import tomllib

import pytest
from conftest import ROOT
from hunyuandit.flags import parser

from dploss.text import metric_title
from metrics.table import DIRECTIONS

PAGES = ("FROM_HUNYUANDIT_FORK.md", "FROM_HUNYUANDIT_FORK.ko.md")
OF_OTHER_PROGRAMS = {"--extra", "--logdir", "--nproc-per-node", "--cpu"}


def read(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def code_of(row: str) -> list[str]:
    return re.findall(r"`([^`]+)`", row)


def rows(text: str) -> list[list[str]]:
    """The cells of all tables' rows."""
    return [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_both_languages_have_the_same_rows_and_blocks():
    english, korean = map(read, PAGES)
    assert len(rows(english)) == len(rows(korean)) > 40
    for one, other in zip(rows(english), rows(korean), strict=True):
        # Sentences are put in another order, links lead to the page of the language.
        assert sorted(code_of(" ".join(one))) == sorted(code_of(" ".join(other)))
    blocks = [re.findall(r"```\w+\n(.*?)```", re.sub(r"#.*", "", text), re.DOTALL) for text in (english, korean)]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 2


def test_the_flags_files_and_tags_exist():
    text = read(PAGES[0])
    commands = text.split("```bash")[1].split("```")[0]
    here = " ".join(" ".join(cells[1:]) for cells in rows(text)) + commands
    flags = set(re.findall(r"--[a-z][a-z-]+", here))
    assert len(flags) > 20 and flags - OF_OTHER_PROGRAMS <= parser("about\n\nexamples")._option_string_actions.keys()
    tags = {f"Evaluation/{metric_title(name).replace(' ', '_')}" for name in [*DIRECTIONS, "validation_loss"]}
    said = {code for cells in rows(text) for cell in cells for code in code_of(cell) if code.startswith("Evaluation/")}
    assert len(said) > 8 and said <= tags | {"Evaluation/IsBest"}
    for name in re.findall(r"(?:python|launch|-r) ([\w/.]+)", here):
        assert (ROOT / name).is_file(), name
    (line,) = [one for one in (ROOT / "requirements_evaluation.txt").read_text().splitlines() if one[0] != "#"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert re.fullmatch(r"-e \.\[(\w+)\]", line)[1] in extras


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_to_headings(page):
    for name, anchor in re.findall(r"\]\(([\w.]*)#?([^)\s]*)\)", read(page)):
        headings = re.findall(r"^#+ (.*)", read(name or page), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors


def test_the_tracker_takes_the_forks_place_as_it_is_written(tmp_path):
    folder = tmp_path / "0002000.pt"
    folder.mkdir()
    (code,) = re.findall(r"```python\n(.*?)```", read(PAGES[0]), re.DOTALL)
    names = {"checkpoint_dir": str(tmp_path), "train_steps": 2000, "epoch": 15, "metrics": {"composite_score": 0.7}}
    exec(compile(code, PAGES[0], "exec"), names)
    assert os.readlink(tmp_path / "best.pt") == names["best_tracker"].best.path == folder.name

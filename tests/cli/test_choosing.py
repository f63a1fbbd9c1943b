import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dploss.cli.prompt import ask, choose
from dploss.errors import InputError
from dploss.experiments.catalog import Experiment
from dploss.experiments.history import TrainHistory

IDS = ["3f2a", "9c00", "12ab", "7777", "e5e5"]
EXPERIMENTS = [Experiment(Path(name), {}, TrainHistory(), datetime.now(UTC)) for name in IDS]


def chosen(answer):
    return [experiment.id for experiment in choose(EXPERIMENTS, answer)]


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ("2", ["9c00"]),
        ("1,2,5", ["3f2a", "9c00", "e5e5"]),
        (" 5 , 1 ", ["e5e5", "3f2a"]),
        ("2-4", ["9c00", "12ab", "7777"]),
        ("4, 2-4 , 9c", ["7777", "9c00", "12ab"]),
        ("3f, e5e5", ["3f2a", "e5e5"]),
        ("all", IDS),
        # 1 is a place in the list, 12 is beyond it and so a prefix.
        ("1", ["3f2a"]),
        ("12", ["12ab"]),
        ("7", ["7777"]),
    ],
)
def test_numbers_ranges_and_prefixes(answer, ids):
    assert chosen(answer) == ids


@pytest.mark.parametrize("answer", ["", "6", "0", "4-9", "3-1", "zz", "-1", "²", "99999999999999999999"])
def test_what_names_none_is_said(answer):
    with pytest.raises(InputError, match="no experiment"):
        chosen(answer)


def test_it_asks_until_the_answer_can_be_used(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("nothing\n1,2\n2\n"))
    assert [one.id for one in ask(EXPERIMENTS, "which one", several=False)] == ["9c00"]
    printed = capsys.readouterr()
    assert printed.err.count("which one: ") == 3 and printed.out == ""
    assert "no experiment 'nothing'" in printed.err and "choose one" in printed.err


@pytest.mark.parametrize(("several", "ids"), [(False, ["3f2a"]), (True, IDS)])
def test_enter_means_the_newest_or_all(monkeypatch, several, ids):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert [one.id for one in ask(EXPERIMENTS, "which", several)] == ids


def test_no_answer_is_no_choice(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(InputError, match="no experiment was chosen"):
        ask(EXPERIMENTS, "which", several=True)

import subprocess
import sys

import pytest

import dploss


def in_a_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_waits_for_nothing_heavy():
    heavy = in_a_new_process(
        "import dploss, sys; print([m for m in ('torch', 'numpy', 'pyarrow', 'scipy') if m in sys.modules])"
    )
    assert heavy == "[]"


def test_finding_experiments_and_reading_histories_does_not_import_torch():
    modules = "dploss.experiments.catalog, dploss.experiments.history, dploss.config, dploss.cli.flags"
    code = f"import {modules}, sys; print('torch' in sys.modules)"
    assert in_a_new_process(code) == "False"


@pytest.mark.parametrize("name", dploss.__all__)
def test_every_public_name_is_there(name):
    assert getattr(dploss, name).__name__ == name
    assert name in dir(dploss)


def test_soft_rank_is_reached_through_its_module():
    assert in_a_new_process("import dploss; print(dploss.soft_rank.soft_rank.__name__)") == "soft_rank"


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="module 'dploss' has no attribute 'DPLossV9'"):
        _ = dploss.DPLossV9

"""benchmarks/drift.py, on a few rows."""

import json
import subprocess
import sys

from conftest import ROOT


def test_every_case_has_a_line(tmp_path):
    flags = ["--limit", "1400", "--seeds", "1", "--latent-dim", "16", "--threads", "1", "--json", "found.json"]
    subprocess.run([sys.executable, ROOT / "benchmarks" / "drift.py", *flags], cwd=tmp_path, check=True)
    found = {one["new rows"]: one for one in json.loads((tmp_path / "found.json").read_text())["rows"]}
    assert list(found) == [
        "the same",
        "the same, 200 rows",
        "scaled by 1.2",
        "rotated: another model",
        "rotated, 200 rows",
        "other topics",
        "a new topic",
    ]
    assert found["the same"]["retrain"] == "0 of 1" and found["rotated: another model"]["retrain"] == "1 of 1"
    rotated = found["rotated: another model"]
    assert abs(float(rotated["gain"]) - float(rotated["retrained"])) < 0.03 < float(rotated["gain"])

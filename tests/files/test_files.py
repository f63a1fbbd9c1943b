import os

import pytest

from dploss.files.atomic import atomic_write, remove_stale_temporaries, write_json


def test_the_new_file_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_write(path) as file:
        file.write(b"half of the ne")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_it_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
    write_json(tmp_path / "file", {})
    assert calls == ["fsync", "replace", "fsync"]


def test_stale_temporaries_go_and_nothing_else(tmp_path):
    for name in (".latest_model.pth.123.tmp", "latest_model.pth", ".hidden", "notes.tmp"):
        (tmp_path / name).touch()
    remove_stale_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "latest_model.pth", "notes.tmp"]


def test_json_keeps_what_it_is_given(tmp_path):
    write_json(tmp_path / "file", {"a": [1, None, {"b": (True, "é")}]})
    assert (
        (tmp_path / "file").read_text()
        == '{\n  "a": [\n    1,\n    null,\n    {\n      "b": [\n        true,\n        "é"\n      ]\n    }\n  ]\n}\n'
    )

"""Random trainings, with restarts, kills and files that vanish, against a plain model of what the tracker promises."""

import copy
import math
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dploss import BestCheckpointTracker

HIGHER = {"psnr": True, "fid": False, "speed": True}
VALUES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.2, 0.3, math.nan, -math.inf, None, "0.3", "absent"]
SUFFIXES = (".pt", ".safetensors", "_shards")


class Model:
    """The same promises as plain loops; of files it knows the paths and the content."""

    def __init__(self, names, k, every, band):
        self.names, self.k, self.every, self.band = names, k, every, band
        self.entries, self.best, self.foreign, self.last_step = [], {}, {}, None

    def restart(self, present):
        self.entries = [one for one in self.entries if one["path"] in present]
        self.last_step = max((one["step"] for one in self.entries), default=None)
        self.best = {name: self.best_by(name, self.best.get(name)) for name in self.names}

    def update(self, path, step, metrics, content, present):
        """Track a checkpoint; returns what is deleted."""
        is_known = path in [one["path"] for one in self.entries]
        if self.last_step is not None and step < self.last_step and not is_known:
            self.foreign |= {one["path"]: one["content"] for one in self.entries}
            self.entries, self.best = [], {}
        self.last_step = None
        self.entries = [one for one in self.entries if one["path"] in present and one["path"] != path]
        self.entries.append({"path": path, "step": step, "metrics": metrics, "content": content})
        known = {name: best if best != path else None for name, best in self.best.items()}
        self.best = {name: self.best_by(name, known.get(name)) for name in self.names}
        kept = {one["path"] for one in self.entries if one["step"] == step}
        kept |= {one["path"] for one in self.entries if self.every and one["step"] % self.every == 0}
        for name in self.names:
            kept |= {one["path"] for one in self.top(name)}
            kept |= {one["path"] for one in [one for one in self.entries if not self.is_number(one, name)][-self.k :]}
        return [one["path"] for one in self.entries if one["path"] not in kept]

    def not_tracked(self, path, content):
        """What a killed run has saved: over a checkpoint that is tracked, or beside those that are."""
        of_path = [one for one in self.entries if one["path"] == path]
        for one in of_path:
            one["content"] = content
        self.foreign |= {} if of_path else {path: content}

    def is_number(self, entry, name):
        return isinstance(entry["metrics"].get(name), float)

    def scored(self, name):
        return [one for one in self.entries if self.is_number(one, name) and math.isfinite(one["metrics"][name])]

    def best_by(self, name, known):
        """Through all checkpoints in order, from the best that is known of."""
        scored = self.scored(name)
        paths = [one["path"] for one in scored]
        start = paths.index(known) if known in paths and self.band else 0
        best = None
        for one in scored[start:]:
            if best is None:
                best = one
                continue
            gain = one["metrics"][name] - best["metrics"][name]
            gain = gain if HIGHER[name] else -gain
            band = self.band
            if band == "auto":
                errors = [entry["metrics"].get(f"{name}_se") for entry in (one, best)]
                band = 0.0 if None in errors else math.sqrt(errors[0] ** 2 + errors[1] ** 2)
            if gain > band if band else gain >= 0:
                best = one
        return best and best["path"]

    def top(self, name):
        newest_first = list(reversed(self.scored(name)))
        first = [one for one in newest_first if one["path"] == self.best[name]]
        others = [one for one in newest_first if one["path"] != self.best[name]]
        # Sorting keeps the order of equals, also in reverse.
        others.sort(key=lambda one: one["metrics"][name], reverse=HIGHER[name])
        return [*first, *others][: self.k]


def measured(draw, names):
    metrics = {}
    for name in names:
        value = draw(st.sampled_from(VALUES))
        metrics |= {} if value == "absent" else {name: value}
        error = draw(st.sampled_from([None, 0.05, 0.1]))
        metrics |= {} if error is None else {f"{name}_se": error}
    return metrics


def write(folder, path, content):
    place = folder / path
    if path.endswith("_shards"):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for shard in ("a", "b"):
            (place / shard).write_text(content)
    else:
        place.write_text(content)
    return place


def read(place):
    return "|".join((place / shard).read_text() for shard in "ab") if place.is_dir() else place.read_text()


def whole(path, content):
    return f"{content}|{content}" if path.endswith("_shards") else content


def remove(place):
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()


def stopped_after(calls, act):
    """Do something in a process that is killed when it is about to change the disk once more."""
    child = os.fork()
    if child == 0:
        left = calls

        def counted(plain):
            def call(*args, **more):
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return plain(*args, **more)

            return call

        for name in ("replace", "symlink", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            act()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def check(folder, tracker, model):
    """What is promised at every moment between two updates."""
    present = {path.name for path in folder.iterdir() if path.name[0] == "c"}
    assert present == {one["path"] for one in model.entries} | {path for path in model.foreign if path[0] == "c"}
    for path, content in model.foreign.items():
        assert read(folder / path) == whole(path, content)
    for place, name in enumerate(model.names):
        assert [one.path for one in tracker.top_by(name)] == [one["path"] for one in model.top(name)]
        best = model.best[name]
        if best is None:
            continue
        suffix = ".safetensors" if best.endswith(".safetensors") else ".pt"
        link = folder / (f"best_{name}{suffix}" if place else f"best{suffix}")
        (content,) = [one["content"] for one in model.entries if one["path"] == best]
        assert read(link) == whole(best, content)
        other = link.with_suffix(".pt" if suffix != ".pt" else ".safetensors")
        assert not os.path.lexists(other)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("symlinks", [True, False])
def test_the_best_by_each_metric_is_there_whatever_happens(symlinks, monkeypatch, request):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    if not symlinks:
        monkeypatch.setattr(os, "symlink", lambda *args, **more: (_ for _ in ()).throw(OSError("no privilege")))

    @settings(
        max_examples=request.config.getoption("--kills", 8), deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def run(data):
        with tempfile.TemporaryDirectory() as folder:
            train(Path(folder), data.draw)

    run()


def train(folder, draw):
    names = draw(st.sampled_from([["psnr"], ["fid"], ["fid", "psnr"], ["psnr", "speed", "fid"]]))
    k, every = draw(st.integers(1, 3)), draw(st.sampled_from([0, 4]))
    band = draw(st.sampled_from([0.0, 0.0, 0.15, "auto"]))
    model = Model(names, k, every, band)
    model.foreign = {"another.pt": "precious", "best_other.pt": "precious", "more_shards": "precious"}
    for path, content in model.foreign.items():
        write(folder, path, content)

    def start():
        return BestCheckpointTracker(
            folder, names, {"speed": True} if "speed" in names else None, k, every, min_delta=band
        )

    tracker, step = start(), 0
    for serial in range(draw(st.integers(1, 12))):
        event = draw(st.sampled_from(["on", "on", "on", "same step", "saved over", "restart", "vanish", "new run"]))
        known = sorted(one["path"] for one in model.entries)
        if event == "vanish" and known:
            remove(folder / known.pop(draw(st.integers(0, len(known) - 1))))
        if event in ("vanish", "restart", "new run"):
            tracker = start()
            model.restart(listing(folder))
            check(folder, tracker, model)

        step = step if event == "same step" else 1 if event == "new run" else step + draw(st.integers(1, 3))
        path = f"c{serial:02d}{draw(st.sampled_from(SUFFIXES))}"
        if event == "saved over" and known:
            path = draw(st.sampled_from(known))
        content, metrics = f"weights {serial}", measured(draw, names)
        write(folder, path, content)
        before, state = copy.deepcopy(model), state_of(folder)
        to_delete = model.update(path, step, metrics, content, listing(folder))
        after = draw(st.sampled_from([None, None, *range(10)]))
        if after is None:
            assert tracker.update(step, 0, folder / path, metrics) is (model.best[names[0]] == path)
            model.entries = [one for one in model.entries if one["path"] not in to_delete]
        else:
            stopped_after(after, partial(tracker.update, step, 0, folder / path, metrics))
            if state_of(folder) == state:
                model = before
                model.not_tracked(path, content)
            tracker = start()
            model.restart(listing(folder))
        check(folder, tracker, model)


def listing(folder):
    return {path.name for path in folder.iterdir()}


def state_of(folder):
    state = folder / "best_checkpoints.json"
    return state.read_text() if state.exists() else None

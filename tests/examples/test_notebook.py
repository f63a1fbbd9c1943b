import json
import re
import shutil
import subprocess

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT
from notebooks import NOTEBOOK, clone, read_notebook, run_cells

from dploss import load_encoder, open_vectors
from dploss.data import read_texts, split_rows
from dploss.experiments.catalog import list_experiments


@pytest.fixture(autouse=True)
def a_kernel_as_people_have_it(tmp_path, monkeypatch):
    # Pictures go between the cells, and nothing into the home of who runs the tests.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook):
    return {
        cell.id: "".join(one.text for one in cell.outputs if one.output_type == "stream")
        for cell in code_cells(notebook)
    }


def change(config, **more):
    config.write_text(json.dumps(json.loads(config.read_text()) | more))


def same_share(rows, short, queries, k=10):
    """The share of each query's k nearest by rows that are among its k nearest by short."""
    found = []
    for space in (rows, short):
        distances = np.square(space).sum(axis=1) - 2 * space[queries] @ space.T
        distances[np.arange(len(queries)), queries] = np.inf
        found.append(np.argpartition(distances, k, axis=1)[:, :k].tolist())
    return np.array([len({*one} & {*another}) / k for one, another in zip(*found, strict=True)])


def test_it_runs_on_the_experiments_that_are_there(trained, tmp_path):
    folder = clone(tmp_path / "clone")
    checkpoints = folder / "checkpoints"
    shutil.copytree(trained, checkpoints)
    newest, other, oldest = (one.id for one in list_experiments(checkpoints)[0])
    for name, changes in {
        "other_vectors": {"data": {"path": "other.parquet", "rows": 400}},
        "on_images": {"images": "builtin"},
        "none_held_out": {"val_fraction": 0.0},
        "another_program": {"data": "other.csv"},
    }.items():
        shutil.copytree(checkpoints / oldest, checkpoints / name)
        change(checkpoints / name / "config.json", created="2999-01-01T00:00:00+00:00", **changes)

    notebook = read_notebook()
    run_cells(notebook, folder / "examples")

    said = printed(notebook)
    left_out = "checkpoints/another_program is left out: its config.json is not one of dploss\n"
    assert said["train"] == left_out + f"newest: checkpoints/{newest}\nother:  checkpoints/{other}\n"
    path = checkpoints / newest / "latest_model.pth"
    checkpoint = torch.load(path, weights_only=True)
    assert re.findall(r"^\w+", said["load"], re.MULTILINE) == list(checkpoint)
    assert [line.split()[0] for line in said["history"].splitlines()[1:]] == ["1", "2", "3", "4"]
    assert f"{checkpoint['train_history']['recall_history'][-1]:.4f}" in said["history"].splitlines()[-1]
    assert said["encode"] == "(10000, 768) -> (10000, 16)\nthe restored model makes the same latents: True\n"
    steps = [int(step) for step in re.findall(r"step (\d+):", said["step"])]
    assert steps == list(range(checkpoint["step"] + 1, checkpoint["step"] + 6))
    losses = [float(loss) for loss in re.findall(r"loss:? (\d\S+)", said["step"])]
    assert len(losses) == 6 and losses[-1] < losses[1] < 1.5 * losses[0]
    (differing,) = said["compare"].splitlines()[1:]
    assert differing.split()[0] == "loss_function" and len({*differing.split()}) == 3
    assert said["measure"].count("recall@10") == 2 and said["measure"].count("on 3,000 rows") == 2

    vectors = open_vectors().rows
    latents = load_encoder(path).encode(vectors)
    text, trained_on = said["word"].splitlines()
    query = read_texts("builtin", np.arange(len(vectors))).index(text)
    training_rows, _ = split_rows(400, 0.1, 0)
    assert trained_on == "The encoder was not trained on it." and query not in training_rows
    kept = round(10 * same_share(vectors, latents, [query])[0])
    assert said["nearest"].endswith(f"\n{kept} of 10 are the same\n")
    assert said["nearest"].count("\n- ") + kept == 10
    (share,) = re.findall(r"([\d.]+)% of the 10 nearest are the same, over 1,000 queries among 10,000", said["cost"])
    queries = np.setdiff1d(np.arange(len(vectors)), training_rows)[:1000]
    assert float(share) == pytest.approx(100 * same_share(vectors, latents, queries).mean(), abs=0.2)
    pictures = [one.data["image/png"] for cell in code_cells(notebook) for one in cell.outputs if "data" in one]
    assert len(pictures) == 2


def test_without_experiments_it_has_train_py_make_two(tmp_path):
    folder = clone(tmp_path / "clone")
    # The script itself reads the flags, but trains nothing; tests/examples/notebooks.py has it train.
    script = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from dploss.commands.train import parser
flags = parser().parse_args()
made = Path("checkpoints", f"of_{{flags.latent_dim}}_numbers")
made.mkdir(parents=True)
(made / "latest_model.pth").touch()
config = {{"created": str(flags.latent_dim).zfill(4), "data": {{"path": "builtin"}}}}
config |= {{"images": None, "val_fraction": 0.1}}
(made / "config.json").write_text(json.dumps(config))
print("a warning", file=sys.stderr)
"""
    (folder / "train.py").write_text(script)
    notebook = read_notebook()
    notebook.cells = notebook.cells[: [cell.id for cell in notebook.cells].index("train") + 1]
    run_cells(notebook, folder)
    assert printed(notebook)["train"] == (
        "fewer than two experiments on the built-in vectors under checkpoints/: training two short ones\n"
        "a warning\n\na warning\n\n"
        "newest: checkpoints/of_128_numbers\nother:  checkpoints/of_32_numbers\n"
    )


def test_its_first_part_needs_torch_alone():
    sources = [cell.source for cell in read_notebook().cells]
    (restoring,) = [place for place, source in enumerate(sources) if source.startswith("## 2.")]
    imports = re.compile(r"^\s*(?:from|import) dploss", re.MULTILINE)
    assert not any(imports.search(source) for source in sources[:restoring])
    assert any(imports.search(source) for source in sources[restoring:])


def test_what_is_committed_is_clean():
    # `python tests/examples/notebooks.py` makes it so. As it is staged: who has run the notebook has other outputs in
    # the file.
    shown = subprocess.run(["git", "show", f":{NOTEBOOK}"], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode:
        pytest.skip("this is no git checkout")
    notebook = nbformat.reads(shown.stdout, as_version=4)
    nbformat.validate(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert not any(cell.metadata for cell in notebook.cells)
    cells = code_cells(notebook)
    assert max(len(cell.source.splitlines()) for cell in cells) <= 24
    # Run from top to bottom, by a kernel that was new.
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [one for cell in cells for one in cell.outputs]
    assert {one.output_type for one in outputs} == {"stream", "display_data"}
    assert {one.name for one in outputs if one.output_type == "stream"} == {"stdout"}
    texts = [cell.source for cell in notebook.cells] + list(printed(notebook).values())
    assert not [text for text in texts if re.search(r"(?:^|[\s'\"=(])(?:[A-Z]:\\|~?/\w)", text)]
    assert len(shown.stdout) < 300_000

"""Run the notebook of examples/ in a folder like a fresh clone.

`python tests/examples/notebooks.py` keeps what it shows.
"""

import shutil
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "examples/load_checkpoint.ipynb"


def read_notebook() -> NotebookNode:
    """The notebook as it is committed."""
    return nbformat.read(ROOT / NOTEBOOK, as_version=4)


def clone(folder: Path) -> Path:
    """Put into a folder what the notebook needs of a clone; dploss itself is installed."""
    (folder / "examples").mkdir(parents=True)
    shutil.copy(ROOT / "train.py", folder)
    return folder


def run_cells(notebook: NotebookNode, folder: Path) -> None:
    """Run a notebook's cells in a kernel of their own, started in `folder`, and keep their outputs in it."""
    client = NotebookClient(
        notebook, timeout=600, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    # The kernel tells more than a reader needs, the version of Python for one.
    notebook.metadata.language_info = {"name": "python"}


def main() -> None:
    """Run the notebook, training what it trains in a fresh clone, and write it with its outputs."""
    notebook = read_notebook()
    with tempfile.TemporaryDirectory() as folder:
        run_cells(notebook, clone(Path(folder) / "dploss") / "examples")
    nbformat.write(notebook, ROOT / NOTEBOOK)


if __name__ == "__main__":
    main()

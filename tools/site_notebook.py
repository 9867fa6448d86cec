"""Run the notebook of the documentation, and store its outputs: tools/site notebook.

Warnings and logs are left out of the outputs, and so is everything that differs from run to run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "guide" / "phonons.ipynb"


def executed(path, folder, timeout=600):
    """The notebook with the outputs of a run in a folder.

    Args:
        path: the notebook.
        folder: the working directory of the run.
        timeout: s, for one cell.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": os.fspath(folder)}}).execute()
    return notebook


def cleaned(notebook):
    """The notebook without what the next run would change for no reason."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path, nargs="?", default=NOTEBOOK)
    parser.add_argument("--folder", type=Path, help="run in this folder, and keep the files (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        notebook = cleaned(executed(options.notebook, options.folder or temporary))
    nbformat.write(notebook, options.notebook)
    stored = sum(len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code")
    print(f"{options.notebook}: {stored} outputs stored")


if __name__ == "__main__":
    main()

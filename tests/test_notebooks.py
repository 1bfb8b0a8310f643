"""The tutorial runs, from the first cell to the last, twice."""

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = ["1_setup", "2_pipeline", "3_read_features"]


@pytest.mark.parametrize("notebook", [*NOTEBOOKS, *(n + " again" for n in NOTEBOOKS)])
def test_notebook(shared, root, monkeypatch, notebook):
    notebook = notebook.removesuffix(" again")
    monkeypatch.setenv("MILLPOND_URL", shared.url)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook's own: pictures among its outputs
    document = nbformat.read(root / "notebooks" / f"{notebook}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(root / "notebooks")}}
    NotebookClient(document, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [o for cell in document.cells for o in cell.get("outputs", [])]
    assert outputs
    if notebook == "3_read_features":
        assert any("image/png" in o.get("data", {}) for o in outputs), "no plot"


def test_notebooks_are_committed_without_outputs(root):
    for notebook in NOTEBOOKS:
        document = nbformat.read(root / "notebooks" / f"{notebook}.ipynb", as_version=4)
        assert not [c for c in document.cells if c.get("outputs")], notebook

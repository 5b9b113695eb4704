"""Notebooks run, with small sizes; the stored ones are their texts with outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from notebooks.__main__ import HERE, execute, names, read
from pyrozoo import catalog

LARGEST = 1_000_000
"""Bytes of a stored notebook: code hosts show those that are not much larger."""


def warnings_and_errors(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [o.get("text", o.get("evalue")) for o in outputs if o.get("name") == "stderr" or o.output_type == "error"]


def test_every_model_has_one():
    assert set(catalog.models()) < set(names())


@pytest.mark.parametrize("name", names())
def test_it_runs(tmp_path, name):
    notebook = read(name, small=True)
    assert notebook.cells != read(name).cells, "there are small sizes"
    execute(notebook, tmp_path)
    assert warnings_and_errors(notebook) == []
    assert not list(Path(tmp_path).iterdir()), "it leaves nothing behind"


@pytest.mark.parametrize("name", names())
def test_what_is_stored_is_its_text_with_outputs(name):
    path = HERE / f"{name}.ipynb"
    stored = nbformat.read(path, 4)
    assert [(c.cell_type, c.source) for c in stored.cells] == [(c.cell_type, c.source) for c in read(name).cells], (
        f"run `python -m notebooks {name}`"
    )
    assert all(cell.execution_count for cell in stored.cells if cell.cell_type == "code")
    assert warnings_and_errors(stored) == []
    assert sum("image/png" in o.get("data", {}) for c in stored.cells for o in c.get("outputs", ())) >= 3
    assert path.stat().st_size < LARGEST

"""Notebooks run, with small sizes; the stored ones are their texts with outputs."""

from __future__ import annotations

from html import escape

import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from notebooks.__main__ import HERE, execute, names, read
from notebooks._movies import packed, unpacked
from pyrozoo.run import catalog

LARGEST = 1_000_000
"""Bytes of a stored notebook: code hosts show those that are not much larger."""

FEWER = {
    "cavi": {"draws": 100},
    "gibbs": {"warmup": 50, "thin": 1},
    "nuts": {"warmup": 100},
    "svi": {"restart_steps": 2, "draws": 100, "evaluation_draws": 10},
    "laplace": {"restarts": 2, "max_iterations": 30, "draws": 100},
}
"""Settings that notebooks leave as they are, for tests."""


def test_a_movie_is_packed_and_unpacked():
    page = "<p title='1 < 2'>é \u2028</p>" * 100
    frame = f'<b>before</b><iframe class="movie" style="width: 100%" srcdoc="{escape(page)}"></iframe><b>after</b>'
    stored = packed(frame)
    assert len(stored) < len(frame) / 2
    assert stored.startswith("<b>before</b><iframe")
    assert stored.endswith("</script><b>after</b>")
    assert unpacked(stored) == [(' style="width: 100%"', page)]
    assert packed(stored) == stored
    assert unpacked("<b>none</b>") == []


def said_in_red(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [o.get("text", o.get("evalue")) for o in outputs if o.get("name") == "stderr" or o.output_type == "error"]


def test_every_model_has_one():
    assert set(catalog.models()) < set(names())


@pytest.mark.parametrize("name", names())
def test_it_runs(here, monkeypatch, unchecked, name):
    """In this process, which has imported everything: a kernel takes longer to start than to run."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: plt.close("all"))
    for method, fewer in FEWER.items():
        for setting, value in fewer.items():
            monkeypatch.setitem(catalog._settings("inference", method), setting, value)
    notebook, shell = read(name, small=True), InteractiveShell()
    assert notebook.cells != read(name).cells, "there are small sizes"
    with capture_output() as captured:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                shell.run_cell(cell.source).raise_error()
    assert captured.stdout, "it shows what came of it"
    assert "Traceback" not in captured.stderr
    assert not list(here.iterdir()), "it leaves nothing behind"


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_it_runs_as_it_is_stored(tmp_path, name):
    notebook = read(name)
    execute(notebook, tmp_path)
    assert said_in_red(notebook) == []


@pytest.mark.parametrize("name", names())
def test_what_is_stored_is_its_text_with_outputs(name):
    path = HERE / f"{name}.ipynb"
    stored = nbformat.read(path, 4)
    assert [(c.cell_type, c.source) for c in stored.cells] == [(c.cell_type, c.source) for c in read(name).cells], (
        f"run `python -m notebooks {name}`"
    )
    assert all(cell.execution_count for cell in stored.cells if cell.cell_type == "code")
    assert said_in_red(stored) == []
    pictures = sum("image/png" in o.get("data", {}) for c in stored.cells for o in c.get("outputs", ()))
    assert pictures >= (1 if name.startswith("failure_") else 3), "one failure is one picture"
    assert any(unpacked(o.get("data", {}).get("text/html", "")) for c in stored.cells for o in c.get("outputs", ()))
    assert path.stat().st_size < LARGEST

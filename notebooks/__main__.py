"""``python -m notebooks [NAME ...]`` runs the text notebooks and writes each one's .ipynb with its outputs.

A text notebook is Python with cells marked by ``# %%`` (jupytext's percent format). Its cell tagged ``parameters`` holds
the sizes of everything; that cell's ``small`` says what tests put in their place.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from notebooks._movies import packed

HERE = Path(__file__).resolve().parent
INSTALL = "install"
"""The tag of the first cell of code, which the text notebooks do not have."""
INSTALLING = """# Where pyrozoo is not installed, as on Colab, this installs it.
import importlib.util

if importlib.util.find_spec("pyrozoo") is None:
    %pip install -q pyrozoo"""
COLOURS = 256
"""Of a stored picture: fewer bytes, and no difference to the eye."""


def names() -> list[str]:
    """Return the notebooks: the text files here."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def read(name: str, *, small: bool = False) -> NotebookNode:
    """Read a text notebook.

    Args:
        name: Its name.
        small: Put the small sizes after the cell that says the usual ones.

    Returns:
        The notebook, without outputs, and with a cell that installs the package.
    """
    notebook = jupytext.read(HERE / f"{name}.py")
    notebook.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
    )
    for place, cell in enumerate(notebook.cells):
        cell.id = f"cell-{place}"  # a random one would differ each time
        sizes = cell.metadata.pop("small", None)
        if small and sizes is not None:
            cell.source += "".join(f"\n{key} = {value!r}" for key, value in sizes.items())
    first = nbformat.v4.new_code_cell(INSTALLING, id=INSTALL, metadata={"tags": [INSTALL]})
    notebook.cells.insert(1, first)  # after the title
    return notebook


def execute(notebook: NotebookNode, folder: Path = HERE) -> None:
    """Run all cells in a kernel of their own, where ``folder`` is; outputs go into the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources, record_timing=False).execute()
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if html := output.get("data", {}).get("text/html"):
            output["data"]["text/html"] = packed(html)
        if picture := output.get("data", {}).get("image/png"):
            image, buffer = Image.open(io.BytesIO(base64.b64decode(picture))), io.BytesIO()
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
            output["data"]["image/png"] = base64.b64encode(buffer.getvalue()).decode("ascii")


def main() -> None:
    """Run the notebooks that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m notebooks", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", nargs="*", choices=[*names(), []], help="all of them when none is named")
    for name in parser.parse_args().name or names():
        started = time.perf_counter()
        notebook = read(name)
        execute(notebook)
        path = HERE / f"{name}.ipynb"
        nbformat.write(notebook, path)
        seconds, size = time.perf_counter() - started, path.stat().st_size
        sys.stdout.write(f"{name}: {seconds:.0f} s, {size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()

"""What the pages take from the code: notebooks with their outputs, tables of methods and settings, benchmarks.

A page asks with a comment on a line of its own, such as ``<!-- methods -->``; nothing is written by hand twice.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

from pyrozoo.core.paths import CONF, PACKAGE
from pyrozoo.run import catalog

HOME = PACKAGE.parent
NOTEBOOKS = HOME / "notebooks"
GALLERY = "gallery"
"""The tag of the cell whose picture stands for the notebook's model."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every notebook, with its pictures."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for name, content in notebook(path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def notebook(path: Path) -> dict[str, str | bytes]:
    """Return a notebook as a Markdown page and pictures, file name -> content."""
    read = nbformat.read(path, 4)
    exporter = MarkdownExporter()
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    text, resources = exporter.from_notebook_node(read, {"output_files_dir": path.stem})
    text = re.sub(r"<style.*?</style>", "", text, flags=re.S)
    text = re.sub(r"(\]\(\w+)\.ipynb\)", r"\1.md)", text)  # other notebooks are pages here
    found: dict[str, str | bytes] = {f"{path.stem}/{Path(k).name}": v for k, v in resources["outputs"].items()}
    for place, cell in enumerate(read.cells):
        if GALLERY in cell.metadata.get("tags", ()):
            (found[f"{path.stem}/{GALLERY}.png"],) = (
                v for k, v in found.items() if re.fullmatch(rf".*_{place}_\d+\.png", k) and isinstance(v, bytes)
            )
    where = f"*The notebook is `notebooks/{path.name}`, its text `notebooks/{path.stem}.py`.*"
    first, _, rest = text.lstrip().partition("\n")
    found[f"{path.stem}.md"] = f"{first}\n\n{where}\n{rest}"
    return found


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what the code says in the place of the comments that ask for it."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name not in ASKED:
            raise ValueError(f"{page.file.src_path}: nothing is known of <!-- {name} -->")
        return ASKED[name](Path(page.file.src_path).stem)

    return re.sub(r"^<!-- ([\w ]+) -->$", replaced, markdown, flags=re.M)


def table(header: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *cells])


def first_sentence(docstring: str | None) -> str:
    """Return the first line of a docstring, without its full stop."""
    return (docstring or "").strip().split("\n")[0].rstrip(".").replace("``", "`")


def about(model: str, method: str) -> str:
    """Return what a method does for a model: in its file's own words where it has one."""
    settings = catalog.settings("inference", method)
    file = (
        catalog.MODELS
        / model
        / f"{ {'solver': method, 'guide': settings.get('guide', 'guide')}.get(settings['needs']) }.py"
    )
    return (
        first_sentence(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))))
        if file.is_file()
        else settings["summary"]
    )


def kind(model: str, method: str) -> str:
    """Return what a method gives."""
    if catalog.settings("inference", method)["needs"] != "solver":
        return "samples" if method == "nuts" else "variational"
    return str(catalog.part(model, method).Solver.kind)


def solver_options(model: str, method: str) -> list[str]:
    """Return the options of a model's own solver, as they are typed."""
    if catalog.settings("inference", method)["needs"] != "solver":
        return []
    parameters = inspect.signature(catalog.part(model, method).Solver.__init__).parameters.values()
    return [f"`solver.{p.name}={p.default}`" for p in parameters if p.default is not p.empty]


def methods(model: str) -> str:
    """Return the table of a model's methods."""
    rows = []
    for method in catalog.methods(model):
        settings = {k: v for k, v in catalog.settings("inference", method).items() if k not in catalog.ABOUT}
        options = [f"`{k}={'null' if v is None else v}`" for k, v in settings.items()]
        rows.append(
            [
                f"`{method}`",
                kind(model, method),
                about(model, method),
                " ".join([*options, *solver_options(model, method)]),
            ]
        )
    refused = "".join(f"\n\n`{name}` is refused: {reason}." for name, reason in catalog.refused(model).items())
    note = "\n\nOptions without a prefix are `inference.*`; those shown are the defaults."
    return table(["method", "gives", "what it is", "options"], rows) + note + refused


def commented(path: Path) -> list[list[str]]:
    """Return key, default and the comment above it, of a configuration file."""
    rows, comment, outer = [], [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            comment = []
        elif line.lstrip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
        elif found := re.match(r"( *)([\w/]+): *(.*)", line):
            outer = outer if found[1] else found[2]
            name = f"{outer}.{found[2]}" if found[1] else found[2]
            if not name.startswith(("hydra", "defaults")) and found[3]:
                said = " ".join(comment).replace("<", "&lt;").replace("{", "&#123;")  # neither HTML nor attributes
                rows.append([f"`{name}`", f"`{found[3]}`", said])
            comment = []
    return rows


def settings(model: str) -> str:
    """Return the table of a model's hyper-parameters."""
    rows = [[name.replace("`", "`model.", 1), *rest] for name, *rest in commented(CONF / "model" / f"{model}.yaml")]
    return table(["setting", "default", "meaning"], [row for row in rows if row[0] != "`model.name`"])


def own_settings(_: str) -> str:
    """Return the table of a run's own settings, but for the thresholds of verdicts."""
    rows = [row for row in commented(CONF / "config.yaml") if not row[0].startswith("`verdict")]
    return table(["setting", "default", "meaning"], rows)


def group(name: str) -> Callable[[str], str]:
    """Return what makes a table per choice of a group of settings."""

    def tables(_: str) -> str:
        parts = []
        for choice in catalog.options(name):
            path = CONF / name / f"{choice}.yaml"
            said = catalog.settings(name, choice).get("summary") or first_sentence(catalog.described(name, choice))
            rows = [row for row in commented(path) if row[0].strip("`") not in catalog.ABOUT]
            body = table(
                ["setting", "default", "meaning"], [[row[0].replace("`", f"`{name}.", 1), *row[1:]] for row in rows]
            )
            parts.append(f"### `{name}={choice}`\n\n{said}\n\n{body if rows else ''}")
        return "\n\n".join(parts)

    return tables


def experiments(_: str) -> str:
    """Return the table of experiments."""
    rows = [[f"`experiment={n}`", catalog.described("experiment", n)] for n in catalog.options("experiment")]
    return table(["experiment", "what it is"], rows)


def zoo(_: str) -> str:
    """Return the table of models against methods."""
    models = catalog.models()
    has = {model: catalog.methods(model) for model in models}
    rows = [[f"`{n}`", *("●" if n in has[model] else "" for model in models)] for n in catalog.options("inference")]
    return table(["", *(f"[{model}](models/{model}.md)" for model in models)], rows)


def gallery(_: str) -> str:
    """Return the models with a picture each."""
    cards = [
        f'<a href="models/{model}/"><img src="notebooks/{model}/{GALLERY}.png" alt="">'
        f"<strong>{model}</strong><span>{catalog.title(model)}</span></a>"
        for model in catalog.models()
    ]
    return f'<div class="gallery">\n{"".join(cards)}\n</div>'


def picture(model: str) -> str:
    """Return a model's picture, from its notebook."""
    page = f"../notebooks/{model}"
    return f"![A picture from the notebook]({page}/{GALLERY}.png)\n\n*From [the notebook]({page}.md).*"


def benchmarks(_: str) -> str:
    """Return the tables of benchmarks/results.csv."""
    frame, parts = pd.read_csv(HOME / "benchmarks" / "results.csv"), []
    for name, part in frame.groupby("benchmark"):
        rows = [
            [
                r.task,
                _figure(r.ours_seconds),
                r.peer,
                _figure(r.peer_seconds),
                _figure(r.peer_seconds / r.ours_seconds),
                r.note,
            ]
            for r in part.fillna({"note": ""}).itertuples()
        ]
        last = part.iloc[-1]
        said = (
            f"{last['processors']} processors, {last['threads']} thread(s); {last['versions']}; {part['date'].max()}."
        )
        parts.append(
            f"## {name}\n\n{table(['task', 'ours, s', 'peer', 'theirs, s', 'ratio', 'note'], rows)}\n\n*{said}*"
        )
    return "\n\n".join(parts)


def _figure(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


def root(name: str) -> Callable[[str], str]:
    """Return what gives a page of the repository's root, its links as they are from docs."""
    return lambda _: (HOME / name).read_text(encoding="utf-8").replace("](docs/", "](")


def thresholds(_: str) -> str:
    """Return the thresholds of the verdicts with what they mean."""
    usual = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["verdict"]
    source = (PACKAGE / "diagnostics" / "verdict.py").read_text(encoding="utf-8")
    (found,) = (n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Thresholds")
    meant = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", inspect.cleandoc(ast.get_docstring(found) or ""), re.M))
    rows = [[f"`verdict.{k}`", "null" if v is None else v, " ".join(meant[k].split())] for k, v in usual.items()]
    return table(["threshold", "default", "meaning"], rows)


ASKED: dict[str, Callable[[str], str]] = {
    "benchmarks": benchmarks, "changes": root("CHANGELOG.md"), "contributing": root("CONTRIBUTING.md"),
    "experiments": experiments, "gallery": gallery, "methods": methods, "picture": picture, "settings": settings,
    "own settings": own_settings, "settings of inference": group("inference"),
    "settings of data": group("data"), "thresholds": thresholds, "zoo": zoo,
}  # fmt: skip

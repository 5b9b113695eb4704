"""What the pages take from the code: notebooks with their outputs, tables of methods and settings, benchmarks.

Formulas become MathML here, which browsers draw without a script and without a network.
A page asks with a comment on a line of its own, such as ``<!-- methods -->``; nothing is written by hand twice.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from math_core import LatexError, LatexToMathML
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

from notebooks.__main__ import INSTALL, names
from notebooks._movies import unpacked
from pyrozoo.core.paths import CONF, PACKAGE
from pyrozoo.diagnostics.verdict import Thresholds
from pyrozoo.run import catalog

HOME = PACKAGE.parent
NOTEBOOKS = HOME / "notebooks"
GALLERY = "gallery"
"""The tag of the cell whose picture stands for the notebook's model."""
COLAB = "https://colab.research.google.com"
LATEX = LatexToMathML(fancy_error=False)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages in the place of ``FOLDER/*`` or ``FOLDER/START*`` in the menu, but those that it names or has above."""
    named = set(re.findall(r"[\w/-]+\.md", json.dumps(config.nav)))
    there = [*(f"models/{name}.md" for name in catalog.models()), *(f"notebooks/{name}.md" for name in names())]

    def filled(entry: Any) -> list[Any]:
        if isinstance(entry, dict):
            ((title, inner),) = entry.items()
            return [{title: [each for one in inner for each in filled(one)] if isinstance(inner, list) else inner}]
        if not isinstance(entry, str) or not entry.endswith("*"):
            return [entry]
        pages = [page for page in there if page.startswith(entry[:-1]) and page not in named]
        named.update(pages)
        return pages

    config.nav = [each for entry in config.nav or [] for each in filled(entry)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every notebook, its pictures, and the notebook itself to download."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for name, content in notebook(path, config.repo_url).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def notebook(path: Path, repository: str | None) -> dict[str, str | bytes]:
    """Return a notebook as it is, and as a Markdown page with pictures: file name -> content.

    Args:
        path: Where it is.
        repository: The site's ``repo_url``, from where Colab opens notebooks. Without one they are uploaded there.
    """
    read = nbformat.read(path, 4)
    read.cells = [cell for cell in read.cells if INSTALL not in cell.metadata.get("tags", ())]
    movies: dict[str, str | bytes] = {}
    for output in (output for cell in read.cells for output in cell.get("outputs", ())):
        for attributes, page in unpacked(output.get("data", {}).get("text/html", "")):
            name = f"movie-{len(movies) + 1}.html"
            movies[f"{path.stem}/{name}"] = page
            alone = f'<p><a href="{name}" target="_blank">The movie on a page of its own</a></p>'  # for a projector
            output["data"]["text/html"] = f'<iframe class="movie"{attributes} src="{name}"></iframe>{alone}'
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
    download = f'[Download this notebook]({path.name}){{ download="{path.name}" }}'
    if repository and (name := repository.partition("github.com/")[2].strip("/")):
        colab = f"[Open it in Colab]({COLAB}/github/{name}/blob/main/notebooks/{path.name})."
    else:
        colab = f"[Colab]({COLAB}) runs it, too."
    first, _, rest = text.lstrip().partition("\n")
    found[f"{path.stem}.md"] = f"{first}\n\n{download}. {colab}\n{rest}"
    return {**found, **movies, path.name: path.read_bytes()}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what the code says in the place of the comments that ask for it."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name not in ASKED:
            raise ValueError(f"{page.file.src_path}: nothing is known of <!-- {name} -->")
        return ASKED[name](Path(page.file.src_path).stem)

    return re.sub(r"^<!-- ([\w ]+) -->$", replaced, markdown, flags=re.M)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML; one that cannot be read fails the build."""

    def converted(match: re.Match[str]) -> str:
        formula = unescape(match[2]).strip()[2:-2]  # without its delimiters
        try:
            return LATEX.convert_with_local_state(formula, displaystyle=match[1] == "div")
        except LatexError as error:
            raise ValueError(f"{page.file.src_path}: {formula}: {error}") from None

    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', converted, html, flags=re.S)


def table(header: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *cells])


def first_line(docstring: str) -> str:
    """Return the first line of a docstring, without its full stop."""
    return docstring.split("\n")[0].rstrip(".").replace("``", "`")


def spelled(value: Any) -> str:
    """Return a value as it is typed in a command."""
    return value if isinstance(value, str) else json.dumps(value)


def declared(settings: type, values: Mapping[str, Any], prefix: str) -> str:
    """Return the table of what a class of settings declares: default, range, and what its docstring says."""
    meant = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(settings) or "", re.M))
    rows = []
    for field in fields(settings):
        if field.name in values and field.name not in catalog.ABOUT:
            allowed = field.metadata.get("range", "true or false" if field.type == "bool" else "")
            said = " ".join(meant[field.name].replace("``", "`").split())
            rows.append([f"`{prefix}{field.name}`", f"`{spelled(values[field.name])}`", allowed, said])
    return table(["setting", "default", "range", "meaning"], rows) if rows else ""


def commented(path: Path, prefix: str = "") -> str:
    """Return the table of a file of conf that no class declares: key, default and the comment above it."""
    rows, comment = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"(\w+): *(\S.*)", line)
        if found and found[1] not in catalog.ABOUT:
            said = comment.replace("<", "&lt;").replace("{", "&#123;")  # neither HTML nor attributes
            rows.append([f"`{prefix}{found[1]}`", f"`{found[2]}`", said])
        comment = f"{comment} {line[1:].strip()}".strip() if line.startswith("#") else ""
    return table(["setting", "default", "meaning"], rows) if rows else ""


def gives(model: str, method: str) -> str:
    """Return what a method gives of a model: a point, an approximation, samples or the posterior itself."""
    if catalog.settings("inference", method)["needs"] == "solver":
        return str(catalog.part(model, method).Solver.kind)
    return "samples" if method == "nuts" else "variational"


def methods(model: str) -> str:
    """Return the table of a model's methods: what each is in its file's own words, where it has one."""
    rows = []
    for method in catalog.methods(model):
        its = catalog.settings("inference", method)
        options = {name: value for name, value in its.items() if name not in catalog.ABOUT}
        file = {"solver": method, "guide": its.get("guide", "guide")}.get(its["needs"], "")
        part = catalog.part(model, file) if file and catalog.has(model, file) else None
        if its["needs"] == "solver":
            own = inspect.signature(part.Solver.__init__).parameters.values()
            options |= {f"solver.{each.name}": each.default for each in own if each.default is not each.empty}
        typed = " ".join(f"`{name}={spelled(value)}`" for name, value in options.items())
        rows.append([f"`{method}`", gives(model, method), first_line(part.__doc__) if part else its["summary"], typed])
    refused = "".join(f"\n\n`{name}` is refused: {reason}." for name, reason in catalog.refused(model).items())
    note = "\n\nOptions without a prefix are `inference.*`; those shown are the defaults."
    return table(["method", "gives", "what it is", "options"], rows) + note + refused


def shards(_: str) -> str:
    """Return the table of models, their methods that run on rows in shards, and those that stream."""
    rows = []
    for model in catalog.models():
        sharded, streams = [], []
        for name in catalog.methods(model):
            its = catalog.settings("inference", name)
            file = {"solver": name, "guide": its.get("guide", "guide")}.get(its["needs"], "")
            part = catalog.part(model, file) if file and catalog.has(model, file) else None
            kind = getattr(part, its["needs"].capitalize(), None)
            sharded += [f"`{name}`"] if getattr(kind, "by_row", None) is not None else []
            streams += [f"`{name}`"] if getattr(kind, "streams", False) else []
        rows += [[f"`{model}`", ", ".join(sharded), ", ".join(streams)]] if sharded else []
    return table(["model", "in many processes", "larger than memory"], rows)


def settings(model: str) -> str:
    """Return the table of a model's hyper-parameters."""
    return declared(catalog.model_class(model), catalog.settings("model", model), "model.")


def inference(_: str) -> str:
    """Return a table per method, of the settings of its engine."""
    parts = []
    for method in catalog.options("inference"):
        its = catalog.settings("inference", method)
        engine = getattr(importlib.import_module(f"pyrozoo.inference.{its['engine']}"), its["engine"].capitalize())
        parts.append(f"### `inference={method}`\n\n{its['summary']}\n\n{declared(engine, its, 'inference.')}")
    return "\n\n".join(parts)


def data(_: str) -> str:
    """Return a table per choice of data."""
    parts = []
    for name in catalog.options("data"):
        body = commented(CONF / "data" / f"{name}.yaml", "data.")
        parts.append(f"### `data={name}`\n\n{catalog.described('data', name)}\n\n{body}")
    return "\n\n".join(parts)


def experiments(_: str) -> str:
    """Return the table of experiments."""
    rows = [[f"`experiment={n}`", catalog.described("experiment", n)] for n in catalog.options("experiment")]
    return table(["experiment", "what it is"], rows)


def zoo(_: str) -> str:
    """Return the table of models: the methods of each, by what they give."""
    kinds = ("point", "variational", "samples", "exact")
    rows = []
    for model in catalog.models():
        has = {method: gives(model, method) for method in catalog.methods(model)}
        cells = [" ".join(f"`{method}`" for method in has if has[method] == kind) for kind in kinds]
        rows.append([f"[{model}]({model}.md)<br>{catalog.title(model)}", *cells])
    return table(["", *kinds], rows)


def others(page: str) -> str:
    """Return tables of the notebooks that the page does not name: those of models, and of failures."""
    told = (HOME / "docs" / "notebooks" / "index.md").read_text(encoding="utf-8")
    rest = [name for name in names() if f"({name}.md)" not in told]
    titles = {name: nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells[0].source.split("\n")[0][2:] for name in rest}
    links = {name: f"[{title}]({name}.md)" for name, title in titles.items()}
    models = [[links[name], f"`{name}`"] for name in rest if name in catalog.models()]
    more = [[links[name]] for name in rest if name not in catalog.models()]
    return "\n\n".join([table(["one per model", ""], models), *([table(["one per failure"], more)] if more else [])])


def model_settings(_: str) -> str:
    """Return links to the settings of every model."""
    return ", ".join(f"[{model}](../models/{model}.md#settings)" for model in catalog.models()) + "."


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
    frame, parts = pd.read_csv(HOME / "benchmarks" / "results.csv").fillna({"note": ""}), []
    frame["ratio"] = frame["peer_seconds"] / frame["ours_seconds"]
    columns = {"task": "task", "ours_seconds": "ours, s", "peer": "peer", "peer_seconds": "theirs, s", "ratio": "ratio",
               "note": "note"}  # fmt: skip
    for name, part in frame.groupby("benchmark"):
        run = part.iloc[-1]
        said = f"{run['processors']} processors, {run['threads']} thread(s); {run['versions']}; {part['date'].max()}."
        rows = part[list(columns)].map(lambda cell: f"{cell:.3g}" if isinstance(cell, float) else cell)
        shown = table(list(columns.values()), rows.replace("nan", "").to_numpy().tolist())
        parts.append(f"## {name}\n\n{shown}\n\n*{said}*")
    return "\n\n".join(parts)


def root(name: str) -> Callable[[str], str]:
    """Return what gives a page of the repository's root, its links as they are from docs."""
    return lambda _: (HOME / name).read_text(encoding="utf-8").replace("](docs/", "](")


ASKED: dict[str, Callable[[str], str]] = {
    "benchmarks": benchmarks, "changes": root("CHANGELOG.md"), "contributing": root("CONTRIBUTING.md"),
    "experiments": experiments, "gallery": gallery, "methods": methods, "notebooks": others, "picture": picture,
    "settings": settings, "settings of models": model_settings, "shards": shards,
    "own settings": lambda _: commented(CONF / "config.yaml"), "settings of inference": inference,
    "settings of data": data, "thresholds": lambda _: declared(Thresholds, asdict(Thresholds()), "verdict."),
    "zoo": zoo,
}  # fmt: skip

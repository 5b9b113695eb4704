"""Every command and every example of the README and of the documentation is run, on little data."""

from __future__ import annotations

import io
import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from openpyxl import load_workbook
from PIL import Image

from pyrozoo.core.paths import PACKAGE
from pyrozoo.run import catalog
from tests.command.test_command import run
from tests.docs.little import configured, little

pytestmark = pytest.mark.usefixtures("unchecked")

HOME = PACKAGE.parent
README = HOME / "README.md"
PAGES = {
    page.relative_to(HOME).as_posix(): page.read_text(encoding="utf-8")
    for page in [*HOME.glob("*.md"), *sorted((HOME / "docs").rglob("*.md"))]
    if page.parent.name != "adding"  # whose blocks test_adding puts together
}
TEXT = PAGES.get("README.md", "")
BLOCKS = {(kind, block): name for name, text in PAGES.items()
          for kind, block in re.findall(r"^```(sh|python|console)\n(.*?)^```", text, re.S | re.M)}  # fmt: skip
FILES = {title: block for text in PAGES.values()
         for title, block in re.findall(r'^```python title="(\w+\.py)"\n(.*?)^```', text, re.S | re.M)}  # fmt: skip
"""Files that commands and examples of the pages take."""
COMMANDS = list(dict.fromkeys(
    [line for kind, block in BLOCKS if kind == "sh" for line in block.strip().splitlines()]
    + [command for text in PAGES.values() for command in re.findall(r"\| `(python -m pyrozoo [^`]*)`", text)]
))  # fmt: skip
OURS = list(dict.fromkeys(re.search(r"python -m pyrozoo (.*)", c)[1] for c in COMMANDS if "-m pyrozoo " in c))
ELSEWHERE = {
    r"python3 -m venv \.venv && .*": "whole in .ci/run, with the tests",
    r"(\.venv/bin/)?(python -m )?pytest.*": "what runs this",
    r"(python -m )?mkdocs (build --strict|serve)": "test_site",
    r"python -m notebooks \w+": "test_notebooks",
    r"python -m benchmarks \w+": "by whoever measures",
    r"ruff (check|format) \.|mypy": "in .ci/run",
    r"git clone .*|pre-commit install": "by newcomers",
}
"""Commands that are run, but not here."""


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    """Let nothing take long: every choice of the configuration has little to do."""
    with configured(tmp_path_factory.mktemp("little") / "conf"):
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with the files that commands and examples of the pages take."""
    folder = tmp_path_factory.mktemp("files")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "examples").symlink_to(HOME / "examples")
    write_tables(folder)
    write_lists(folder)
    return folder


@pytest.fixture
def there(here, files):
    """Work in a folder that has the pages' files."""
    shutil.copytree(files, here, symlinks=True, dirs_exist_ok=True)
    return here


def write_tables(folder) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.poisson(2, (30, 3)), columns=list("abc"))
    frame.insert(0, "site", [f"s{i}" for i in range(30)])
    sensors = generator.normal(size=(40, 2)) @ generator.normal(size=(2, 5)) + 0.1 * generator.normal(size=(40, 5))
    sensors[generator.random(sensors.shape) < 0.1] = np.nan
    survey = pd.DataFrame(
        {"party": generator.choice(["green", "blue"], 60), "tax": generator.choice(["yes", "no", ""], 60),
         "cats": generator.choice(["yes", "no", "dogs"], 60)}
    )  # fmt: skip
    words = ["ball", "team", "goal", "bank", "stock", "market", "tax", "school", "bus", "park"]
    texts = [" ".join(generator.choice(words, 5)) for _ in range(40)]
    posts = pd.DataFrame({"body": texts, "party": generator.choice(["green", "blue"], 40)})
    spam = {"links": generator.poisson(3, 40), "from": generator.choice(["shop", "friend"], 40)}
    tables = {
        "counts": frame, "new_counts": frame.head(3), "survey": survey, "new_survey": survey.head(5), "posts": posts,
        "new_posts": posts.head(3), "sensors": pd.DataFrame(sensors, columns=list("vwxyz")),
        "spam": pd.DataFrame(spam).assign(spam=generator.choice(["yes", "no"], 40)),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "shops.csv").write_text(shops()["shops.csv"][0], encoding="cp1252")
    Image.fromarray(generator.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(folder / "scan.png")


def write_lists(folder) -> None:
    generator = np.random.default_rng(0)
    plays = pd.DataFrame(generator.integers(0, (40, 12), (200, 2)), columns=["listener", "artist"])
    plays["plays"] = generator.integers(1, 9, len(plays))
    ratings = pd.DataFrame(generator.integers(0, (30, 9), (150, 2)), columns=["reader", "joke"]).drop_duplicates()
    ratings["rating"] = generator.normal(size=len(ratings)).round(1)
    dates = pd.date_range("2024-05-01", periods=len(ratings)).astype(str)
    visits = pd.DataFrame({"sequence": [1] * 15 + [2] * 10, "time": [*range(15), *range(0, 20, 2)]})
    lists = {
        "plays": plays, "new_plays": plays[plays["listener"] < 3], "ratings": ratings,
        "new_ratings": ratings[ratings["reader"] < 3], "dated": ratings.assign(when=dates),
        "visits": visits.assign(pain=generator.normal(size=25).round(2)),
        "cells": pd.DataFrame({"row": ["s3", "s7"], "column": ["a", "b"]}),
    }  # fmt: skip
    for name, table in lists.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def test_the_readme_is_found():
    assert len(OURS) >= 7
    assert len(re.findall(r"(?m)^python3 -m venv ", TEXT)) == 2, "the two install commands, which .ci/run runs whole"


def test_the_readme_is_short_and_has_every_model():
    prose = re.sub(r"```.*?```|^\|.*?$", "", TEXT, flags=re.S | re.M)
    assert len(prose.split()) < 700
    table = dict(re.findall(r"^\| \[`(\w+)`\]\(docs/models/\1\.md\)(.*)$", TEXT, re.M))
    methods = {model: set(re.findall(r"`(\w+)`", row)) for model, row in table.items()}
    assert methods == {model: set(catalog.methods(model)) for model in catalog.models()}


def test_every_command_is_run_somewhere():
    for command in COMMANDS:
        assert re.match(r"python -m pyrozoo ", command) or any(re.fullmatch(p, command) for p in ELSEWHERE), command


@pytest.mark.parametrize("block", [pytest.param(b, id=n) for (kind, b), n in BLOCKS.items() if kind == "console"])
def test_answers_are_what_the_pages_say(there, capsys, block):
    (there / "counts.csv").write_text(re.search(r"```text\n(site,.*?)```", PAGES["docs/mistakes.md"], re.S)[1])
    for command, answer in re.findall(r"^\$ python -m pyrozoo (.*)\n(.*)$", block, re.M):
        code, out, err = run(capsys, *shlex.split(command))
        assert (code, out, err) == (2, "", answer + "\n")
    assert not (there / "outputs").exists()


def shops() -> dict[str, list[str]]:
    """Return the blocks of text of a page's table of shops: title -> blocks."""
    found: dict[str, list[str]] = {}
    for title, block in re.findall(r'^```text title="([\w.]+)"\n(.*?)^```', PAGES["docs/data.md"], re.S | re.M):
        found.setdefault(title, []).append(block)
    return found


def test_a_table_of_shops_goes_from_file_to_file(there, capsys):
    page = shops()
    (there / "shops.csv").write_text(page["shops.csv"][0], encoding="cp1252")
    command = ["model=factor_analysis", "inference=gibbs", "data=shops.csv", "model.num_factors=1"]
    refusal, shown = page["screen"]
    assert run(capsys, *command) == (2, "", refusal)
    typed = shlex.split(refusal.partition("Type: ")[2])
    assert f'{" ".join(command)} "{typed[0]}" "{typed[1]}"' in PAGES["docs/data.md"]
    code, out, err = run(capsys, *command, *typed)
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if "  note" in line][: len(shown.splitlines()) - 1] == shown.splitlines()[
        1:
    ]
    (path,) = there.rglob("results.csv")
    mine, theirs = (
        pd.read_csv(each, keep_default_na=False, dtype=str) for each in (path, io.StringIO(page["results.csv"][0]))
    )
    assert list(mine) == list(theirs)
    for name in mine:
        same = mine[name] == theirs[name]
        assert (same | theirs["filled"].eq(name) | (theirs["filled"].ne("Total") & name.startswith("factor"))).all(), (
            name
        )
    book = load_workbook(path.with_suffix(".xlsx"))
    sheet = book[book.sheetnames[0]]
    marked = {(cell.row - 2, cell.column - 1) for line in sheet for cell in line if cell.fill.fill_type == "solid"}
    names = list(theirs)
    assert marked >= {(i, names.index(each)) for i, each in enumerate(theirs["filled"]) if each}


def sources(words) -> set[str]:
    """Return the choices of data that the words of a command ask for, by the experiments that they name, too."""
    found = set()
    for group, _, names in (word.partition("=") for word in words):
        if group == "data":
            found |= {*names.split(",")} & {*catalog.options("data")}
        for name in names.split(",") if group == "experiment" else ():
            stated = catalog.settings("experiment", name)
            parts = [each if isinstance(each, dict) else {"experiment": each} for each in stated.get("defaults", ())]
            parts = [f"{group.removeprefix('override /')}={name}" for part in parts for group, name in part.items()]
            found |= sources([*stated.get("sweep", ()), *parts])
    return found


EARLIER = {
    "zip_mixture": "counts.csv", "factor_analysis": "counts.csv", "poisson_mf": "plays.csv", "topics": "posts.csv",
    "categorical_fa": "survey.csv", "gaussian_mf": "ratings.csv",
}  # fmt: skip
"""Model -> the file that is fitted before its run is gone on with, or scores new rows."""


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", [pytest.param(c, marks=pytest.mark.quick if c in TEXT else ()) for c in OURS])
def test_commands(there, capsys, need, command):
    arguments = little(shlex.split(command))
    for name in sources(arguments):
        if "file" in catalog.settings("data", name):
            need(name)
    if earlier := re.match(r"(score run|resume)=(outputs/(\w+)/(\w+)/RUN)", " ".join(arguments)):
        _, directory, model, method = earlier.groups()
        start = [f"model={model}", f"inference={method}", f"data={EARLIER[model]}", f"hydra.run.dir={directory}"]
        assert run(capsys, *start, *(["data.text=body"] if model == "topics" else []))[0] == 0
    code, out, err = run(capsys, *arguments)
    if arguments[0].startswith("resume="):
        assert (code, err.count("\n")) == (2, 1), "a finished run has no checkpoint, and one line says so"
        return
    assert code == 0, err
    if arguments[0] in ("read", "explain", "score") or {"--cfg", "--help"} & {*arguments}:
        assert err == ""
        assert out
        assert arguments[0] != "score" or (there / arguments[-1].removeprefix("output=")).is_file()
        return
    assert list(there.rglob("report.html"))
    if "experiment=staged_failures" in arguments:
        (page,) = there.glob("outputs/sweeps/*/report.html")
        assert "Believe none yet" in page.read_text(encoding="utf-8"), "they fail, as staged"


@pytest.mark.parametrize("block", [pytest.param(b, id=n) for (kind, b), n in BLOCKS.items() if kind == "python"])
@pytest.mark.usefixtures("undrawn")
def test_python_examples(there, block):
    names: dict = {"__name__": "a_page"}
    exec(compile(block, "a page", "exec", dont_inherit=True), names)
    if "pyrozoo.nuts" in block:
        assert names["result"].posterior["true"].dims == ("chain", "draw", "school")
        assert names["result"].attrs["backend"] == "nutpie"
    elif "outputs/mine" in block:
        assert (there / "outputs" / "mine" / "report.html").is_file()


def test_pictures_and_files_that_pages_name_exist():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", TEXT):
        assert (README.parent / name).is_file()
    for text in PAGES.values():
        for name in re.findall(r"`((?:pyrozoo|conf|tests|examples|benchmarks|notebooks)/[a-z_/]+(?:\.\w+|/))`", text):
            assert (HOME / name).exists(), name

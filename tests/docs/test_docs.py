"""Every command and every example of the README and of the documentation is run, on little data."""

from __future__ import annotations

import io
import re
import shlex

import numpy as np
import pandas as pd
import pytest
from openpyxl import load_workbook
from PIL import Image

from pyrozoo.core.paths import PACKAGE
from pyrozoo.run import catalog
from tests.command.test_command import run

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
SMALL = ["data.rows=30", "data.columns=3"]
QUICK = {
    "nuts": ["inference.warmup=10", "inference.draws=5", "inference.chains=2"],
    "svi": ["inference.max_steps=100", "inference.restarts=1", "inference.evaluation_draws=20"],
    "gibbs": ["inference.warmup=10", "inference.draws=30", "inference.thin=1"],
}
FEWER = {"em": {"restarts": 2}, "gibbs": {"warmup": 50, "draws": 200, "thin": 1}, "nuts": {"warmup": 100, "draws": 100}}
"""Settings that examples leave as they are, for tests."""
OPTIMISED = ("inference=em", "inference=cavi", "inference=stochastic_cavi", "inference=vem", "inference=mc_em")
POINTS = ("inference=em", "inference=vem", "inference=mc_em")


@pytest.fixture
def there(here):
    """Work in a folder that has the pages' files."""
    for name, text in FILES.items():
        (here / name).write_text(text, encoding="utf-8")
    (here / "examples").symlink_to(HOME / "examples")
    return here


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
    code, out, err = run(capsys, *command, *typed, *QUICK["gibbs"])
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


LONG = ("experiment=potts_bullseye", "experiment=potts_flag", "experiment=jester_svi", "experiment=jester_k_sweep",
        "experiment=regimes", "experiment=lecture",
        "experiment=votes_synthetic", "experiment=pmf_toy", "experiment=digits_masked",
        "experiment=ap_topics", "experiment=poliblog_topics", "experiment=ctm_against_lda",
        "-m experiment=zip_course_model",
        "-m model=zip_mixture inference=em,cavi,gibbs hydra/launcher=joblib")  # fmt: skip
"""Each like another one of the experiments, or like test_launchers."""


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=pytest.mark.slow if c.startswith(LONG) else ()) for c in OURS]
)
def test_commands(there, capsys, request, need, command):
    arguments = shlex.split(command)
    if {"--cfg", "--help"} & set(arguments):
        code, out, err = run(capsys, *arguments)
        assert (code, err) == (0, "")
        assert "zip_mixture" in out
        return
    if arguments[0] == "explain":
        code, _, err = run(capsys, *arguments)
        assert (code, err) == (0, "")
        return
    if arguments != ["model=zip_mixture", "inference=em"]:
        request.getfixturevalue("undrawn")
    if any("zip_course" in a for a in arguments):
        need("zip_mixture_course")
    if "experiment=mnist_masked" in arguments:
        need("mnist")
        arguments += ["data.images=500", "model.num_factors=10", "inference.warmup=10", "inference.draws=10"]
    for corpus in ("ap", "poliblog"):
        if f"experiment={corpus}_topics" in arguments:
            need(corpus)
            arguments += ["inference.warmup=1", "inference.draws=2", "model.num_topics=5"]
    if "experiment=ctm_against_lda" in arguments:
        need("ap")
        arguments += ["model.num_topics=5,6", "inference.max_iterations=3"]
    if "experiment=lastfm_genres" in arguments:
        need("lastfm")
        arguments += ["inference.restarts=1", "inference.max_iterations=5", "inference.draws=20"]
    if any("experiment=jester" in a for a in arguments):
        need("jester")
        arguments.append("data.readers=300")
    if "experiment=jester_svi" in arguments:
        arguments += ["inference.batch_size=4000", "inference.max_steps=20", "inference.draws=30"]
    if "experiment=jester_k_sweep" in arguments:
        arguments += ["experiment=jester_map,jester_mle", "model.num_factors=1,2", "inference.max_iterations=2"]
    for image in ("small", "flag", "bullseye"):
        if f"experiment=potts_{image}" in arguments:
            need(f"potts_{image}")
            arguments += ["inference=bp,icm" if image == "small" else "inference=bp"]
            arguments += [] if image == "small" else ["inference.max_iterations=3"]
    if "experiment=potts_spiral" in arguments:
        arguments += ["data.rows=6", "data.columns=9", "inference=exact,cavi"]
    if "experiment=shrinkage_ladder" in arguments:
        arguments += ["recovery.simulations=2", "recovery.rows=60", "recovery.methods=vem,exact"]
    if "experiment=staged_failures" in arguments:
        arguments += ["data.rows=40"]
    for survey in ("election", "votes"):
        if f"experiment={survey}_synthetic" in arguments:
            need(survey)
            arguments += ["model.latent_dimension=1", "inference.max_iterations=3", "synthetic_rows=50"]
    if "task=calibrate" in arguments:
        arguments = [a for a in arguments if not a.startswith("simulations=")] + ["simulations=3"]
    if "experiment=pmf_toy" in arguments:
        arguments += ["inference.restarts=2", "inference.max_iterations=10"]
    if "experiment=digits_masked" in arguments:
        arguments += ["inference.warmup=5", "inference.draws=10"]
    if "model=./my_model.py" in arguments and "inference=nuts" in arguments:
        arguments += ["inference.warmup=100", "inference.draws=60"]
    if "inference=gibbs" in arguments and not arguments[0].startswith("experiment="):
        arguments += ["inference.warmup=50", "inference.draws=50", "inference.thin=1"]
    single = not arguments[0].startswith(("experiment=", "-m"))
    if "experiment=zip_course" in arguments or (single and any(a in arguments for a in OPTIMISED)):
        arguments += ["inference.max_iterations=30"]
        arguments += ["inference.draws=50"] if single and not any(a in arguments for a in POINTS) else []
    if "experiment=zip_course_model" in arguments:
        # The command composes and runs with its quickest method; NUTS on these data takes minutes.
        arguments = [a if not a.startswith("inference=") else "inference=cavi" for a in arguments]
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.poisson(2, (30, 3)), columns=list("abc"))
    frame.insert(0, "site", [f"s{i}" for i in range(30)])
    frame.to_csv("counts.csv", index=False)
    pd.DataFrame({"row": ["s3", "s7"], "column": ["a", "b"]}).to_csv("cells.csv", index=False)
    plays = pd.DataFrame(generator.integers(0, (40, 12), (200, 2)), columns=["listener", "artist"])
    plays["plays"] = generator.integers(1, 9, len(plays))
    plays.to_csv("plays.csv", index=False)
    plays[plays["listener"] < 3].to_csv("new_plays.csv", index=False)
    ratings = pd.DataFrame(generator.integers(0, (30, 9), (150, 2)), columns=["reader", "joke"]).drop_duplicates()
    ratings["rating"] = generator.normal(size=len(ratings)).round(1)
    ratings.to_csv("ratings.csv", index=False)
    dates = pd.date_range("2024-05-01", periods=len(ratings)).astype(str)
    ratings.assign(when=dates).to_csv("dated.csv", index=False)
    ratings[ratings["reader"] < 3].to_csv("new_ratings.csv", index=False)
    survey = pd.DataFrame(
        {"party": generator.choice(["green", "blue"], 60), "tax": generator.choice(["yes", "no", ""], 60),
         "cats": generator.choice(["yes", "no", "dogs"], 60)}
    )  # fmt: skip
    survey.to_csv("survey.csv", index=False)
    survey.head(5).to_csv("new_survey.csv", index=False)
    Image.fromarray(generator.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save("scan.png")
    (there / "shops.csv").write_text(shops()["shops.csv"][0], encoding="cp1252")
    words = ["ball", "team", "goal", "bank", "stock", "market", "tax", "school", "bus", "park"]
    texts = [" ".join(generator.choice(words, 5)) for _ in range(40)]
    posts = pd.DataFrame({"body": texts, "party": generator.choice(["green", "blue"], 40)})
    posts.to_csv("posts.csv", index=False)
    posts.head(3).to_csv("new_posts.csv", index=False)
    sensors = generator.normal(size=(40, 2)) @ generator.normal(size=(2, 5)) + 0.1 * generator.normal(size=(40, 5))
    sensors[generator.random(sensors.shape) < 0.1] = np.nan
    pd.DataFrame(sensors, columns=list("vwxyz")).to_csv("sensors.csv", index=False)
    visits = pd.DataFrame({"sequence": [1] * 15 + [2] * 10, "time": [*range(15), *range(0, 20, 2)]})
    visits.assign(pain=generator.normal(size=25).round(2)).to_csv("visits.csv", index=False)
    spam = {"links": generator.poisson(3, 40), "from": generator.choice(["shop", "friend"], 40)}
    pd.DataFrame(spam).assign(spam=generator.choice(["yes", "no"], 40)).to_csv("spam.csv", index=False)
    if arguments[0] == "read":
        code, out, err = run(capsys, *arguments)
        assert (code, err) == (0, "")
        assert "named by 'site'" in out
        return
    if arguments[0].startswith("resume="):
        start = ["model=zip_mixture", "inference=gibbs", *SMALL, "checkpoint_every=50", "inference.draws=100"]
        run(capsys, *start, "hydra.run.dir=outputs/first")
        # A finished run has no checkpoint: the documented command must say so in one line.
        code, _, err = run(capsys, "resume=outputs/first")
        assert (code, err.count("\n")) == (2, 1)
        return
    if arguments[0] == "score":
        directory = arguments[1].removeprefix("run=")
        model, method = directory.split("/")[1:3]
        frame.head(3).to_csv("new_counts.csv", index=False)
        name, start = {
            "poisson_mf": ("plays.csv", ["model.num_factors=1", "inference.draws=20"]),
            "gaussian_mf": ("ratings.csv", ["model.num_factors=1"]),
            "topics": ("posts.csv", ["data.text=body", "model.num_topics=2"]),
            "categorical_fa": ("survey.csv", ["model.latent_dimension=1"]),
            "factor_analysis": ("counts.csv", ["model.num_factors=1"]),
        }.get(model, ("counts.csv", []))
        start += [f"model={model}", f"inference={method}", f"data={name}", "inference.max_iterations=20"]
        assert run(capsys, *start, f"hydra.run.dir={directory}")[0] == 0
        code, _, err = run(capsys, *arguments)
        assert (code, err) == (0, "")
        assert (there / arguments[-1].removeprefix("output=")).is_file()
        return
    # Sweeps run as they stand, but for methods that are run beside them with fewer draws: their defaults take minutes.
    swept = next((a for a in arguments if a.startswith("inference=") and "," in a), "") if "-m" in arguments else ""
    slow = [method for method in swept.removeprefix("inference=").split(",") if method in QUICK]
    for method in slow if arguments[1:] and arguments[1].startswith("model=") else ():
        alone = [f"inference={method}" if a == swept else a for a in arguments if a != "-m"]
        code, _, err = run(capsys, *alone, *QUICK[method], *([] if any("data=" in a for a in alone) else SMALL))
        assert code == 0, err
        rest = [each for each in swept.split(",") if each.removeprefix("inference=") not in slow]
    if slow and arguments[1].startswith("model="):
        left = "inference=" + ",".join(each.removeprefix("inference=") for each in rest)
        arguments = [left if a == swept else a for a in arguments] + ["inference.max_iterations=20"]
    arguments = ["model.num_components=1,2" if a.endswith("=1,2,3,4,5,6") else a for a in arguments]
    simulated = not any(a.startswith(("data=", "experiment=")) for a in arguments)
    code, _, err = run(capsys, *arguments, *(SMALL if simulated else []))
    assert code == 0, err
    assert list(there.rglob("report.html"))
    if "experiment=staged_failures" in arguments:
        (page,) = there.glob("outputs/sweeps/*/report.html")
        assert "Believe none yet" in page.read_text(encoding="utf-8"), "they fail, as staged"


@pytest.mark.parametrize("block", [pytest.param(b, id=n) for (kind, b), n in BLOCKS.items() if kind == "python"])
@pytest.mark.usefixtures("undrawn")
def test_python_examples(there, monkeypatch, block):
    for method, fewer in FEWER.items():
        for setting, value in fewer.items():
            monkeypatch.setitem(catalog._settings("inference", method), setting, value)
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

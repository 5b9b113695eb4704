"""The guide "how to add a model and a solver": what its pages say is put into its skeletons, and run."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pyrozoo.core.paths import PACKAGE
from tests.docs.little import lessen

HOME = PACKAGE.parent
GUIDE = HOME / "docs" / "adding"
SKELETON = GUIDE / "skeleton"
PAGES = "model", "solver"
HOLE = re.compile(r"^( *)(?:.*\W)?FILL (\w+): .*$")
BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', re.M | re.S)
pytestmark = pytest.mark.skipif(not GUIDE.is_dir(), reason="the guide is not here: docs are no part of a distribution")


def skeletons() -> dict[str, Path]:
    """Return the files with holes by name; names are unique."""
    found = [path for path in SKELETON.rglob("*") if path.suffix in (".py", ".yaml")]
    assert len({path.name for path in found}) == len(found)
    return {path.name: path for path in found}


def holes(path: Path) -> list[str]:
    return [hole[2] for line in path.read_text(encoding="utf-8").splitlines() if (hole := HOLE.match(line))]


def blocks(*pages: str) -> list[tuple[str, str]]:
    """Return the titled blocks of pages, title and text, in order."""
    texts = [(GUIDE / f"{page}.md").read_text(encoding="utf-8") for page in pages]
    return [(title, text) for each in texts for _, title, text in BLOCK.findall(each)]


def fills(told: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return code by file and hole."""
    found = [(tuple(title.split(": FILL ")), text) for title, text in told if ": FILL " in title]
    assert len(dict(found)) == len(found), "a hole is filled twice"
    return dict(found)


def filled(text: str, file: str, code: dict[tuple[str, str], str]) -> str:
    """Replace every line with a hole by its block, indented as the line is."""
    lines = []
    for line in text.splitlines():
        hole = HOLE.match(line)
        block = code.get((file, hole[2])) if hole else None
        lines.append(line if block is None else textwrap.indent(block.rstrip(), hole[1]))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the house in which somebody has followed both pages."""
    copy = tmp_path_factory.mktemp("house")
    follow(copy, blocks(*PAGES))
    return copy


def follow(copy: Path, told: list[tuple[str, str]]) -> None:
    """Copy the house, and do in it what blocks of the pages say; holes without a block stay."""
    for part in ("pyrozoo", "conf", "tests", "docs/adding", "examples"):
        shutil.copytree(HOME / part, copy / part)
    shutil.copy(HOME / "pyproject.toml", copy)
    for title, text in told:
        if title.startswith("copy "):
            subprocess.run(["sh", "-euc", text], cwd=copy, check=True)
    code = fills(told)
    for path in added(copy):
        file = {"latent_classes.yaml": "conf.yaml", "test_latent_classes.py": "test_model.py"}.get(path.name, path.name)
        path.write_text(filled(path.read_text(encoding="utf-8"), file, code), encoding="utf-8")
    run(copy, "ruff", "check", "--fix", "-q", *PYTHON)  # as the pages do: it sorts imports


PYTHON = "pyrozoo/models/latent_classes", "tests/models/test_latent_classes.py"


def added(copy: Path) -> list[Path]:
    folder, *files = (copy / name for name in (*PYTHON, "conf/model/latent_classes.yaml"))
    return [*folder.glob("*.py"), *files]


QUICKLY = """
import runpy
from pyrozoo.diagnostics import predictive
from pyrozoo.report import html
from pyrozoo.store import inference_data

rendered = html.png
html.png = lambda picture: rendered(picture) if picture.name == "parameters" else b""
predictive.SIMULATIONS = inference_data.PRIOR_DRAWS = 8
runpy.run_module("pyrozoo", run_name="__main__")
"""
"""The command, which renders the picture of the guide and no other, and simulates little from a fit."""


def run(copy: Path, *arguments: str) -> str:
    """Run a module of Python in the copy; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(copy)
    started = [sys.executable, *(arguments if arguments[0] == "-c" else ("-m", *arguments))]
    done = subprocess.run(started, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def commands(module: str, about: str = "latent_classes") -> list[list[str]]:
    """Return the arguments of every command of the pages that runs a module on a model."""
    lines = [line for title, text in blocks(*PAGES) if title.endswith("then run") for line in text.splitlines()]
    return [shlex.split(line)[3:] for line in lines if line.startswith(f"python -m {module} ") and about in line]


def test_every_hole_has_its_block_and_every_block_its_hole():
    found = [(file, name) for file, path in skeletons().items() for name in holes(path)]
    assert len(set(found)) == len(found)
    assert set(found) == set(fills(blocks(*PAGES)))
    marks = sum(path.read_text(encoding="utf-8").count("FILL") for path in skeletons().values())
    assert marks == len(found), "a mark that is no hole"


@pytest.mark.parametrize("file", sorted(skeletons()) if SKELETON.is_dir() else [])
def test_skeletons_are_files_of_their_kind(file):
    text = skeletons()[file].read_text(encoding="utf-8")
    assert yaml.safe_load(text) if file.endswith(".yaml") else ast.parse(text)


def test_pages_name_laws_and_files_that_there_are():
    laws = (HOME / "tests" / "test_laws.py").read_text(encoding="utf-8")
    for page in GUIDE.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`(test_\w+)`", text):
            assert f"def {name}(" in laws, name
        for link in re.findall(r"\]\((skeleton/[^)]*)\)", text):
            assert (GUIDE / link).is_file(), link
        for path in re.findall(r"`((?:pyrozoo|conf|tests)/[\w/]+\.\w+)`", text):
            assert re.search("latent_classes|NAME", path) or (HOME / path).is_file(), path


def test_what_comes_out_is_in_the_style_of_the_house(house):
    assert not [path for path in added(house) if "FILL" in path.read_text(encoding="utf-8")]
    for folder in (*PYTHON, "docs/adding/skeleton"):
        run(house, "ruff", "check", folder)
        run(house, "ruff", "format", "--check", folder)


@pytest.mark.quick
def test_the_model_is_fitted_and_compared(house):
    """As the page says, on little data, and with little to do."""
    lessen(house / "conf")
    (sweep,) = (arguments for arguments in commands("pyrozoo") if "-m" in arguments)
    small = ["data.rows=40", "data.columns=3", "data.missing=0.1", "model.num_components=2"]
    said = run(house, "-c", QUICKLY, *sweep, *small, "report=full", "moments=0", f"hydra.sweep.dir={house}/sweep")
    table = pd.read_csv(house / "sweep" / "comparison.csv")
    assert set(table["method"]) == {"em", "gibbs", "svi"}, said
    assert np.isfinite(table["holdout_elpd"]).all()
    assert (house / "sweep" / "report.html").is_file()
    files = {path.name for path in (house / "sweep").glob("*gibbs*/*/*")}
    assert {"classes.csv", "rows.csv", "holdout.csv", "missing.csv", "parameters.png"} <= files


@pytest.mark.slow  # commands with model=./my_model.py are run by test_docs
def test_one_file_is_a_model(house):
    sweep, calibration = commands("pyrozoo", "examples/")
    small = ["data.rows=30", "data.columns=2"]
    said = run(house, "pyrozoo", *sweep, *small, "inference.draws=50", f"hydra.sweep.dir={house}/own")
    assert set(pd.read_csv(house / "own" / "comparison.csv")["method"]) == {"svi", "laplace", "nuts"}, said
    assert (house / "own" / "report.html").is_file()
    quick = [argument for argument in calibration if not argument.startswith("simulations=")]
    run(house, "pyrozoo", *quick, *small, "simulations=2", "inference.draws=100", f"hydra.run.dir={house}/ranks")
    assert (house / "ranks" / "calibration.csv").is_file()


LAWS = (
    "test_hand_built_density_is_the_programs[latent_classes]",
    "test_solvers_objective_is_the_programs_joint[latent_classes-em]",
    "test_solvers_objective_is_the_programs_joint[latent_classes-gibbs]",
    "test_samplers_agree_with_the_oracle[latent_classes-gibbs]",
    "test_point_estimates_beat_every_exact_draw[latent_classes-em]",
    "test_objectives_never_fall[latent_classes-em-dtype0]",
    "test_converged_points_are_stationary[latent_classes-em]",
    "test_planted_bugs_are_caught[latent_classes-zeros]",
    "test_canonical_keeps_invariants_and_is_idempotent[latent_classes]",
    "test_a_unit_without_any_value_changes_no_likelihood[latent_classes]",
    "test_bad_data_is_refused_by_name[latent_classes-a count]",
    "test_odd_data_gives_a_finite_fit[latent_classes-em-all ones]",
    "test_one_component_and_more_components_than_rows[latent_classes-gibbs-num_components-7]",
)
"""One of each kind; the slow suite runs them all."""


@pytest.mark.slow
def test_the_model_obeys_laws(house):
    said = run(house, "pytest", "-q", *(f"tests/test_laws.py::{law}" for law in LAWS), PYTHON[1])
    assert re.search(r"\d+ passed", said)
    assert "skipped" not in said


@pytest.mark.slow
def test_the_model_obeys_all_laws_and_the_house(house):
    for arguments in commands("pytest"):
        run(house, "pytest", *arguments, "-m", "slow or not slow")
    run(house, "pytest", "-q", "tests/test_house.py")
    run(house, "mypy")


@pytest.mark.slow
def test_a_model_is_whole_without_solvers(tmp_path):
    follow(tmp_path, blocks("model"))
    (pytest_arguments, _) = commands("pytest")
    run(tmp_path, "pytest", *pytest_arguments)
    run(tmp_path, "pyrozoo", "model=latent_classes", "inference=laplace", f"hydra.run.dir={tmp_path}/run")
    assert (tmp_path / "run" / "report.html").is_file()

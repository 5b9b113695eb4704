"""The house: imports run one way, nothing is listed centrally, conf and code agree."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import importlib
from pathlib import Path

import pytest
import yaml

from pyrozoo.contracts.method import Method
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import HandBuilt, posterior_class
from pyrozoo.contracts.solver import Solver
from pyrozoo.contracts.view import View
from pyrozoo.core.errors import SettingError
from pyrozoo.core.paths import CONF, PACKAGE
from pyrozoo.core.settings import wrong_values
from pyrozoo.data.container import Data
from pyrozoo.diagnostics.verdict import Thresholds
from pyrozoo.run import catalog
from tests.case import PAIRS, refused

ORDER = (
    "core", "compiler", "math", "program", "contracts", "drawing", "data", "models", "inference", "diagnostics",
    "report", "store", "run", "studies", "testing", "command",
)  # fmt: skip
"""The rooms, from below: each imports itself and what is below it."""

NEVER = {
    (room, "models") for room in ("inference", "diagnostics", "report", "store", "run", "studies", "testing", "command")
}
DOORS = {"__init__", "__main__", "report/__main__"}


def room(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return str(inside.with_suffix("")) if str(inside.with_suffix("")) in DOORS else inside.parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return every module of the project that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("pyrozoo.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    here = room(path)
    for module in imported(path):
        there = module.split(".")[1]
        if here in DOORS or there not in ORDER:
            continue  # a door opens onto any room; or a name from pyrozoo/__init__.py
        assert ORDER.index(there) <= ORDER.index(here), f"{here} imports {module}, which is above it"
        assert (here, there) not in NEVER, f"{here} imports {module}"
        if here == there == "models":
            mine = path.relative_to(PACKAGE).parts[1]
            assert module.split(".")[2] == mine, f"{mine} imports another model: {module}"


def test_every_file_has_a_room():
    assert {room(path) for path in PACKAGE.rglob("*.py")} == {*ORDER, *DOORS}


def test_no_import_goes_in_a_circle():
    """Not even for types: the files can be put in one order."""
    files = {".".join(("pyrozoo", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in PACKAGE.rglob("*.py")}
    graph = {name: {each for each in imported(path) if each in files} for name, path in files.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("model", catalog.models())
def test_conf_has_exactly_the_models_fields(model):
    fields = {f.name for f in dataclasses.fields(catalog.model_class(model))}
    settings = catalog.settings("model", model)
    assert set(settings) - {"name"} == fields
    assert settings["name"] == model


def engine_of(method):
    settings = catalog.settings("inference", method)
    return getattr(importlib.import_module(f"pyrozoo.inference.{settings['engine']}"), settings["engine"].capitalize())


@pytest.mark.parametrize("method", catalog.options("inference"))
def test_conf_has_exactly_the_engines_settings(method):
    settings, engine = catalog.settings("inference", method), engine_of(method)
    inner = {field.name for field in dataclasses.fields(Method)} | {"starts"}
    own = {field.name: field for field in dataclasses.fields(engine) if field.name not in inner}
    stated = set(settings) - set(catalog.ABOUT)
    assert stated <= set(own)
    assert {name for name, field in own.items() if field.default is dataclasses.MISSING} <= stated
    assert settings["name"] == method
    assert settings["needs"] == engine.needs


@pytest.mark.parametrize("method", catalog.options("inference"))
def test_wrong_values_of_methods_are_refused(method):
    settings = {k: v for k, v in catalog.settings("inference", method).items() if k not in catalog.ABOUT}
    for name, value in wrong_values(engine_of(method)):
        message = refused(SettingError, engine_of(method).of, {**settings, "name": method, name: value})
        assert f"inference.{name} is {value!r}; it must be" in message


@pytest.mark.parametrize("model", catalog.models())
def test_wrong_values_of_models_are_refused(model):
    settings = {k: v for k, v in catalog.settings("model", model).items() if k != "name"}
    for name, value in wrong_values(catalog.model_class(model)):
        message = refused(SettingError, catalog.model_class(model).of, {**settings, name: value})
        assert f"model.{name} is {value!r}; it must be" in message


def test_contracts_ask_for_little():
    abstract = {each.__name__: len(each.__abstractmethods__) for each in (Model, Solver, Data)}
    assert abstract["Model"] == 1
    assert abstract["Solver"] == 3
    assert abstract["Data"] <= 4


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_function_body_is_longer_than_a_page(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
                assert lines <= 60, f"{node.name} has {lines} lines"


def test_conf_states_the_thresholds_of_verdicts():
    stated = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["verdict"]
    assert stated == dataclasses.asdict(Thresholds())


@pytest.mark.parametrize("model", catalog.models())
def test_every_model_has_a_posterior_and_a_view_of_its_own(model):
    its = catalog.model_class(model)
    assert issubclass(posterior_class(its), HandBuilt)
    assert issubclass(catalog.part(model, "view").View, View)


def test_every_model_has_a_test_file():
    for model in catalog.models():
        assert (Path(__file__).parent / "models" / f"test_{model}.py").is_file()


def test_tests_mirror_the_rooms():
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")}
    assert folders <= {*ORDER, "docs"}


def test_every_pair_is_found_from_the_folders():
    assert ("zip_mixture", "em") in PAIRS
    assert {method for model, method in PAIRS if model == "zip_mixture"} == {
        "em",
        "stochastic_em",
        "cavi",
        "gibbs",
        "svi",
        "nuts",
        "laplace",
    }


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONF)))
def test_conf_files_are_read_and_target_only_the_project(path):
    text = path.read_text(encoding="utf-8")
    assert isinstance(yaml.safe_load(text), dict)
    for line in text.splitlines():
        if "_target_" in line:
            assert line.split(":")[1].strip().startswith("pyrozoo.")


def test_nothing_is_unpickled():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "pickle.load" not in text
        assert "allow_pickle=True" not in text
        assert "torch.load(" not in text or "weights_only=True" in text
        assert "shell=True" not in text


SLOW = {"arviz", "bokeh", "scipy", "sklearn", "sympy", "nutpie", "pyreadstat", "openpyxl"}
"""What takes a second to load."""


def test_what_is_slow_to_load_is_imported_where_it_is_used():
    """Not with the package: checks of samplers and of calibration alone need it in any case."""
    for path in PACKAGE.rglob("*.py"):
        if room(path) == "testing" or path.parent.name == "calibrate":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not SLOW & {name.split(".")[0] for name in names}, f"{path}: line {node.lineno}"


def test_places_are_chosen_evenly_in_one_way():
    """``core.draws.evenly``: other ways end one past the end, or leave the last out."""
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            whole = any(word in line for word in (".long()", ".astype(", ".int()", "int(i)"))
            assert not ("linspace(" in line and whole) or path.name == "draws.py", f"{path}: {line.strip()}"

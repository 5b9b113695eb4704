"""The house: imports run one way, nothing is listed centrally, conf and code agree."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from pyrozoo.core.paths import CONF, PACKAGE
from pyrozoo.diagnostics.verdict import Thresholds
from pyrozoo.run import catalog
from tests.case import PAIRS

ORDER = (
    "core", "math", "program", "compiler", "contracts", "data", "models", "inference", "diagnostics", "report", "store",
    "run", "studies", "command",
)  # fmt: skip
"""The rooms, from below: each imports itself and what is below it."""

NEVER = {(room, "models") for room in ("inference", "diagnostics", "report", "store", "run", "studies", "command")}
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


@pytest.mark.parametrize("method", catalog.options("inference"))
def test_conf_has_exactly_the_engines_settings(method):
    settings = catalog.settings("inference", method)
    engine = getattr(importlib.import_module(f"pyrozoo.inference.{settings['engine']}"), settings["engine"])
    inner = {"model", "data", "solver", "make_guide", "method", "loop", "starts"}
    parameters = {n: p for n, p in inspect.signature(engine).parameters.items() if n not in inner}
    ours = set(settings) - set(catalog.ABOUT)
    assert ours <= set(parameters)
    assert {name for name, p in parameters.items() if p.default is p.empty} <= ours
    assert settings["name"] == method


def test_conf_states_the_thresholds_of_verdicts():
    stated = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["verdict"]
    assert stated == dataclasses.asdict(Thresholds())


@pytest.mark.parametrize("model", catalog.models())
def test_every_model_answers_what_reports_ask(model):
    expected = {
        "queries": {"metrics": ["fit"], "tables": ["fit"], "compared": ["fits", "names"]},
        "figures": {"pictures": ["fit"], "compared": ["fits", "names"]},
        "synthesis": {"synthesize": ["fit", "count", "given"]},
    }
    for name, functions in expected.items():
        if name == "synthesis" and not catalog.synthesizes(model):
            continue
        module = catalog.part(model, name)
        for function, parameters in functions.items():
            if function == "compared" and not hasattr(module, function):
                continue
            assert list(inspect.signature(getattr(module, function)).parameters) == parameters, f"{name}.{function}"


def test_every_model_has_a_test_file():
    for model in catalog.models():
        assert (Path(__file__).parent / "models" / f"test_{model}.py").is_file()


def test_every_pair_is_found_from_the_folders():
    assert ("zip_mixture", "em") in PAIRS
    assert {method for model, method in PAIRS if model == "zip_mixture"} == {
        "em",
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

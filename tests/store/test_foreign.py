"""What a run directory says is text: references are followed to other settings and to nothing else."""

from __future__ import annotations

import copy
import itertools
import os
import random
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pyrozoo.core.errors import DataError
from pyrozoo.store.foreign import (
    GROUPS,
    check_groups,
    check_links,
    check_source,
    escaped,
    resolved,
    stored_json,
    stored_yaml,
)  # fmt: skip
from pyrozoo.store.run_directory import CONFIG, read_config
from tests.case import refused

WHERE = Path("config.yaml")
SECRET = "${oc.env:PYROZOO_SECRET}"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("PYROZOO_SECRET", "hidden")


def found(value, **more):
    """Return what becomes of a setting beside ``seed: 3``."""
    return resolved({"x": value, "seed": 3, **more}, WHERE)["x"]


FOLLOWED = [
        ("${seed}", 3), ("a ${seed} b", "a 3 b"), ("${seed}${seed}", "33"), ("${deep.one}", 7), ("${x_}", None),
        (r"\${seed}", "${seed}"), (r"\\${seed}", "\\3"), (r"\\\${seed}", r"\${seed}"), (r"a\b ${seed}", r"a\b 3"),
        ("$seed", "$seed"), ("{seed}", "{seed}"), (r"\\", r"\\"), ("", ""), (1.5, 1.5), (None, None), (True, True),
]  # fmt: skip
WRAPPED = (lambda each: each, lambda each: [0, each], lambda each: {"a": each}, lambda each: [{"a": [each]}])


def test_references_to_other_settings_are_followed():
    more = {"deep": {"one": 7}, "x_": None}
    for (text, becomes), wrap in itertools.product(FOLLOWED, WRAPPED):
        assert found(wrap(text), **more) == wrap(becomes)


ELSEWHERE = [
        SECRET, f"a {SECRET}", rf"\\{SECRET}", rf"a\\\\{SECRET}", "${seed} " + SECRET, SECRET + " ${seed}",
        "${oc.decode:1}", "${ seed }", "${seed[0]}", "${.seed}x${seed:1}", "${}", "${seed", f"${{{SECRET}}}",
        "${oc.dict.keys:deep}", rf"\${{seed}} {SECRET}", "${oc.create:{a:1}}", "${a-b}", "\n" + SECRET,
]  # fmt: skip


def test_references_to_anything_else_are_the_text_that_they_are():
    for text, wrap in itertools.product(ELSEWHERE, WRAPPED):
        assert found(wrap(text)) == wrap(text)
        assert found(wrap(text), more="${seed}") == wrap(text), "whatever other settings refer to"


def test_names_are_never_references():
    names = {SECRET: 1, "${seed}": "${seed}", r"\${x}": SECRET}
    assert found(names) == {SECRET: 1, "${seed}": 3, r"\${x}": SECRET}
    assert found(escaped(names)) == names


def test_escaped_texts_come_back_letter_by_letter():
    """And nothing of the environment does, whatever the text."""
    generator = random.Random(0)
    parts = ["\\", "\\", "${", SECRET, "${seed}", "}", "seed", " ", "'", '"', "$", "{", "\n", "${oc.env:"]
    for _ in range(100):
        text = "".join(generator.choice(parts) for _ in range(generator.randint(1, 6)))
        values = {"x": text, "y": [text, {"z": text}], "n": 1, "e": (text, None)}
        kept = copy.deepcopy(values)
        made = OmegaConf.to_container(OmegaConf.create(escaped(values)), resolve=True)
        assert resolved(escaped(values), WHERE) == made == {**values, "e": [text, None]}
        assert values == kept, "it stays as it is"
        try:
            said = str(found(text))
        except DataError as error:
            said = str(error)
        assert "hidden" not in said


def test_a_reference_to_nothing_is_refused():
    for text in ("${none}", "a ${none} b", "${x}", "${seed.none}"):
        assert "refers to a setting that there is not" in refused(DataError, found, text)


# Files ----------------------------------------------------------------------------------------------------------------


def nested(depth: int) -> str:
    return "a: " + "[" * depth + "1" + "]" * depth + "\n"


def test_settings_are_as_deep_as_is_said(tmp_path):
    """A mapping, its lists, and the number in the innermost: three levels with one list."""
    path = tmp_path / "c.yaml"
    path.write_text(nested(38))
    assert str(stored_yaml(path)["a"]).count("[") == 38
    path.write_text(nested(39))
    assert "it is more than 40 lists deep" in refused(DataError, stored_yaml, path)
    path.write_text("a:\n" + "- [[1], {b: 2}]\n" * 50)
    assert stored_yaml(path) == {"a": [[[1], {"b": 2}]] * 50}, "many beside each other are not deep"


def test_settings_do_not_refer_to_parts_of_themselves(tmp_path):
    path = tmp_path / "c.yaml"
    for text in ("a: &x [1]\nb: *x\n", "a: &x [*x]\n"):
        path.write_text(text)
        assert "it refers to a part of itself" in refused(DataError, stored_yaml, path)
    path.write_text("a: &x [1]\nb: 2\n")
    assert stored_yaml(path) == {"a": [1], "b": 2}
    path.write_bytes(b"a: \xff\n")
    assert "is not readable YAML" in refused(DataError, stored_yaml, path)


WRONG = [
        ("[1]", "it holds no names"), ("3", "it holds no names"), ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"), ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": -1e999}', "-1e999 is too large"), ("{", "cannot be read"), ("[" * 100_000, "cannot be read"),
]  # fmt: skip


def test_figures_are_finite_and_have_names(tmp_path):
    path = tmp_path / "m.json"
    for text, said in WRONG:
        path.write_text(text)
        assert said in refused(DataError, stored_json, path)
    path.write_text('{"a": 1e308, "b": -0.5, "c": 2, "d": [1.5]}')
    assert stored_json(path) == {"a": 1e308, "b": -0.5, "c": 2, "d": [1.5]}


def test_links_lead_to_what_is_inside(tmp_path):
    run, out = tmp_path / "run", tmp_path / "running"
    (run / "deep").mkdir(parents=True)
    out.mkdir()
    for folder in (run, out):
        (folder / "file").write_text("x")
    (run / "deep" / "inside").symlink_to(run / "file")
    check_links(run)
    check_links(tmp_path / "nowhere")
    (tmp_path / "other").symlink_to(run)
    check_links(tmp_path / "other")  # the directory itself may be a link
    for target in (out / "file", out, tmp_path / "gone"):
        link = run / "deep" / "link"
        link.symlink_to(target)
        assert "leads out" in refused(DataError, check_links, run)
        link.unlink()
    (run / "loop").symlink_to(run / "loop")
    assert "loop" in refused(DataError, check_links, run)
    (run / "loop").unlink()
    os.mkfifo(run / "pipe")
    assert "neither a file nor a folder" in refused(DataError, check_links, run)


def test_a_configuration_names_what_a_run_was_of():
    whole = {group: {name: "a"} for group, name in GROUPS.items()}
    check_groups(whole, WHERE)
    for group, name in GROUPS.items():
        for wrong in (None, "a", [], {}, {name: None}, {name: 3}, {f"{name}s": "a"}):
            said = refused(DataError, check_groups, {**whole, group: wrong}, WHERE)
            assert said == f"config.yaml does not say {group}.{name}"
        assert group in refused(DataError, check_groups, {k: v for k, v in whole.items() if k != group}, WHERE)


def test_code_that_came_with_a_directory_is_not_run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for source in (run / "own.py", run / "deep" / "own.py", tmp_path / "a" / ".." / "run" / "own.py"):
        assert "came with it and is not run" in refused(DataError, check_source, run, {"source": str(source)})
    for model in ({"source": str(tmp_path / "own.py")}, {"source": "package.module"}, {"source": None}, {}, None, "a",
                  {"source": str(run / "own.txt")}, {"source": f"{run}ning/own.py"}):  # fmt: skip
        check_source(run, model)
    (run / CONFIG).parent.mkdir()
    for source, refuses in ((run / "own.py", True), (tmp_path / "own.py", False)):
        (run / CONFIG).write_text(f"model: {{source: {source}}}\nseed: ${{data.seed}}\ndata: {{seed: 3}}\n")
        if refuses:
            assert "came with it and is not run" in refused(DataError, read_config, run)
        else:
            assert read_config(run) == {"model": {"source": str(source)}, "seed": 3, "data": {"seed": 3}}
    (run / "link").symlink_to(tmp_path)
    assert "leads out" in refused(DataError, read_config, run)

"""Settings, and commands, with as little to do as shows that they run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyrozoo.core.paths import CONF
from pyrozoo.run import catalog

MOST = {
    "restarts": 2, "restart_steps": 5, "max_iterations": 20, "chains": 2, "warmup": 20, "draws": 30, "thin": 1,
    "max_steps": 60, "evaluation_draws": 10, "sweeps": 1, "simulations": 2, "synthetic_rows": 50,
    "rows": 30, "columns": 8, "sequences": 4, "steps": 20, "tokens": 20, "images": 300, "readers": 300,
    "num_topics": 5, "num_factors": 5, "num_components": 5,
}  # fmt: skip
"""Setting -> what it is at most."""


def little(value: Any, name: str = "") -> Any:
    """Return settings of which none asks for much: a number, a tree of them, or words such as ``data.rows=10,20``."""
    if isinstance(value, dict):
        return {key: little(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [little(each, name) for each in value]
    if isinstance(value, str) and (found := re.fullmatch(r"((?:\w+\.)?(\w+))=(\d+(?:,\d+)*)", value)):
        numbers = [min(int(number), MOST.get(found[2], int(number))) for number in found[3].split(",")]
        return f"{found[1]}={','.join(map(str, list(dict.fromkeys(numbers))[:2]))}"
    return min(value, MOST[name]) if name in MOST and type(value) is int else value


def lessen(folder: Path) -> None:
    """Put little in the place of much in a configuration's files."""
    for path in folder.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        comments = [line for line in text.splitlines() if line.startswith("#")]
        settings = yaml.safe_dump(little(yaml.safe_load(text)), sort_keys=False)
        path.write_text("\n".join([*comments, settings]), encoding="utf-8")


@contextmanager
def configured(folder: Path) -> Iterator[None]:
    """Have the command, and Python, take their settings from a copy of the project's with little to do."""
    shutil.copytree(CONF, folder)
    lessen(folder)
    caches = catalog.options, catalog._settings, catalog.own_settings
    with pytest.MonkeyPatch.context() as patch:
        for module in ("command.compose", "run.catalog"):
            patch.setattr(f"pyrozoo.{module}.CONF", folder)
        for each in caches:
            each.cache_clear()
        yield
    for each in caches:
        each.cache_clear()

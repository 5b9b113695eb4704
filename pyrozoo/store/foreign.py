"""What a run directory says, as text that anybody may have written: it names values, and nothing that is done."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pyrozoo.core.errors import DataError, first_line

DEEPEST = 40
"""Lists and mappings within each other."""

OPEN = re.compile(r"(\\*)\$\{")
ELSEWHERE = re.compile(r"(?<!\\)(?:\\\\)*\$\{(?![\w.]+\})")
"""How a reference begins, with backslashes before it, and one to something else than another setting: to the
environment, to a function. An odd number of backslashes makes a reference text, and two stand for one."""


class _Loader(yaml.SafeLoader):
    """YAML without references, which may stand for more than fits into memory, and not deeper than Python goes."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, unless it is too deep."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to a part of itself")
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"it is more than {DEEPEST} lists deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def stored_yaml(path: Path) -> dict[str, Any]:
    """Return the settings in a file, references as they are written.

    Raises:
        DataError: It is not readable, or no mapping.
    """
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise DataError(f"{path} is not readable YAML ({first_line(error)})") from None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise DataError(f"{path} is not a configuration")
    return config


def resolved(config: dict[str, Any], where: Path) -> dict[str, Any]:
    """Return settings with references to each other followed; those to anything else are the text that they are.

    What a directory says of the environment is not looked up: neither it nor what is made of it gets there.

    Raises:
        DataError: There is no such setting.
    """
    if not _refers(config):
        return config
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        made: Any = OmegaConf.to_container(OmegaConf.create(_only_relative(config)), resolve=True)
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise DataError(f"{where} refers to a setting that there is not ({first_line(error)})") from None
    return made


def _refers(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return "${" in value if isinstance(value, str) else any(map(_refers, parts))


def _only_relative(value: Any) -> Any:
    if isinstance(value, str):
        return escaped(value) if ELSEWHERE.search(value) else value
    if isinstance(value, dict):  # names are never references
        return {name: _only_relative(each) for name, each in value.items()}
    return [_only_relative(each) for each in value] if isinstance(value, list) else value


def escaped(value: Any) -> Any:
    """Return values in which no text is a reference, for a configuration."""
    if isinstance(value, str):
        return OPEN.sub(r"\1\1\\${", value)
    if isinstance(value, dict):
        return {name: escaped(each) for name, each in value.items()}
    return [escaped(each) for each in value] if isinstance(value, list | tuple) else value


def stored_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a file; its numbers are finite.

    Raises:
        DataError: It is not readable, or no mapping.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} cannot be read (it holds no names)")
    return found


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is too large")
    return value


def check_links(directory: Path) -> None:
    """Refuse a directory in which a link leads out of it, or a file is none, such as a device.

    Raises:
        DataError: Which.
    """
    if not directory.is_dir():
        return
    inside = directory.resolve()
    for each in sorted(directory.rglob("*")):
        if each.is_symlink() and not _resolved(each).is_relative_to(inside):
            raise DataError(f"{each} is a link that leads out of the run directory: put the file itself there")
        if each.exists() and not (each.is_file() or each.is_dir()):
            raise DataError(f"{each} is neither a file nor a folder")


def _resolved(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError):
        raise DataError(f"{link} is a link that leads nowhere") from None


GROUPS = {"model": "name", "inference": "name", "data": "source", "device": "name"}
"""Groups of the configuration of a run, and what each says at least."""


def check_groups(config: Mapping[str, Any], where: Path) -> None:
    """Raise DataError unless a configuration says what a run was of."""
    for group, name in GROUPS.items():
        if not isinstance(config.get(group), dict) or not isinstance(config[group].get(name), str):
            raise DataError(f"{where} does not say {group}.{name}")


def check_source(directory: Path, model: Any) -> None:
    """Refuse a model whose file came with the directory: reading results runs no code that came with them.

    Raises:
        DataError: It did.
    """
    source = model.get("source") if isinstance(model, dict) else None
    if not isinstance(source, str) or not source.endswith(".py"):
        return
    if Path(source).resolve().is_relative_to(directory.resolve()):
        raise DataError(
            f"the model of {directory} stands in {source}, which came with it and is not run: read it, put it "
            "elsewhere, and give it yourself: load(DIRECTORY, model='FILE.py')"
        )

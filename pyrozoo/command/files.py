"""Files on the command line: ``data=FILE``, settings typed as people type them, and what is wrong with a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyrozoo.core.errors import UserError
from pyrozoo.core.launch import launched
from pyrozoo.data.readers.layout import KINDS, NAMES, layout_of
from pyrozoo.run import catalog

LISTS = ("missing", "columns", "exclude", "exclude_rows")
"""Settings of data that are lists."""

TEXTS = ("path", "test_path", "delimiter", "encoding", "decimal", "row_labels", "row", "column", "value", "row_label",
         "column_label", "time", "holdout_after", "exposure", "frequency", "key")  # fmt: skip
"""Settings of data that are text, or a number that may be taken for one."""

TOKEN = re.compile(r"""\s*(?:'((?:[^'\\]|\\.|'')*)'|"((?:[^"\\]|\\.|"")*)"|([^,]*))\s*(?:,|$)""")

SWEPT = re.compile(r"(choice|range|glob|interval|shuffle|sort|tag)\(")
"""How values of a sweep begin that Hydra spells out."""


def is_path(value: str) -> bool:
    """Return whether what is chosen as data is meant as a file or folder: it is there, or it looks like one."""
    if value in catalog.options("data") or not value:
        return False
    return Path(value).exists() or bool(re.search(r"[/\\]|\.\w{1,8}$", value))


def named(words: Sequence[str], sweep: bool) -> list[str]:
    """Return what was typed; ``data=FILE`` is ``data=file data.path=FILE``, settings are as Hydra reads them."""
    found: list[str] = []
    chosen = [word.partition("=")[2] for word in words if word.startswith("data=")]
    filed = any(word.startswith("data.path=") for word in words) if not chosen else _is_file(chosen[-1])
    for word in words:
        name, sign, value = word.partition("=")
        if not filed:
            found.append(word)
            continue
        if name == "data" and sign:
            paths = [value] if not sweep or Path(value).exists() else value.split(",")
            if all(map(is_path, paths)):
                found += ["data=file", f"data.path={','.join(map(quoted, paths))}"]
                continue
        found.append(_setting(name, value, sweep) if sign else word)
    keys = {word.partition("=")[0] for word in found}
    if "data.path" in keys and not {"data", "experiment", "resume", "score"} & keys:
        found.insert(next(i for i, word in enumerate(found) if word.startswith("data.path=")), "data=file")
    return found


def _is_file(data: str) -> bool:
    """Return whether what is chosen of data reads a file of the user's, or is one; of a sweep all of it."""
    several = data.split(",") if not Path(data).exists() else [data]
    return all(each in (*KINDS, "file") or each not in catalog.options("data") for each in several)


def _setting(name: str, value: str, sweep: bool) -> str:
    group, _, key = name.partition(".")
    if group != "data" or key not in (*LISTS, *TEXTS) or value in ("null", "") or SWEPT.match(value):
        return f"{name}={value}"
    if key in LISTS:
        return f"{name}=[{','.join(map(quoted, items(value)))}]"
    if sweep and "," in value and key not in ("delimiter", "decimal") and not Path(value).exists():
        return f"{name}={','.join(quoted(plain(each)) for each in value.split(','))}"
    return f"{name}={quoted(plain(value))}"


def items(value: str) -> list[str]:
    """Return the items of a list as it is typed: ``[-, NA, "Don't know"]``, with or without brackets and quotes."""
    inside = value.strip()
    inside = inside[1:-1] if inside.startswith("[") and inside.endswith("]") else inside
    if not inside.strip():
        return []
    found, at = [], 0
    while at < len(inside):
        match = TOKEN.match(inside, at)
        if match is None or match.end() == at:  # a quote inside that never ends: take it as it is
            end = inside.find(",", at)
            end = len(inside) if end < 0 else end
            found.append(inside[at:end].strip())
            at = end + 1
            continue
        one, two, bare = match.groups()
        if bare is not None:
            found.append(bare.strip())
        else:  # a quote within quotes stands twice or behind a backslash
            within = one.replace("''", "'") if one is not None else two.replace('""', '"')
            found.append(re.sub(r"\\(.)", r"\1", within))
        at = match.end()
    return found


def plain(value: str) -> str:
    """Return a value without quotes around it."""
    match = re.fullmatch(r"""(['"])(.*)\1""", value, re.S)
    return match[2] if match else value


def quoted(value: str) -> str:
    """Return a text as Hydra reads it, whatever it holds: it refers to nothing, and has backslashes before quotes."""
    inside = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", re.sub(r"(?<!\\)\$\{", r"\\${", value))
    tail = len(inside) - len(inside.rstrip("\\"))
    return "'" + inside + "\\" * tail + "'"


def typed_settings(settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of data that were typed, as plain values."""
    import yaml

    found: dict[str, Any] = {}
    for name, value in settings.items():
        group, _, key = name.partition(".")
        if group != "data" or not key:
            continue
        if key in LISTS and value != "null":
            found[key] = items(value)
        elif key in TEXTS and value != "null":
            found[key] = _number_or_text(key, plain(re.sub(r"\\('|\$\{)", r"\1", value)))
        else:
            found[key] = yaml.safe_load(value)
    return found


def _number_or_text(key: str, value: str) -> Any:
    if key == "holdout_after":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def problem_of(model: str | None, data: str, settings: Mapping[str, str]) -> str | None:
    """Read the file that is asked for, and return what is wrong with it; nothing heavy is imported.

    Args:
        model: The model asked for.
        data: The choice of data.
        settings: What was typed, name -> value.
    """
    if data not in (*KINDS, "file"):
        return None
    paths = items(settings["data.path"]) if settings.get("data.path", "").startswith("'") else []
    if len(paths) > 1 and not Path(plain(settings["data.path"])).exists():  # a sweep over files
        each = (problem_of(model, data, {**settings, "data.path": quoted(path)}) for path in paths)
        return next((problem for problem in each if problem), None)
    typed = catalog.settings("data", data) | typed_settings(settings)
    for name in ("path", "test_path"):
        if typed.get(name) is not None and not Path(str(typed[name])).exists():
            return f"data.{name}: there is no file {typed[name]}"
    if typed.get("path") is None or model is None or any(SWEPT.match(value) for value in settings.values()):
        return None
    if _in_row_groups(Path(str(typed["path"])), settings):
        return None  # nobody reads all of it
    from pyrozoo.data.readers.source import read_ahead

    try:
        layout = layout_of({name: typed[name] for name in NAMES if name in typed})
        dtype = "float32" if settings.get("dtype") == "float32" and not typed.get("noise") else "float64"
        return read_ahead(typed["path"], layout, replace(catalog.wanted(model, data), dtype=dtype)).refused()
    except UserError as error:
        return str(error)


def _in_row_groups(path: Path, settings: Mapping[str, str]) -> bool:
    """Return whether Parquet files are read row group by row group, by several processes or for minibatches."""
    import yaml

    from pyrozoo.data.readers.row_groups import ENDINGS

    asked = (yaml.safe_load(settings.get(name, "null")) for name in ("stream", "shards"))
    return (any(asked) or launched()) and (path.is_dir() or path.suffix.lower() in ENDINGS)

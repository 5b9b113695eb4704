"""Files of statistics programs, by pyreadstat: SPSS, Stata and SAS, with their labels and their own missing values."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pyrozoo.core.errors import DataError
from pyrozoo.data.readers.arrow import column_of, strings
from pyrozoo.data.readers.guard import cells, readable, usable
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw

READERS = {"SPSS": "read_sav", "SPSS portable": "read_por", "Stata": "read_dta", "SAS": "read_sas7bdat",
           "SAS transport": "read_xport"}  # fmt: skip
"""The format -> the function of pyreadstat."""

MOST_PACKED = 1100
"""Cells that a byte of a file can hold at most where it is compressed: by zlib, to a thousandth; otherwise one."""

CARD = 80
"""Bytes of a record of the SAS transport format, which says nowhere how many there are."""

MOST_SAID = 10
"""Variables that one line names."""


def read_statistics(path: Path, format: str, layout: Layout) -> Raw:
    """Read a file of a statistics program.

    A variable with value labels becomes categories, in the order of the values, if all values that occur have a label
    of their own; ``codes`` keeps its numbers. Otherwise its numbers are read. Values that the file defines as missing
    are missing.

    Args:
        path: The file.
        format: A key of ``READERS``.
        layout: ``encoding`` is that of the file's text, where it does not say so itself.

    Returns:
        Its variables; their long labels are facts.

    Raises:
        DataError: Not readable, or without a variable.
    """
    import pyreadstat

    read = getattr(pyreadstat, READERS[format])
    more = {} if layout.encoding is None or format == "SPSS portable" else {"encoding": layout.encoding}
    if format == "SAS transport" and path.stat().st_size % CARD:
        raise DataError(f"{path.name} is not a readable {format} file: it is cut short within a record of {CARD} bytes")
    with readable(path.name, f"{format} file"):
        own = {"user_missing": True} if format == "SPSS" else {}  # else it does not say what its missing values are
        _check_survival(lambda: read(str(path), output_format="dict", metadataonly=True, **own, **more))
        about = read(str(path), output_format="dict", metadataonly=True, **own, **more)[1]
        _check_size(path, format, about.number_rows or 0, about.number_columns or 1)
        _check_survival(lambda: read(str(path), output_format="dict", **more))
        values, meta = read(str(path), output_format="dict", **more)
        ranges = about.missing_ranges if own else {}
        names = list(meta.column_names)
        if not names:
            raise DataError(f"{path.name} holds no variable")
        columns, codes, unlabelled = [], {}, []
        for place, name in enumerate(names):
            column = cells(values[name])
            labels = _levels(meta.variable_value_labels.get(name, {}), ranges.get(name, ()), column)
            made = _categories(column, labels) if labels else None
            if made is not None:
                codes[place] = column
            elif labels:
                unlabelled.append(name)
            columns.append(column if made is None else made)
    columns, problems = usable(columns, names, layout)
    notes, facts = _said(meta, names, ranges, unlabelled)
    return Raw(
        path.name, format, columns, names=names, codes=codes, first=1, unit="row", facts=facts, notes=notes,
        problems=problems, stated=frozenset({"encoding", "decimal"}),
    )  # fmt: skip


def _check_survival(read: Callable[[], Any]) -> None:
    """Read in a process of its own first: a damaged file can end the one that reads it.

    Raises:
        ValueError: This one did.
    """
    if not hasattr(os, "fork"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the new process has no use for
        child = os.fork()
    if not child:
        try:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            read()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise ValueError("it would end the program that reads it")


def _check_size(path: Path, format: str, rows: int, columns: int) -> None:
    """Refuse a file whose header states more rows than it can hold: memory would be taken for all of them."""
    with path.open("rb") as file:
        packed = MOST_PACKED if format == "SAS" or file.read(4) == b"$FL3" else 1
    if rows * columns > path.stat().st_size * packed:
        raise DataError(f"{path.name} is not a readable {format} file: it states {rows} rows, more than it can hold")


def _levels(labels: Mapping[Any, str], missing: Sequence[Any], column: pa.ChunkedArray) -> dict[Any, str]:
    """Return the labels of values that are not missing by definition, in the order of the values."""
    text = pa.types.is_string(column.type)
    kept = {
        value: label
        for value, label in labels.items()
        if isinstance(value, str) == text and not any(_within(value, each) for each in missing)
    }
    return {value: kept[value] for value in sorted(kept)}


def _within(value: Any, span: Any) -> bool:
    if isinstance(span, Mapping):
        return isinstance(value, str) == isinstance(span["lo"], str) and bool(span["lo"] <= value <= span["hi"])
    return bool(value == span)


def _categories(column: pa.ChunkedArray, labels: Mapping[Any, str]) -> pa.ChunkedArray | None:
    """Return a column of labels, or None where a value that occurs has none of its own."""
    if len(set(labels.values())) < len(labels):
        return None
    place = {value: code for code, value in enumerate(labels)}
    values = column.to_pylist()
    if any(value is not None and value not in place for value in values):
        return None
    indices = np.array([-1 if value is None else place[value] for value in values], np.int32)
    return pa.chunked_array(
        [pa.DictionaryArray.from_arrays(column_of(indices, indices < 0).chunk(0), strings(labels.values()))]
    )


def _said(
    meta: Any, names: Sequence[str], ranges: Mapping[str, Any], unlabelled: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:  # fmt: skip
    notes, facts = [], {}
    if unlabelled:
        notes.append(f"read as numbers, since not each value has a label of its own: {_list(unlabelled)}")
    own = [f"{name} ({', '.join(_span(each) for each in ranges[name])})" for name in names if ranges.get(name)]
    if own:
        notes.append(f"missing, as the file says: {_list(own)}")
    if meta.file_encoding:
        facts["encoding"] = str(meta.file_encoding)
    said = [f"{name}: {label}" for name, label in meta.column_names_to_labels.items() if label and label != name]
    if said:
        facts["labels of variables"] = _list(said, "; ")
    return tuple(notes), facts


def _span(span: Any) -> str:
    low, high = (span["lo"], span["hi"]) if isinstance(span, Mapping) else (span, span)
    spelled = [f"{each:g}" if isinstance(each, float) else str(each) for each in (low, high)]
    return spelled[0] if low == high else f"{spelled[0]} to {spelled[1]}"


def _list(words: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(words) - MOST_SAID} more" if len(words) > MOST_SAID else ""
    return between.join(" ".join(word.split()) for word in words[:MOST_SAID]) + more

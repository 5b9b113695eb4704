"""Columns as they lie in files: Parquet and Feather (Arrow), by pyarrow, without Python for any row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from pyrozoo.core.errors import DataError
from pyrozoo.data.readers.guard import called, readable, spelled, usable
from pyrozoo.data.readers.labels import Labels
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw
from pyrozoo.data.readers.row_groups import RowGroups


def read_parquet(path: Path, columns: Sequence[str] | None = None, layout: Layout | None = None) -> Raw:
    """Read a Parquet file, categories with their levels.

    Args:
        path: The file.
        columns: Those to read; None: all.
        layout: What is said of it.

    Raises:
        DataError: Not readable.
    """
    # Not read_table: it makes columns of folders that are called year=2024.
    with readable(path.name, "Parquet file"), pq.ParquetFile(path, memory_map=True) as file:
        table = file.read(None if columns is None else list(columns))
        table.validate(full=True)  # texts may be no UTF-8
    return table_raw(table, path.name, "Parquet", layout or Layout())


def read_feather(path: Path, layout: Layout) -> Raw:
    """Read a Feather file, which is an Arrow file, or an Arrow stream.

    Raises:
        DataError: Not readable.
    """
    with readable(path.name, "Feather file"):
        with path.open("rb") as file:
            start = file.read(6)
        source = pa.memory_map(str(path))
        if start == b"ARROW1":
            table = pa.ipc.open_file(source).read_all()
        elif start.startswith(b"FEA1"):
            from pyarrow import feather

            table = feather.read_table(source)
        else:
            table = pa.ipc.open_stream(source).read_all()
        table.validate(full=True)  # what is mapped into memory has been checked by nobody
    return table_raw(table, path.name, "Feather", layout)


def needed(layout: Layout) -> list[str] | None:
    """Return the columns of a list that are said by name; None: which are needed is not known yet."""
    parts = (layout.row, layout.column, layout.value)
    if any(part is None for part in parts) or layout.exclude or layout.columns or layout.exclude_rows:
        return None
    more = (layout.row_label, layout.column_label, layout.time, layout.exposure, layout.frequency, layout.row_labels)
    said = list(dict.fromkeys(part for part in (*parts, *more) if part is not None))
    return [each for each in said if isinstance(each, str)] if all(isinstance(each, str) for each in said) else None


def parquet_raw(path: Path, layout: Layout) -> Raw:
    """Read a Parquet file: of a list whose columns are named, only these.

    Raises:
        DataError: Not readable.
    """
    columns = needed(layout)
    with readable(path.name, "Parquet file"):
        schema = pq.read_schema(path, memory_map=True)
    return read_parquet(path, columns if columns and set(columns) <= set(schema.names) else None, layout)


def parquet_folder(path: Path, layout: Layout) -> Raw:
    """Read all Parquet files of a folder as one table, file after file.

    Raises:
        DataError: One is not readable, or their columns differ.
    """
    groups = RowGroups.open(path)
    columns = needed(layout)
    columns = columns if columns and {*columns} <= {*groups.schema.names} else groups.schema.names
    tables = [groups.schema.empty_table().select(columns), *groups.tables(columns=columns)]
    raw = table_raw(pa.concat_tables(tables), path.name, "a folder of Parquet files", layout)
    files = len({each.file for each in groups.groups})
    named = {part for each in groups.groups for part in each.file.relative_to(path).parts[:-1] if "=" in part}
    said = (f"folders such as {min(named)} are no column: only what stands in the files is read",) if named else ()
    return replace(raw, facts={**raw.facts, "files": str(files)}, notes=(*raw.notes, *said))


def table_raw(table: pa.Table, name: str, format: str, layout: Layout) -> Raw:
    """Return an Arrow table's columns; the index of a pandas DataFrame that it keeps becomes labels of the rows."""
    index, notes = _index(table.schema, table.column_names)
    names = [str(each) for each in table.column_names]
    kept = [place for place, each in enumerate(names) if each not in index]
    labels, more = labels_of([table.column(each) for each in index], index)
    columns, problems = usable([table.column(place) for place in kept], [names[place] for place in kept], layout)
    if not columns:
        raise DataError(f"{name} holds no column")
    return Raw(
        name, format, columns, names=[names[place] for place in kept], labels=labels, first=1, unit="row",
        notes=(*notes, *more), problems=problems, stated=frozenset({"decimal"}),
    )  # fmt: skip


def _index(schema: pa.Schema, names: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the columns that pandas keeps an index in."""
    try:
        said: Any = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
        said = [*said]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return [], ("what the file says of its pandas index cannot be read: every column is read as one",)
    # A RangeIndex is a mapping there, and names nothing.
    return [each for each in said if isinstance(each, str) and each in names], ()


def labels_of(columns: Sequence[pa.ChunkedArray], names: Sequence[str]) -> tuple[Labels | None, tuple[str, ...]]:
    """Return the names that an index gives to rows; those of several levels are joined."""
    if not columns:
        return None, ()
    if len(columns) == 1:
        return called(columns[0]), ()
    joined = pc.binary_join_element_wise(*map(spelled, columns), " / ")
    said = ", ".join(name for name in names if not name.startswith("__index_level_"))
    levels = f" ({said})" if said else ""
    return called(joined), (f"rows are named by the {len(columns)} levels of the index{levels}, joined by ' / '",)

"""Tables that somebody holds in Python: DataFrames of any library, Arrow tables, mappings, arrays, sparse matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pyrozoo.core.errors import DataError
from pyrozoo.data.readers.arrays import array_raw, sparse_raw
from pyrozoo.data.readers.columnar import labels_of, table_raw
from pyrozoo.data.readers.guard import COMPLEX, called, cells, meant, usable
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw, chunked


def frame_raw(frame: Any, name: str, layout: Layout) -> Raw:
    """Return what a table in Python holds.

    Args:
        frame: A pandas DataFrame or Series, a DataFrame of Polars or of any library that exports to Arrow, an Arrow
            table, an xarray DataArray with two dimensions, a mapping of column names to lists, an array, or a SciPy
            sparse matrix or array.
        name: What messages call it.
        layout: What is said of it.

    Returns:
        Its columns. An index of a DataFrame that is not just row numbers names the rows.

    Raises:
        DataError: Another kind of object, or columns of several lengths.
        SettingError: A setting that has no meaning for it.
    """
    kind = type(frame)
    library = kind.__module__.partition(".")[0]
    meant(layout, {"decimal"}, f"a {kind.__name__}")
    if library == "pandas":
        return _pandas(frame, name, layout)
    if library == "xarray":
        return _xarray(frame, name, layout)
    if library == "torch":
        frame = frame.detach().cpu().numpy()
    if isinstance(frame, np.ndarray):
        return array_raw(frame, name, layout)
    if library == "scipy":
        return sparse_raw(frame, name)
    if isinstance(frame, Mapping):
        return _mapping(frame, name, layout)
    if kind.__name__ == "LazyFrame":
        raise DataError(f"{name} is a LazyFrame; give what its collect() returns")
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    if isinstance(frame, pa.Table):
        return table_raw(frame, name, "Arrow", layout)
    if library == "polars" and hasattr(frame, "to_frame"):  # a Series
        frame = frame.to_frame()
    for made in (_arrow, _exchanged):
        if (table := made(frame)) is not None:
            return table_raw(table, name, kind.__name__, layout)
    raise DataError(
        f"{name} is of type {kind.__name__}; give a DataFrame, an Arrow table, a mapping of columns, an array or a "
        "SciPy sparse matrix"
    )


def _arrow(frame: Any) -> pa.Table | None:
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    found = frame.to_arrow() if hasattr(frame, "to_arrow") else None
    return found if isinstance(found, pa.Table) else None


def _exchanged(frame: Any) -> pa.Table | None:
    if not hasattr(frame, "__dataframe__"):
        return None
    from pyarrow.interchange import from_dataframe

    return from_dataframe(frame)


def _mapping(frame: Mapping[Any, Any], name: str, layout: Layout) -> Raw:
    if not frame:
        raise DataError(f"{name} holds no column")
    for key, values in frame.items():
        if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
            raise DataError(f"{name}: column {str(key)!r} must be a list of cells, not {type(values).__name__}")
    lengths = {str(key): len(values) for key, values in frame.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key!r} {length}" for key, length in lengths.items())
        raise DataError(f"{name}: columns have several lengths: {said}")
    columns = [_list(values, f"{name}: column {str(key)!r}") for key, values in frame.items()]
    columns, problems = usable(columns, [*lengths], layout)
    return Raw(name, "mapping", columns, names=[*lengths], first=0, unit="row", problems=problems)


def _list(values: Any, where: str) -> pa.ChunkedArray:
    if type(values).__module__.partition(".")[0] == "pandas":
        return _series(values)
    if type(values).__module__.partition(".")[0] == "torch":
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise DataError(f"{where} must have one axis, not shape {values.shape}")
        if values.dtype.kind != "O":
            return array_raw(values[:, None], where, Layout()).columns[0]
        values = values.tolist()
    return chunked(values) if isinstance(values, pa.Array | pa.ChunkedArray) else cells(list(values))


def _pandas(frame: Any, name: str, layout: Layout) -> Raw:
    import pandas as pd

    if isinstance(frame, pd.Series):
        frame = frame.to_frame("value" if frame.name is None else frame.name)
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{name} is of type {type(frame).__name__}; give a DataFrame")
    notes: tuple[str, ...] = ()
    names = [str(each) for each in frame.columns]
    if isinstance(frame.columns, pd.MultiIndex):
        names = [" / ".join(str(part) for part in each if str(part)) for each in frame.columns]
        notes += ("names of columns have several levels, joined by ' / '",)
    if not names:
        raise DataError(f"{name} holds no column")
    labels = None
    if not frame.index.equals(pd.RangeIndex(len(frame))) or frame.index.name is not None:
        levels = range(frame.index.nlevels)
        parts = [_series(frame.index.get_level_values(level).to_series()) for level in levels]
        labels, more = labels_of(parts, [str(each) for each in frame.index.names if each is not None])
        notes += more
    counted = frame.index.nlevels == 1 and frame.index.name is None and pd.api.types.is_integer_dtype(frame.index)
    columns, problems = usable([_series(each) for _, each in frame.items()], names, layout)
    return Raw(
        name, "DataFrame", columns, names=names, labels=labels, counted=counted, first=0, unit="row", notes=notes,
        problems=problems, stated=frozenset({"decimal"}),
    )  # fmt: skip


def _series(series: Any) -> pa.ChunkedArray:
    """Return a column of pandas as Arrow has it: categories in their order, mixtures as text."""
    import pandas as pd

    kind = series.dtype
    if isinstance(kind, pd.SparseDtype):
        series = pd.Series(series.sparse.to_dense())
        kind = series.dtype
    if isinstance(kind, pd.CategoricalDtype):
        levels = _series(kind.categories.to_series())
        codes = series.array.codes
        values = pa.array(codes, mask=codes < 0)
        words = levels.combine_chunks() if levels.num_chunks != 1 else levels.chunk(0)
        return pa.chunked_array([pa.DictionaryArray.from_arrays(values, words, ordered=bool(kind.ordered))])
    if isinstance(kind, pd.IntervalDtype | pd.PeriodDtype):
        return chunked(pa.array([None if pd.isna(each) else str(each) for each in series], pa.string()))
    if kind.kind == "c":
        return pa.chunked_array([pa.nulls(len(series), COMPLEX)])
    if kind.kind == "O" and type(kind).__name__ == "ObjectDType":
        return cells(series.to_list())
    return chunked(pa.array(series, from_pandas=True))


def _xarray(frame: Any, name: str, layout: Layout) -> Raw:
    if type(frame).__name__ != "DataArray":
        raise DataError(f"{name} is an xarray {type(frame).__name__}; give one of its variables")
    raw = array_raw(np.asarray(frame.values), name, layout)
    rows, columns = frame.dims
    labels = None if rows not in frame.coords else called(chunked(_list(frame.coords[rows].values, name)))
    if columns not in frame.coords:
        return replace(raw, labels=labels)
    names = list(called(_list(frame.coords[columns].values, name)))
    return replace(raw, names=names, headless=False, labels=labels)

"""The door to data from outside: a path or a frame becomes a reading, whatever it is written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pyrozoo.data.readers import lists, tables
from pyrozoo.data.readers.arrow import column_of, distinct, mask_of_true, strings
from pyrozoo.data.readers.blocks import Block, blocks
from pyrozoo.data.readers.cells import INTEGER, TRUE, is_text, named, numbers, texts
from pyrozoo.data.readers.formats import is_picture, open_raw
from pyrozoo.data.readers.frames import frame_raw
from pyrozoo.data.readers.guard import cells
from pyrozoo.data.readers.header import has_header
from pyrozoo.data.readers.layout import Layout, Wanted
from pyrozoo.data.readers.lists import called_so, looks_listed
from pyrozoo.data.readers.raw import Raw, chunked, existing
from pyrozoo.data.readers.reading import Reading
from pyrozoo.data.readers.words import UNNAMED, place

NAMED_BY = ("columns", "exclude", "row_labels", "row", "column", "value", "row_label", "column_label", "time",
            "response", "exposure", "frequency")  # fmt: skip
"""Settings that ask for columns by name."""

MOST_PIVOTED = 50_000_000
"""Cells of a table that a list may become."""


def read_source(source: Any, layout: Layout, wanted: Wanted, name: str = "the data") -> Reading:
    """Read what a user has.

    Args:
        source: A path, a DataFrame, or what is like one.
        layout: What is said of it.
        wanted: What the model's data are.
        name: What to call a source that is no file.

    Returns:
        What it holds, with its problems: ``checked`` raises them.

    Raises:
        DataError: There is no such file, or nothing can be read of it at all.
        SettingError: A setting that has no meaning for it, or cannot be one.
    """
    if wanted.cells == "labels":
        return _image(source, layout, wanted, name)
    found = read_raw(raw_of(source, layout, name), layout, wanted)
    pa.default_memory_pool().release_unused()  # what Arrow held while it read is many times a list's codes
    found.in_python = not isinstance(source, str | Path)
    # The reader's own table is made anew when it is asked for: nothing of a large file is held for it.
    found.own = lambda: own_table(source, layout, wanted, name)
    found.types = lambda: own_types(source, layout, wanted, name)
    return found


def own_table(source: Any, layout: Layout, wanted: Wanted, name: str = "the data") -> Any:
    """Return the reader's own table: all of its columns in their order, numbers as numbers, all else as it is spelled.

    A frame of pandas is returned as it is.
    """
    if _is_own(source, layout):
        return source
    raw, names, decimal = _own_raw(source, layout, wanted, name)
    return raw.own() if raw.own else own_frame(raw, names, decimal)


def own_types(source: Any, layout: Layout, wanted: Wanted, name: str = "the data") -> list[tuple[Any, bool, str]]:
    """Return the types of the columns of the reader's own table, as ``kinds.types_of`` does, without making it."""
    from pyrozoo.data.kinds import types_of

    if _is_own(source, layout):
        return types_of(source)
    raw, _, decimal = _own_raw(source, layout, wanted, name)
    types = dict(each for block in blocks(raw.columns) for each in types_in(block, decimal))
    return [types[place] for place in range(len(types))]


def _is_own(source: Any, layout: Layout) -> bool:
    return type(source).__module__.partition(".")[0] == "pandas" and not layout.transpose


def _own_raw(source: Any, layout: Layout, wanted: Wanted, name: str) -> tuple[Raw, list[str], str]:
    raw = raw_of(source, layout, name)
    raw = transposed(raw) if layout.transpose else raw
    reading = Reading(raw.name, raw.format, wanted, layout, dict(raw.facts))
    names, _, raw = named_columns(raw, reading)
    return raw, names, reading.facts.get("decimal", ".")


def read_raw(raw: Raw, layout: Layout, wanted: Wanted) -> Reading:
    """Read what stands in a source."""
    if layout.transpose:
        raw = transposed(raw)
    reading = Reading(raw.name, raw.format, wanted, layout, dict(raw.facts), [*raw.notes], [*raw.problems])
    names, headed, raw = named_columns(raw, reading)
    if not raw.columns:
        reading.problems.append("the table is empty")
        return reading
    listed = _listed(reading, raw, names, headed)
    if listed is None or (reading.problems and not names):
        return reading
    reading.facts["layout"] = "list" if listed else "table"
    if not listed:
        _no_list_settings(reading)
        tables.read_into(reading, raw, names)
        return reading
    lists.read_into(reading, raw, names, headed)
    if not wanted.listed and not reading.problems:
        _pivoted(reading)
    return reading


def _image(source: Any, layout: Layout, wanted: Wanted, name: str) -> Reading:
    """Read an image of labels: a picture, an array, or a table in which every cell is a pixel."""
    from pyrozoo.data.labelled import Labelled
    from pyrozoo.data.readers.picture import ARRAYS, read_picture

    notes: tuple[str, ...] = ()
    if isinstance(source, str | Path) and (is_picture(existing(source)) or Path(source).suffix.lower() in ARRAYS):
        image = read_picture(existing(source), layout)
    elif not isinstance(source, str | Path) and not is_frame(source):
        image = Labelled.of(source, name, colours=layout.colours, missing=tuple(layout.missing or ()))
    else:
        raw = raw_of(source, replace(layout, colours=None), name)
        name, notes = raw.name, (*raw.notes, *raw.problems)
        missing = tuple(layout.missing or ())
        image = Labelled.of(_pixels(raw, layout.header), name, colours=layout.colours, missing=missing)
    found = Reading(image.name, "picture", wanted, layout, notes=[*notes, *image.notes], image=image)
    height, width = image.values.shape
    found.rows, found.columns = [f"row_{i}" for i in range(height)], [f"column_{j}" for j in range(width)]
    return found


def _pixels(raw: Raw, header: bool | None) -> np.ndarray:
    """Return the cells of a table, [line, column], without a first line or column that only counts."""
    lines = [
        [("" if each is None else str(named(each)).strip()) for each in column.to_pylist()] for column in raw.columns
    ]
    cells = np.array(lines, dtype=object).T
    if raw.head is None:
        return cells
    head = np.array([str(each if each is not None else "").strip() for each in raw.head], dtype=object)
    blank = not head[0]
    if header is None:
        counted = _counted(head) and len({*head} - {*cells.ravel()}) > 1
        header = bool(len(cells)) and (_counted(head[1:]) if blank else counted)
    if header:
        return cells[:, int(blank and bool(len(cells)) and _counted(cells[:, 0])) :]
    return np.concatenate([head[None], cells]) if len(head) == cells.shape[1] else cells


def _counted(cells: np.ndarray) -> bool:
    """Return whether cells are 0, 1, 2 ..., or 1, 2, 3 ..."""
    return [*cells] in ([str(i + first) for i in range(len(cells))] for first in (0, 1))


def is_frame(source: Any) -> bool:
    """Return whether something in Python is a table with names of columns, of pandas or of another library."""
    library = type(source).__module__.partition(".")[0]
    if library in ("numpy", "torch", "scipy", "pyrozoo"):
        return False
    named = hasattr(source, "columns") and (hasattr(source, "index") or hasattr(source, "schema"))
    return named or isinstance(source, Mapping) or library == "xarray" or hasattr(source, "__arrow_c_stream__")


def raw_of(source: Any, layout: Layout, name: str) -> Raw:
    """Open a source: a path, or what Python holds."""
    if isinstance(source, str | Path):
        return open_raw(existing(source), layout)
    return frame_raw(source, name, layout)


def transposed(raw: Raw) -> Raw:
    """Turn a source round: its columns become records."""
    records = [["" if each is None else str(named(each)) for each in column.to_pylist()] for column in raw.columns]
    if (top := raw.head if raw.head is not None else raw.names) is not None:
        short = len(records) - len(top)
        records = [[str(cell or ""), *record] for cell, record in zip([*[""] * short, *top], records, strict=True)]
    if raw.labels is not None:
        records = [[*([""] if top is not None else []), *raw.labels], *records]
    head = None if raw.headless else tuple(records.pop(0))
    columns = [chunked(strings(cells)) for cells in zip(*records, strict=True)]
    return replace(raw, columns=columns, head=head, names=None, labels=None, own=None)


def named_columns(raw: Raw, reading: Reading, known: Collection[str] = ()) -> tuple[list[str], bool, Raw]:
    """Tell names from records.

    Args:
        raw: The source.
        reading: Gets notes and problems.
        known: Names that a header may hold.

    Returns:
        The names, whether somebody gave them, and the source, with its first record among the others if it is one.
    """
    layout = reading.layout
    if raw.head is None or raw.names is not None:
        count = len(raw.columns)
        headed = raw.names is not None
        reading.facts |= {} if raw.names is not None else {"header": "no"}
        return [str(each).strip() for each in raw.names or [f"column_{i}" for i in range(count)]], headed, raw
    asked = [str(each) for name in NAMED_BY if (value := getattr(layout, name)) is not None
             for each in (value if isinstance(value, list | tuple) else [value])
             if not str(each).isdecimal() or (isinstance(each, str) and name != "columns")]  # fmt: skip
    decimal = reading.facts.get("decimal", ".")
    if layout.header is not None:
        header, note, problem = layout.header, None, None
    else:
        maybe = reading.wanted.listed and layout.layout != "table"
        header, note, problem = has_header(raw.head, raw.columns, decimal, [*asked, *known], maybe)
    reading.notes += [note] if note else []
    reading.problems += [problem] if problem else []
    reading.facts["header"] = "yes" if header else "no"
    if not header:
        every = _whole(raw, decimal)
        return [f"column_{i}" for i in range(len(every.columns))], False, every
    head = [str(each if each is not None else "").strip() for each in raw.head]
    if len(head) == len(raw.columns) - 1:
        head = ["", *head]  # as R writes names of rows
    return _units(head, raw, reading)


def _whole(raw: Raw, decimal: str) -> Raw:
    """Put the first record among the others: it is one of them."""
    assert raw.head is not None
    columns: list[Any] = []
    head = raw.head
    alone = [chunked(strings([]))] * (len(head) - len(raw.columns))  # there is no other record
    first_record = [*head, *[""] * (len(raw.columns) - len(head))]
    spelled = strings(str(cell if cell is not None else "") for cell in first_record)  # at once: they may be many
    for at, (cell, column) in enumerate(zip(first_record, [*raw.columns, *alone], strict=True)):
        if is_text(column) or isinstance(cell, str):
            first, rest = spelled.slice(at, 1), column
            if not is_text(column):  # numbers in a large file: the first record's cell spells one, or is blank
                first, rest = _first_number(str(cell or ""), column, decimal)
            elif not pa.types.is_string(column.type):
                rest = column.cast(pa.string())
            columns.append(pa.chunked_array([first, *rest.chunks]))
        else:  # of a sheet: in the type of the others 2.5 might be 2
            columns.append(cells([cell, *column.to_pylist()]))
    return replace(raw, columns=columns, head=None, headless=raw.headless, first=raw.first - 1)


def _first_number(cell: str, column: Any, decimal: str) -> tuple[Any, Any]:
    """Return the first record's cell in the type of a column of numbers, and the column; both as text if it is none."""
    values, bad = numbers(chunked(strings([cell])), decimal)
    if bad.spelled or (pa.types.is_integer(column.type) and not INTEGER.fullmatch(cell.strip()) and cell.strip()):
        spelled = column.cast(pa.string())
        return strings([cell]), pc.replace_substring(spelled, ".", ",") if decimal == "," else spelled
    if np.isnan(values[0]):
        return pa.nulls(1, column.type), column
    return (column_of(values).chunk(0) if pa.types.is_floating(column.type) else _integer(cell)), column


def _integer(cell: str) -> Any:
    return column_of(np.array([int(cell)], np.int64)).chunk(0)


def _units(head: list[str], raw: Raw, reading: Reading) -> tuple[list[str], bool, Raw]:
    """Take a second line of units into the names: text over columns that hold numbers otherwise."""
    if raw.length < 2 or not all(map(is_text, raw.columns)):
        return head, True, raw
    over: dict[int, str] = {}
    for block in blocks([column.slice(0, 1000) for column in raw.columns]):
        spelled = _Spelled.of(block, reading.facts.get("decimal", "."))
        numeric = ~np.isnan(spelled.numbers)[block.codes]
        bad = ~(numeric | spelled.gone[block.codes])
        words = ["" if each is None else each.strip() for each in [*block.found.to_pylist(), None]]
        first, count = [words[code] for code in block.codes[:, 0]], bad.sum(1)
        if any(word and not wrong for word, wrong in zip(first, count, strict=True)):
            return head, True, raw
        at = np.flatnonzero((count == 1) & bad[:, 0] & numeric.any(1))
        over |= {block.places[i]: first[i] for i in at.tolist()}
    over = dict(sorted(over.items()))
    short = [*over.values()]
    if not over or not all(len(unit) <= 12 and tables.DOUBTFUL.fullmatch(unit) is None for unit in short):
        return head, True, raw
    reading.notes.append(
        f"{raw.unit} {raw.first} holds units ({', '.join(dict.fromkeys(short))}): it is taken into the names"
    )
    names = [f"{name} [{over[i]}]" if i in over else name for i, name in enumerate(head)]
    return names, True, replace(raw, columns=[column.slice(1) for column in raw.columns], first=raw.first + 1)


def _listed(reading: Reading, raw: Raw, names: Sequence[str], headed: bool) -> bool | None:
    """Decide whether a source is a table or a list; None: nobody can tell."""
    layout, wanted = reading.layout, reading.wanted
    roles = [role for role in ("row", "column", "value") if getattr(layout, role) is not None]
    if layout.layout is not None:
        return layout.layout == "list"
    if len(roles) >= 2:
        return True
    if wanted.cells in ("categories", "mixed"):
        return False
    listed, why = looks_listed(raw, names, headed, reading.facts.get("decimal", "."))
    sparse = raw.facts.get("layout") == "list"
    if not wanted.listed:
        if sparse:
            return True
        if listed and (called_so(names, headed) or _crossed(raw)):
            reading.problems.append(
                f"it looks like a list of row, column and value ({why}): data.layout=list with data.absent=zero or "
                "data.absent=missing makes a table of it, data.layout=table takes it as it is"
            )
            return None
        return False
    if listed is None:
        reading.problems.append(
            f"it may be a list of row, column and value, or a table ({why}): set data.layout=list or data.layout=table"
        )
        return None
    if not sparse:
        kind = "a list of row, column and value" if listed else "a table, a line per row"
        reading.notes.append(f"it is {kind}: {why} (data.layout)")
    return listed


def _crossed(raw: Raw) -> bool:
    """Return whether each label of the first two of three columns of text occurs twice or more on average."""
    counts = [len(distinct(texts(column))[1]) for column in raw.columns[:2] if is_text(column)]
    return len(counts) == 2 and len(raw.columns) == 3 and all(2 * count <= raw.length for count in counts)


def _no_list_settings(reading: Reading) -> None:
    for setting in (
        "row",
        "column",
        "value",
        "row_label",
        "column_label",
        "time",
        "holdout_after",
        "repeated",
        "absent",
    ):
        if getattr(reading.layout, setting) is not None:
            reading.problems.append(f"data.{setting} has no meaning for a table, a line per row (data.layout=list)")


def _pivoted(reading: Reading) -> None:
    """Make a table of a list: for models whose data are one."""
    entries, layout = reading.entries, reading.layout
    assert entries is not None
    absent = layout.absent or (
        "zero" if reading.facts.get("layout") == "list" and entries.row_names[:1] == ["row_0"] else None
    )
    shape = len(entries.row_names), len(entries.column_names)
    if absent is None:
        reading.problems.append("data.absent=zero or data.absent=missing says what pairs are that the list lacks")
        return
    if shape[0] * shape[1] > MOST_PIVOTED:
        reading.problems.append(
            f"the list would make a table of {shape[0]} x {shape[1]} cells, more than {MOST_PIVOTED}"
        )
        return
    keys = entries.rows.astype(np.int64) * shape[1] + entries.columns
    if len(np.unique(keys)) < len(keys):
        order = np.argsort(keys, kind="stable")
        at = int(np.flatnonzero(np.diff(keys[order]) == 0)[0])
        pair = int(keys[order][at])
        where = f"row {entries.row_names[pair // shape[1]]!r}, column {entries.column_names[pair % shape[1]]!r}"
        if layout.repeated not in ("sum", "mean", "last"):
            reading.problems.append(f"{where} is listed twice: data.repeated=sum, mean or last says what becomes of it")
            return
    values = np.full(shape, 0.0 if absent == "zero" else np.nan)
    if layout.repeated in ("sum", "mean"):
        total = np.bincount(keys, entries.values, minlength=values.size)
        count = np.bincount(keys, minlength=values.size)
        there = count > 0
        values.ravel()[there] = (total / np.maximum(count, 1) if layout.repeated == "mean" else total)[there]
    else:
        values.ravel()[keys] = entries.values
    reading.values, reading.entries, reading.lines = values, None, None
    reading.notes.append(f"pairs that the list lacks are {absent if absent == 'zero' else 'missing'} (data.absent)")


# The reader's own table -----------------------------------------------------------------------------------------------


def own_frame(raw: Raw, names: Sequence[str], decimal: str) -> Any:
    """Return a source as a DataFrame: numbers as numbers, all else as it is spelled, under its own names."""
    import pandas as pd

    words = [at for at, column in enumerate(raw.columns) if _is_plain_text(column.type)]
    columns = {at: _whole_numbers(column) for at, column in enumerate(raw.columns) if not _is_plain_text(column.type)}
    for block in blocks([raw.columns[at] for at in words]):
        columns |= {words[at]: cells for at, cells in zip(block.places, typed(block, decimal), strict=True)}
    index = None if raw.labels is None else pd.Index(raw.labels)
    frame = pd.DataFrame(dict(sorted(columns.items())), index=index)
    frame.columns = pd.Index(list(names))
    return frame


def _whole_numbers(column: Any) -> Any:
    """Return a column as pandas has it: whole numbers and truth values with holes are of types that know these."""
    import pandas as pd

    kind = column.type
    if column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        name = "boolean" if pa.types.is_boolean(kind) else str(kind).replace("int", "Int").replace("u", "U")
        return pd.array(column.to_pylist(), dtype=name)
    return column.to_pandas().array


def _is_plain_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


@dataclass(frozen=True)
class _Spelled:
    """What columns of text spell. Of each distinct cell, and last of a missing one: its text, or nothing; a number.

    Attributes:
        cells: The texts.
        gone: Whether they say that there is none.
        numbers: The numbers, NaN where there is none.
        integers: The whole numbers, 0 where there is none.
        seen: Which columns have a cell, [column] bool.
        words: Which are no numbers, or lose something as such: 007 stays text.
        whole: Which are whole numbers.
        holes: Which have missing cells.
    """

    cells: np.ndarray
    gone: np.ndarray
    numbers: np.ndarray
    integers: np.ndarray
    seen: np.ndarray
    words: np.ndarray
    whole: np.ndarray
    holes: np.ndarray

    @classmethod
    def of(cls, block: Block, decimal: str) -> _Spelled:
        found = pa.chunked_array([block.found.cast(pa.string()), pa.nulls(1, pa.string())])
        stripped, values = texts(found), numbers(found, decimal)[0]
        gone = mask_of_true(stripped.is_null())
        lost = pc.or_(pc.match_substring_regex(stripped, PADDED), pc.is_in(pc.utf8_lower(stripped), strings(TRUE)))
        word = (~gone & np.isnan(values)) | mask_of_true(lost)
        whole = mask_of_true(pc.match_substring_regex(stripped, f"^(?:{INTEGER.pattern})$"))
        integers = [int(each) if one else 0 for each, one in zip(stripped.to_pylist(), whole.tolist(), strict=True)]
        cells: Any = pc.if_else(stripped.is_null(), None, found).to_pandas()
        seen, words, holes = (each[block.codes].any(1) for each in (~gone, word, gone))
        whole = (whole | gone)[block.codes].all(1)
        cells, whole_numbers = cells.astype(object).to_numpy(), np.array(integers, np.int64)
        return cls(cells, gone, values, whole_numbers, seen, words | ~seen, whole, holes)


def typed(block: Block, decimal: str) -> list[Any]:
    """Return columns of text as numbers where all of it spells them and nothing is lost."""
    import pandas as pd

    spelled, made = _Spelled.of(block, decimal), list[Any]()
    for codes, words, whole, holes in zip(block.codes, spelled.words, spelled.whole, spelled.holes, strict=True):
        if words:
            made.append(pd.arrays.NumpyExtensionArray(spelled.cells[codes]))
        elif whole and holes:
            made.append(pd.arrays.IntegerArray(spelled.integers[codes], np.isnan(spelled.numbers[codes])))
        else:
            made.append((spelled.integers if whole else spelled.numbers)[codes])
    return made


def types_in(block: Block, decimal: str) -> list[tuple[int, tuple[Any, bool, str]]]:
    """Return of each column of a block its place, and the type that it has in a reader's own table.

    Types are said as ``kinds.types_of`` says them.
    """
    import pandas as pd

    if _is_plain_text(block.kind):
        spelled = _Spelled.of(block, decimal)
        holes = spelled.holes.tolist()
        text = pd.Series([""]).dtype
        numeric = np.dtype(np.int64), np.dtype(np.float64)
        types = [
            (text if seen else np.dtype(object)) if words else pd.Int64Dtype() if whole and hole else numeric[not whole]
            for words, seen, whole, hole in zip(spelled.words, spelled.seen, spelled.whole, holes, strict=True)
        ]
    else:
        holes = block.holes.tolist()
        kinds = {hole: _type_of(block, int(hole)) for hole in {*holes}}
        types = [kinds[hole] for hole in holes]
    return [(at, (kind, hole, "")) for at, kind, hole in zip(block.places, types, holes, strict=True)]


def _type_of(block: Block, holes: int) -> Any:
    """Return the type in pandas of columns that are no text."""
    import pandas as pd

    sample = pa.nulls(holes, block.kind)
    if pa.types.is_dictionary(block.kind):
        codes, levels = pa.nulls(holes, pa.int8()), block.found.drop_null()
        sample = pa.DictionaryArray.from_arrays(codes, levels, ordered=block.kind.ordered)
    return pd.Series(_whole_numbers(pa.chunked_array([sample]))).dtype


PADDED = r"^[+-]*0\p{Nd}"
"""How a text begins that is no number but a code, such as 007."""


def read_frame(
    source: Any, layout: Layout, known: Collection[str] = (), name: str = "the new rows", sure: bool = False
) -> Any:  # fmt: skip
    """Read a table as it is, such as new rows: its cells under its own names, its row labels as the index.

    Args:
        source: A path or a frame.
        layout: How it is laid out.
        known: Names that a header may hold.
        name: What to call a source that is no file.
        sure: Whether a first line without any of the known names is a record.

    Raises:
        DataError: It cannot be read, or two columns have one name.
    """
    return read_rows(source, layout, known, name, sure)[0]


def read_rows(
    source: Any, layout: Layout, known: Collection[str] = (), name: str = "the new rows", sure: bool = False
) -> tuple[Any, str, dict[str, np.ndarray]]:  # fmt: skip
    """Read a table as ``read_frame`` does; return its decimal mark, too, and the numbers behind columns of labels."""
    raw = raw_of(source, layout, name)
    raw = transposed(raw) if layout.transpose else raw
    if (
        sure
        and raw.head is not None
        and layout.header is None
        and not {*known} & {str(each).strip() for each in raw.head}
    ):
        layout = replace(layout, header=False)
    reading = Reading(raw.name, raw.format, Wanted(), layout, dict(raw.facts), [*raw.notes], [*raw.problems])
    names, _, raw = named_columns(raw, reading, known)
    for each, count in Counter(names).items():
        if count > 1:
            reading.problems.append(f"column name {each!r} appears twice")
    reading.checked()
    frame = raw.own() if raw.own else own_frame(raw, names, reading.facts.get("decimal", "."))
    codes = {names[at]: numbers(column, missing=layout.missing or ())[0] for at, column in raw.codes.items()}
    frame.attrs["notes"] = reading.notes
    return _labelled(frame, layout, names, known), reading.facts.get("decimal", "."), codes


def _labelled(frame: Any, layout: Layout, names: Sequence[str], known: Collection[str]) -> Any:
    """Return a table with the column that names its rows as the index."""
    label = None if layout.row_labels is None else place(layout.row_labels, names)
    if (
        label is None
        and layout.row_labels is None
        and names
        and UNNAMED.fullmatch(names[0])
        and names[0] not in known
        and names[0] != "x"
    ):
        frame = frame.set_index(frame.columns[0])
        return frame.rename_axis(None)  # labels, as pandas and R write them
    return frame if label is None else frame.set_index(frame.columns[label])


AHEAD: dict[tuple[Any, ...], Reading] = {}
"""What has been read before anything heavy was imported, until it is asked for."""


def read_ahead(path: str | Path, layout: Layout, wanted: Wanted) -> Reading:
    """Read a file, and keep what was read for the one who asks for it next."""
    found = read_source(path, layout, wanted)
    AHEAD.clear()
    AHEAD[_key(path, layout, wanted)] = found
    return found


def taken(path: str | Path, layout: Layout, wanted: Wanted) -> Reading:
    """Return what was read ahead of a file, or read it."""
    found = AHEAD.pop(_key(path, layout, wanted), None) or AHEAD.pop(
        _key(path, layout, replace(wanted, dtype="float64")), None
    )
    return read_source(path, layout, wanted) if found is None else found


def _key(path: str | Path, layout: Layout, wanted: Wanted) -> tuple[Any, ...]:
    return str(path), Path(path).stat().st_mtime_ns if Path(path).exists() else 0, repr(layout), wanted

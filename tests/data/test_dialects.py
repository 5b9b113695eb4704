"""Random tables in every dialect: what is read back is what was written, or a refusal that says what to type."""

from __future__ import annotations

import csv
import io
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrozoo.command import files
from pyrozoo.core.errors import UserError
from pyrozoo.data.contained import read_data
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers import text
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets

WORDS = ["north", "owl", "Kite", "two words", "a-b", "x.y", "Sales [EUR]", "under_score", "Zug", "weight (kg)"]
WESTERN = [
    "M\u00f6we",
    "caf\u00e9",
    "Stra\u00dfe",
    "ni\u00f1o",
    "\u00c5l",
    "gar\u00e7on",
    "K\u00e4se",
    "d\u00e9j\u00e0",
]
CYRILLIC = [
    "\u041c\u043e\u0441\u043a\u0432\u0430", "\u0433\u043e\u0440\u043e\u0434",
    "\u0434\u0435\u0440\u0435\u0432\u043d\u044f",
    "\u043c\u0430\u0433\u0430\u0437\u0438\u043d", "\u0441\u0443\u043c\u043c\u0430", "\u0432\u0435\u0441",
]  # fmt: skip
ANY = [*WESTERN, *CYRILLIC, "\u6771\u4eac", "smile \U0001f600", "it's", "50%", "C#", "a=b", "(x)"]
QUOTED = ['say "hi"', "a, b", "a;b", "line\nbreak", "pipe|d"]


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        delimiter: Between cells.
        quoting: ``none``, ``minimal`` or ``all``.
        decimal: The decimal mark.
        groups: What stands between thousands.
        encoding: Of the text.
        ending: Of lines.
        missing: What says that a cell is missing.
        trailing: Whether lines end in a delimiter.
        blank: Blank lines at the end.
        words: Words that names, labels and categories are drawn from.
        said: What must be said, since nobody can find it.
    """

    delimiter: str = ","
    quoting: str = "minimal"
    decimal: str = "."
    groups: str = ""
    encoding: str = "utf-8"
    ending: str = "\n"
    missing: str = ""
    trailing: bool = False
    blank: int = 0
    words: tuple[str, ...] = tuple(WORDS)
    said: Mapping[str, Any] = field(default_factory=dict)


DIALECTS = {
    "plain": Dialect(words=(*WORDS, *ANY)),
    "quoted": Dialect(quoting="all", encoding="utf-8-sig", ending="\r\n", missing="NA", words=(*WORDS, *ANY, *QUOTED)),
    "german": Dialect(";", decimal=",", encoding="cp1252", ending="\r\n", words=(*WORDS, *WESTERN)),
    "german_groups": Dialect(";", decimal=",", groups=".", encoding="utf-8-sig", words=(*WORDS, *WESTERN)),
    "french": Dialect(";", decimal=",", groups="\u202f", trailing=True, words=(*WORDS, *WESTERN)),
    "swiss": Dialect(";", groups="'", missing="n/a"),
    "english_groups": Dialect(groups=",", quoting="minimal", blank=2),
    "tabs_utf16": Dialect("\t", encoding="utf-16", ending="\r\n", words=(*WORDS, *ANY)),
    "old_mac": Dialect("\t", ending="\r", missing="NaN", blank=1),
    "pipes": Dialect("|", missing="NULL", trailing=True),
    "colons": Dialect("::", quoting="none", blank=1),
    "spaces": Dialect(" ", quoting="none", missing="NA", words=tuple(w for w in (*WORDS, *ANY) if " " not in w)),
    "r_spaces": Dialect(" ", quoting="text", missing="NA", words=tuple(w for w in WORDS if " " not in w)),
    "russian": Dialect(";", decimal=",", encoding="cp1251", words=tuple(CYRILLIC)),
    "dashes": Dialect(missing="-", ending="\r\n"),
    "codes": Dialect(missing="-99", said={"missing": [-99]}),
}
"""The dialects."""

MOST_REFUSED = {"numbers": 0.5, "counts": 0.5, "categories": 0.3, "Ratings": 0.6, "Triplets": 0.6}
"""The largest share of tables that may be refused at first: few and short, they are often ambiguous."""

ALWAYS = ("dashes", "spaces", "russian", "german_groups", "english_groups")
"""Dialects of which any table may be: a dash must be asked about, and words apart by spaces, and 1.234."""

EXAMPLES = 12
"""Tables of each kind and dialect."""

ASKED: dict[str, Counter[str]] = {}
"""Test and dialect -> how many were read at once, and how many after a refusal."""


@dataclass(frozen=True)
class Written:
    """A table, and what should be read of it.

    Attributes:
        lines: Cells as they are spelled, line by line, names among them.
        columns: Names of the columns of data.
        rows: Names of the rows.
        cells: Line by line; None is missing.
        truth: Settings that are true of it: what a user would answer.
    """

    lines: list[list[str]]
    columns: list[str]
    rows: list[str]
    cells: list[list[Any]]
    truth: dict[str, Any]


def spelled(value: Any, dialect: Dialect) -> str:
    """Return a cell as a dialect spells it."""
    if value is None:
        return dialect.missing
    if not isinstance(value, int | float):
        return str(value)
    made = f"{value:,}" if dialect.groups and abs(value) >= 1000 else str(value)
    whole, point, rest = made.partition(".")
    return whole.replace(",", dialect.groups) + (dialect.decimal if point else "") + rest


def encoded(lines: list[list[str]], dialect: Dialect) -> bytes:
    """Write lines in a dialect."""
    more = [""] if dialect.trailing else []
    if dialect.quoting == "none":
        content = "".join(dialect.delimiter.join([*line, *more]) + dialect.ending for line in lines)
    elif dialect.quoting == "text":  # as R does
        quoted = [[cell if number_like(cell) or cell == "NA" else f'"{cell}"' for cell in line] for line in lines]
        content = "".join(dialect.delimiter.join(line) + dialect.ending for line in quoted)
    else:
        stream = io.StringIO(newline="")
        how = csv.QUOTE_ALL if dialect.quoting == "all" else csv.QUOTE_MINIMAL
        writer = csv.writer(stream, delimiter=dialect.delimiter, quoting=how, lineterminator=dialect.ending)
        writer.writerows([*line, *more] for line in lines)
        content = stream.getvalue()
    return (content + dialect.ending * dialect.blank).encode(dialect.encoding)


def number_like(cell: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", cell) is not None


# What is written ------------------------------------------------------------------------------------------------------


def values_of(kind: str, dialect: Dialect) -> st.SearchStrategy[Any]:
    """Return a strategy of cells."""
    large = st.integers(1000, 2_000_000) if dialect.groups else st.nothing()
    if kind == "counts":
        return st.one_of(st.integers(0, 30), large)
    hundredths = st.integers(-99_999, 999_999).map(lambda value: value / 100)
    return st.one_of(hundredths, hundredths, st.integers(0, 200).map(lambda value: value / 8), large)


@st.composite
def tables(draw: Callable[..., Any], dialect: Dialect, kind: str) -> Written:
    """Draw a table of numbers, counts or categories, its names and its labels."""
    count, width = draw(st.integers(2, 12)), draw(st.integers(1, 7))
    words = st.sampled_from(dialect.words)
    if kind == "categories":
        answers = words.map(
            lambda word: f"{word}!"
        )  # a column that is called as one of its categories is another thing
        levels = [draw(st.lists(answers, min_size=2, max_size=4, unique=True)) for _ in range(width)]
        levels = [draw(st.sampled_from([each, ["1", "2", "3"], ["yes", "no"]])) for each in levels]
        columns = [draw(st.lists(st.sampled_from(each), min_size=count, max_size=count)) for each in levels]
        cells: list[list[Any]] = [list(line) for line in zip(*columns, strict=True)]
    else:
        line = st.lists(values_of(kind, dialect), min_size=width, max_size=width)
        cells = draw(st.lists(line, min_size=count, max_size=count))
        if kind == "numbers":
            cells[0][0] = draw(st.sampled_from([0.5, 12.25]))  # the decimal mark can be found
    full = [list(line) for line in cells]
    for i, j in draw(st.lists(st.tuples(st.integers(1, count - 1), st.integers(0, width - 1)), max_size=4)):
        full[i][j] = None
    for j in range(width):  # a column without a cell is another thing
        full[-1][j] = cells[-1][j] if all(line[j] is None for line in full) else full[-1][j]
    index = draw(st.sampled_from(["none", "none", "pandas", "r", "named"]))
    header = draw(st.sampled_from(["words", "words", "words", "none", "numbers", "years"]))
    if header == "none" and index in ("pandas", "r"):
        index = "none"  # row numbers without a header are numbers like others
    if kind == "categories" and header == "none" and not _again(full):
        header = "words"  # nothing tells a first record of words that none of the others has from names
    if dialect.decimal == "," and width == 1 and index == "none":
        header = "words"  # 12,25 alone may be two columns of whole numbers
    if all(value is None for value in full[-1]) and not dialect.missing:
        full[-1] = cells[-1]  # lines of nothing at the end are no rows
    if width == 1 and (index == "none" or dialect.delimiter == " "):
        full = [line if line[0] is not None else [0 if kind != "categories" else "yes"] for line in full]
    return _written(draw, dialect, full, header, index)


def _again(cells: list[list[Any]]) -> bool:
    """Return whether a cell of the first line occurs again below."""
    return any(cell in [line[j] for line in cells[1:]] for j, cell in enumerate(cells[0]) if cell is not None)


def _written(
    draw: Callable[..., Any], dialect: Dialect, cells: list[list[Any]], header: str, index: str
) -> Written:  # fmt: skip
    count, width = len(cells), len(cells[0])
    distinct = draw(st.lists(st.sampled_from(dialect.words), min_size=width, max_size=width))
    names = {
        "words": [f"{word}{i}" if distinct.count(word) > 1 else word for i, word in enumerate(distinct)],
        "none": [f"column_{i + (index != 'none')}" for i in range(width)],
        "numbers": [str(i) for i in range(width)],
        "years": [str(2000 + i) for i in range(width)],
    }[header]
    at = draw(st.sampled_from(dialect.words))
    rows = {
        "none": [f"row_{i}" for i in range(count)],
        "pandas": [str(i) for i in range(count)],
        "r": [str(i + 1) for i in range(count)],
        "named": [f"{at} {i + 1}" if dialect.delimiter != " " else f"{at}{i + 1}" for i in range(count)],
    }[index]
    lines = [[spelled(value, dialect) for value in line] for line in cells]
    if index != "none":
        lines = [[row, *line] for row, line in zip(rows, lines, strict=True)]
    top = list(names)
    if index == "r" and dialect.delimiter == " ":
        pass  # write.table leaves the corner out
    elif index != "none":
        called = {"pandas": ["", "index"], "r": [""], "named": ["id", "name", "shop"]}[index]
        corner = draw(st.sampled_from(called))
        corner = corner if corner not in names and (corner or dialect.delimiter != " ") else "id"
        top = [corner, *names]
    truth = {"header": header != "none", "layout": "table", "decimal": dialect.decimal, "delimiter": dialect.delimiter,
             "encoding": dialect.encoding}  # fmt: skip
    return Written([top, *lines] if header != "none" else lines, names, rows, cells, truth)


# What is read ---------------------------------------------------------------------------------------------------------


def typed(message: str) -> dict[str, Any]:
    """Return the settings that a refusal says to type, as a shell and the command read them."""
    words = shlex.split(message.rpartition(". Type: ")[2])
    assert all(word.startswith("data.") for word in words), message
    return files.typed_settings(dict(word.split("=", 1) for word in words))


def answered(message: str, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Return what somebody who knows the file does with a refusal: types what it says, or answers its question."""
    assert "\n" not in message
    assert len(message) < 3000, message
    named = re.findall(r"data\.(\w+)", message)
    assert named, f"names no setting: {message}"
    found = typed(message) if ". Type: " in message else {}
    return found | {name: truth[name] for name in named if name in truth}


def attempted(source: Any, container: Any, settings_: Mapping[str, Any]) -> tuple[Any, str | None]:
    """Return what is read, or why nothing is."""
    try:
        return read_data(source, container, **settings_), None
    except UserError as error:
        return None, str(error)


def read(source: Any, container: Any, truth: Mapping[str, Any], said: Mapping[str, Any], asked: str) -> Any:
    """Read what was written, following refusals; return None where one leads nowhere."""
    settings_ = dict(said)
    counts = ASKED.setdefault(asked, Counter())
    for attempt in range(4):
        found, refused = attempted(source, container, settings_)
        if refused is None:
            counts["asked" if attempt else "read"] += 1
            return found
        more = answered(refused, truth)
        assert any(settings_.get(name) != value for name, value in more.items()), f"nothing new to type: {refused}"
        settings_ |= more
    raise AssertionError(f"refused again and again, last with {settings_}")


def seen(table: Any) -> tuple[list[str], list[str], list[list[Any]]]:
    """Return names, labels and cells of a table that was read; None is missing."""
    if isinstance(table, Triplets):
        full = np.full(table.shape, np.nan if isinstance(table, Ratings) else 0.0)
        entries = table.values.numpy()
        full[entries[:, 0].astype(int), entries[:, 1].astype(int)] = entries[:, 2]
        if table.unobserved is not None:
            gone = table.unobserved.numpy()
            full[gone[:, 0], gone[:, 1]] = np.nan
        values = full.tolist()
    else:
        values = table.values.tolist()
    cells = [[None if math.isnan(value) else value for value in line] for line in values]
    if isinstance(table, Survey):
        levels = table.levels
        cells = [[None if c is None else levels[j][int(c)] for j, c in enumerate(line)] for line in cells]
    return list(table.column_labels), list(table.row_labels), cells


def same(found: Any, written: Written) -> None:
    """Assert that what was read is what was written."""
    columns, rows, cells = seen(found)
    assert columns == written.columns
    assert rows == written.rows
    assert cells == written.cells


def usual(kind: str, dialect: str) -> None:
    """Assert that refusals are not the rule."""
    counts = ASKED[f"{kind} {dialect}"]
    share = counts["asked"] / sum(counts.values())
    assert share <= (1 if dialect in ALWAYS else MOST_REFUSED[kind]), f"{kind} {dialect}: {share:.0%} are refused"


CONTAINERS = {"numbers": Table, "counts": Table, "categories": Survey}


@pytest.mark.parametrize("kind", list(CONTAINERS))
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_tables_are_read_as_they_were_written(tmp_path_factory, dialect, kind):
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    how = DIALECTS[dialect]

    @settings(max_examples=EXAMPLES)
    @given(written=tables(how, kind), large=st.booleans())
    def check(written: Written, large: bool) -> None:
        path.write_bytes(encoded(written.lines, how))
        with patch.object(text, "SMALL", 0 if large else text.SMALL):
            found = read(path, CONTAINERS[kind], written.truth, how.said, f"{kind} {dialect}")
        same(found, written)

    check()
    usual(kind, dialect)


@pytest.mark.parametrize("index", ["none", "pandas", "r", "named"])
@pytest.mark.parametrize("dialect", [each for each in DIALECTS if each != "dashes"])
def test_ordinary_tables_are_read_at_once(tmp_path, dialect, index):
    how, path = DIALECTS[dialect], tmp_path / "table.csv"
    generator = np.random.default_rng(0)
    cells: list[list[Any]] = [[round(float(x), 2) if j else int(9 * x) for j, x in enumerate(line)]
                              for line in generator.gamma(2, 1000, (10, 4))]  # fmt: skip
    cells[3][2] = None
    names = [how.words[i] for i in range(4)]
    rows = {"none": [f"row_{i}" for i in range(10)], "pandas": [str(i) for i in range(10)],
            "r": [str(i + 1) for i in range(10)], "named": [f"shop_{i}" for i in range(10)]}[index]  # fmt: skip
    lines = [[*([] if index == "none" else [row]), *(spelled(value, how) for value in line)]
             for row, line in zip(rows, cells, strict=True)]  # fmt: skip
    corner = {"none": [], "named": ["id"]}.get(index, [] if how.delimiter == " " else [""])
    path.write_bytes(encoded([[*corner, *names], *lines], how))
    same(read_data(path, Table, **how.said), Written(lines, names, rows, cells, {}))


# Other sources --------------------------------------------------------------------------------------------------------


def frame_of(written: Written, index: bool) -> pd.DataFrame:
    """Return a table as pandas has it, its labels in the index or in a first column."""
    columns = {name: pd.Series([line[j] for line in written.cells]) for j, name in enumerate(written.columns)}
    frame = pd.DataFrame(columns)
    if written.rows[0] == "row_0":
        return frame
    frame.index = pd.Index(written.rows, name="id" if index else "shop_id")
    return frame if index else frame.reset_index()


SOURCES = {"xlsx": ".xlsx", "parquet": ".parquet", "feather": ".feather", "gzip": ".csv.gz", "frame": ""}
"""Other sources, and how their files end."""


def stored(frame: pd.DataFrame, source: str, path: Path, index: bool) -> Any:
    """Write a frame, and return the path, or the frame itself."""
    path = path.with_suffix(SOURCES[source])
    if source == "frame":
        return frame
    if source == "xlsx":
        frame.to_excel(path, index=index)
    elif source == "gzip":
        frame.to_csv(path, index=index)
    else:
        getattr(frame, f"to_{source}")(path)
    return path


@pytest.mark.parametrize("kind", list(CONTAINERS))
@pytest.mark.parametrize("source", list(SOURCES))
def test_other_sources_are_read_as_they_were_written(tmp_path_factory, source, kind):
    path = tmp_path_factory.mktemp("sources") / "table"

    @settings(max_examples=EXAMPLES // 2)
    @given(written=tables(Dialect(words=(*WORDS, *ANY)), kind), index=st.booleans())
    def check(written: Written, index: bool) -> None:
        frame = frame_of(written, index)
        kept = index and written.rows[0] != "row_0"
        made = stored(frame, source, path, kept)
        rows = written.rows
        if rows[0] == "row_0" and source == "frame":
            rows = [str(i) for i in range(len(rows))]  # a frame numbers its rows itself
        found = read(made, CONTAINERS[kind], written.truth, {}, f"{kind} {source}")
        same(found, Written(written.lines, written.columns, rows, written.cells, written.truth))

    check()
    usual(kind, source)


# Lists ----------------------------------------------------------------------------------------------------------------


@st.composite
def lists(draw: Callable[..., Any], dialect: Dialect, container: Any) -> Written:
    """Draw a list: pairs of labels, a value of each unless it has two columns, and perhaps a time."""
    words, width = st.sampled_from(dialect.words), draw(st.sampled_from([2, 3, 3, 3, 4]))
    labels = []
    for axis in range(2):
        many, numeric = draw(st.integers(2, 6)), draw(st.booleans())
        start = draw(st.sampled_from([0, 1, 100]))
        called = draw(st.lists(words, min_size=many, max_size=many))
        join = "" if dialect.delimiter == " " else " "
        labels.append(
            [str(start + i) if numeric else f"{word}{join}{'ABCDEF'[i]}{axis}" for i, word in enumerate(called)]
        )
    pairs = [(row, column) for row in labels[0] for column in labels[1]]
    pairs = draw(st.permutations(pairs))[: draw(st.integers(min(3, len(pairs)), len(pairs)))]
    pairs = [
        (labels[0][0], labels[1][0]),
        (labels[0][0], labels[1][1]),
        *(pair for pair in pairs if pair[0] != labels[0][0] or pair[1] not in labels[1][:2]),
    ]  # labels occur again
    if draw(st.booleans()):
        pairs = sorted(pairs, key=lambda pair: labels[0].index(pair[0]))
    kinds = {Ratings: st.integers(1, 5), Triplets: st.integers(1, 40)}
    value = (
        st.integers(2, 10).map(lambda each: each / 2)
        if container is Ratings and draw(st.booleans())
        else kinds[container]
    )
    values = [draw(value) for _ in pairs]
    if any(isinstance(each, float) for each in values):
        values[0] = 2.5  # the decimal mark can be found
    times = [str(1_000_000_000 + draw(st.integers(0, 9999))) for _ in pairs]
    lines = [
        [*pair, spelled(each, dialect), time][:width] for pair, each, time in zip(pairs, values, times, strict=True)
    ]
    if width == 2:
        values = [1 for _ in pairs]
    header = draw(st.sampled_from(["none", "none", "roles", "odd"]))
    roles = draw(st.sampled_from([["userId", "movieId", "rating", "timestamp"], ["row", "column", "value", "time"],
                                  ["user", "item", "count", "date"]]))  # fmt: skip
    top = {"none": [f"column_{i}" for i in range(4)], "roles": roles, "odd": ["alpha", "beta", "gamma", "delta"]}[
        header
    ]
    truth = {"header": header != "none", "layout": "list", "decimal": dialect.decimal, "delimiter": dialect.delimiter,
             "encoding": dialect.encoding}  # fmt: skip
    truth |= dict(zip(("row", "column", "value"), top[: min(width, 3)], strict=False))
    entries = sorted((*pair, float(each)) for pair, each in zip(pairs, values, strict=True))
    names = [sorted({pair[axis] for pair in pairs}) for axis in range(2)]
    return Written(
        [top[:width], *lines] if header != "none" else lines, names[1], names[0], [list(e) for e in entries], truth
    )


@pytest.mark.parametrize("container", [Ratings, Triplets], ids=["ratings", "triplets"])
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_lists_are_read_as_they_were_written(tmp_path_factory, dialect, container):
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    how = DIALECTS[dialect]

    @settings(max_examples=EXAMPLES)
    @given(written=lists(how, container), large=st.booleans())
    def check(written: Written, large: bool) -> None:
        path.write_bytes(encoded(written.lines, how))
        with patch.object(text, "SMALL", 0 if large else text.SMALL):
            found = read(path, container, written.truth, how.said, f"{container.__name__} {dialect}")
        same_list(found, written)

    check()
    usual(container.__name__, dialect)


def same_list(found: Any, written: Written) -> None:
    """Assert that the pairs that were read are those that were written, under the same labels."""
    rows, columns = list(found.row_labels), list(found.column_labels)
    entries = sorted((rows[int(i)], columns[int(j)], value) for i, j, value in found.values.tolist())
    assert [list(each) for each in entries] == written.cells
    assert (sorted(rows), sorted(columns)) == (written.rows, written.columns)

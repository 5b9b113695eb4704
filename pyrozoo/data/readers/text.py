"""Delimited text as people have it: encoding, delimiter and decimal mark are found, or said; Arrow does the reading."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import csv as arrow_csv

from pyrozoo.core.errors import DataError, SettingError, first_line
from pyrozoo.data.readers.arrow import strings
from pyrozoo.data.readers.cells import INTEGER, MISSING, SPELLINGS, decimal_of, plain
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw

HEAD = 2**18
"""Bytes of the beginning that are looked at to tell how a file is written."""

SMALL = 2**22
"""Bytes up to which all cells are read as text; of larger files columns of plain numbers are read as numbers."""

CANDIDATES = ("\t", ";", "|", "::", ",")
"""Delimiters that are looked for, in the order in which they are taken where several would do."""

LOOKED = 200
"""Records that the delimiter is found by."""

STAND_IN = "\x1f"
"""Unit separator: stands for delimiters of several characters, which Arrow does not take."""

MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
"""Byte order marks, the longer ones first."""

WESTERN = re.compile(r"[^\x00-\x7f]{4,}")
"""Runs of letters that no language of Western Europe has: there a file is in another encoding than cp1252."""

MOST_SAID = 20
"""Ragged records that one message counts one by one."""

SPELLED = {"\t": "tab", " ": "space"}


def read_text(path: Path, layout: Layout, opened: Callable[[], BinaryIO] | None = None) -> Raw:
    """Read delimited text.

    Args:
        path: The file.
        layout: What is said of it.
        opened: Opens what the file holds, where it is compressed.

    Returns:
        Its columns, and its first record apart from them: it may be a header.

    Raises:
        DataError: Not text, or ragged: all such records.
        SettingError: A delimiter or an encoding that cannot be one.
    """
    try:
        with opened() if opened else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise DataError(f"{path.name} cannot be read ({first_line(error)})") from None
    content, encoding, notes = decoded(content, layout.encoding, path.name)
    content, said, more = _preamble(content)
    if not content[:HEAD].strip() and not content.strip():
        raise DataError(f"{path.name}: the table is empty")
    text = _head(content)
    usual = "\t" if path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")) else ","
    delimiter = _stated(layout) or said or _delimiter(text, usual)
    facts = {"encoding": encoding, "delimiter": SPELLED.get(delimiter, delimiter)}
    if layout.delimiter is None and delimiter != usual and delimiter in text:
        more += (f"cells are separated by {SPELLED.get(delimiter, repr(delimiter))} (data.delimiter)",)
    if len(delimiter) > 1 or delimiter == " ":
        content, delimiter = _replaced(content, delimiter, path.name), STAND_IN
        text = _head(content)
    records = sample(text, delimiter)
    if not records:
        raise DataError(f"{path.name} is not readable text: a quote is never closed")
    if all(cell[:1] == " " for record in records for cell in record[1:]) and len(records[0]) > 1:
        content = re.sub(re.escape(delimiter.encode()) + rb" +", delimiter.encode(), content)
        records = sample(_head(content), delimiter)
    decimal, note, problem = decimal_of(itertools.chain.from_iterable(records), layout.decimal, delimiter)
    columns = _columns(content, delimiter, records, decimal, path.name)
    return Raw(
        path.name, "text", columns, head=tuple(records[0]), first=2, notes=(*notes, *more, *([note] if note else [])),
        problems=(problem,) if problem else (), facts={**facts, "decimal": decimal},
        stated=frozenset({"header", "delimiter", "encoding", "decimal"}),
    )  # fmt: skip


def _head(content: bytes) -> str:
    """Return the beginning of a text, up to the end of a line."""
    head = content if len(content) <= HEAD else content[: content.rfind(b"\n", 0, HEAD) + 1 or HEAD]
    return head.decode("utf-8", errors="replace")


def _preamble(content: bytes) -> tuple[bytes, str | None, tuple[str, ...]]:
    """Take off what stands above a table: blank lines, comments, and the line by which Excel names the delimiter."""
    content, said, comments = content.lstrip(b"\r\n"), None, 0
    if found := re.match(rb"sep=(.)\r?\n", content):
        content, said = content[found.end() :], found[1].decode()
    while found := re.match(rb"#[^\r\n]*(\r\n|\r|\n)\s*", content):
        content, comments = content[found.end() :], comments + 1
    notes = (f"{comments} lines above the table begin with #: left out",) if comments else ()
    return content, said, notes


# Letters --------------------------------------------------------------------------------------------------------------


def decoded(content: bytes, encoding: str | None, name: str) -> tuple[bytes, str, tuple[str, ...]]:
    """Return a file's text as UTF-8 without a mark, how it was encoded, and a note where that was guessed.

    Raises:
        DataError: It is not text, or nobody can tell in which encoding.
        SettingError: There is no such encoding, or it is not that of the file.
    """
    marked = next(((mark, each) for mark, each in MARKS if content.startswith(mark)), None)
    if encoding is None and marked is not None:
        found = marked[1]
        body = content[len(marked[0]) :] if found == "utf-8" else content
        return (body if found == "utf-8" else _recoded(body, found, name)), found, ()
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise SettingError(f"data.encoding is {encoding!r}, which is none; utf-8, cp1252 and utf-16 are") from None
        if codecs.lookup(encoding).name in ("utf-8", "ascii") and content.startswith(codecs.BOM_UTF8):
            content = content[len(codecs.BOM_UTF8) :]
        return _recoded(content, encoding, name), encoding, ()
    if content.isascii() and b"\0" not in content[:HEAD]:
        return content, "ascii", ()
    if b"\0" in content[:HEAD]:
        return _wide(content, name)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        found = _guessed(content, name)
        return _recoded(content, found, name), found, (f"encoding {found}, as its letters suggest (data.encoding)",)
    return content, "utf-8", ()


def _recoded(content: bytes, encoding: str, name: str) -> bytes:
    try:
        return content.decode(encoding).removeprefix("\ufeff").encode("utf-8")
    except (UnicodeError, ValueError) as error:
        raise DataError(f"{name} is not text in {encoding} ({first_line(error)}): set data.encoding") from None


def _wide(content: bytes, name: str) -> tuple[bytes, str, tuple[str, ...]]:
    """Tell UTF-16 without a mark, in which every other byte of plain letters is 0, from what is no text."""
    head = content[:HEAD]
    for encoding, start in (("utf-16-le", 1), ("utf-16-be", 0)):
        zero, other = head[start::2].count(0), head[1 - start :: 2].count(0)
        if zero > len(head) // 5 and not other and len(content) % 2 == 0:
            said = (f"encoding {encoding}, as its zero bytes suggest (data.encoding)",)
            return _recoded(content, encoding, name), encoding, said
    raise DataError(f"{name} is not text (byte {content.index(0)} is zero), and of no other kind that is read")


def _guessed(content: bytes, name: str) -> str:
    """Guess an encoding of one byte per letter: cp1252 where the letters are those of Western Europe."""
    lines = b"\n".join(itertools.islice((line for line in content.split(b"\n") if not line.isascii()), 2000))
    try:
        western = lines.decode("cp1252")
    except UnicodeDecodeError:
        western = None
    if western is not None and not WESTERN.search(western):
        return "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(lines).best()
    if best is None:
        raise DataError(f"{name} is not UTF-8, and its encoding is not plain: set data.encoding, such as cp1252")
    return str(best.encoding)


# Cells ----------------------------------------------------------------------------------------------------------------


def _stated(layout: Layout) -> str | None:
    """Return the delimiter that is said, or raise SettingError where it cannot be one."""
    found = layout.separator
    if found is not None and (not found or set(found) & set('"\r\n')):
        raise SettingError(
            f"data.delimiter is {layout.delimiter!r}; it must be a character or more, such as ; or tab, and no quote"
        )
    return found


def sample(text: str, delimiter: str, most: int | None = None) -> list[list[str]]:
    """Return the first records of a text, without blank ones."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return list(itertools.islice((line for line in lines if line), most))
    except csv.Error:
        return []
    finally:
        csv.field_size_limit(limit)


def _delimiter(text: str, usual: str) -> str:
    """Find what stands between cells: what cuts records into equally many clean ones."""
    scores: dict[str, tuple[float, float]] = {}
    lines = text.splitlines()[: 2 * LOOKED]
    for each in CANDIDATES:
        if each not in text:
            continue
        cut = "\n".join(line.replace(each, STAND_IN) for line in lines) if len(each) > 1 else text
        records = sample(cut, STAND_IN if len(each) > 1 else each, LOOKED)
        widths = Counter(map(len, records))
        width, count = widths.most_common(1)[0] if widths else (1, 0)
        if width == 1:
            continue
        cells = [cell for record in records if len(record) == width for cell in record]
        others = [other for other in CANDIDATES if other not in (each, ",")] + ([","] if each == "," else [])
        clean = sum(not any(other in cell for other in others if other != each) for cell in cells) / max(1, len(cells))
        scores[each] = (round(count / len(records), 2), round(clean, 2))
    good = {each: score for each, score in scores.items() if score[0] >= 0.9 or len(lines) < 5}
    if good:
        best = max(good.values())
        return usual if good.get(usual) == best else next(each for each in CANDIDATES if good.get(each) == best)
    if scores:
        return usual if usual in scores else max(scores, key=lambda each: scores[each])
    words = [len(line.split()) for line in lines if line.strip()]
    numbers = [all(map(_looks_number, line.split())) for line in lines[1:] if line.strip()]
    if len(set(words)) == 1 and words[0] > 1 and numbers and all(numbers):
        return " "
    return usual


def _looks_number(cell: str) -> bool:
    return plain(cell.strip('"')) is not None or cell.strip('"').lower() in MISSING


def _replaced(content: bytes, delimiter: str, name: str) -> bytes:
    """Put one character in the place of a delimiter of several, or of runs of spaces."""
    if STAND_IN.encode() in content:
        raise DataError(f"{name} holds the control character U+001F: its delimiter must be one character")
    if delimiter == " ":
        content = re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", content)
        return re.sub(rb"[ \t]+", STAND_IN.encode(), content)
    return content.replace(delimiter.encode(), STAND_IN.encode())


def _columns(
    content: bytes, delimiter: str, records: Sequence[list[str]], decimal: str, name: str
) -> list[pa.ChunkedArray]:  # fmt: skip
    """Read all records but the first by Arrow: as text, or in large files columns of plain numbers as numbers.

    A first record that is one cell short, as R writes it, is as wide as the others otherwise.
    """
    width = len(records[0]) + _short(records)
    if len(records) == 1 and len(content) <= HEAD:
        return [pa.chunked_array([], pa.string())] * width
    if width == 1:
        return [_lone(content, name)]
    if content.count(b'"') % 2:
        _closed(content, delimiter, name)
    if len(content) > SMALL and (kinds := _kinds(records[1:], width, decimal)):
        try:
            return _arrow(content, delimiter, width, kinds, decimal, name)
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            pass  # a cell further down is no such number: all of them as text
    return _arrow(content, delimiter, width, {}, decimal, name)


def _closed(content: bytes, delimiter: str, name: str) -> None:
    """Refuse a quote that is never closed: it would swallow all records after it."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        lines = io.StringIO(content.decode("utf-8"), newline="")
        for _ in csv.reader(lines, delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise DataError(f"{name} is not a readable CSV file: a quote is never closed") from None
    finally:
        csv.field_size_limit(limit)


def _short(records: Sequence[list[str]]) -> bool:
    """Return whether the first record lacks the name of the first column, which names rows: as R writes tables."""
    width, others = len(records[0]) + 1, records[1:]
    firsts = [record[0] for record in others]
    trailing = all(not record[-1] for record in others)  # a delimiter at the end of each line
    return (
        len(others) > 1
        and all(len(record) == width for record in others)
        and (trailing or len({*firsts}) == len(firsts))
    )


def _kinds(records: Sequence[list[str]], width: int, decimal: str) -> dict[int, pa.DataType]:
    """Return the columns that hold plain numbers as far as the first records go, and of what type."""
    found: dict[int, pa.DataType] = {}
    for i in range(width):
        cells = [each for record in records if len(record) == width and (each := record[i]).lower() not in MISSING]
        if cells and all(map(INTEGER.fullmatch, cells)):
            found[i] = pa.int64()
        elif cells and all(_decimal(cell, decimal) for cell in cells):
            found[i] = pa.float64()
    return found


def _decimal(cell: str, decimal: str) -> bool:
    return (
        re.fullmatch(r"-?\d+([.,]\d+)?([eE][+-]?\d+)?", cell) is not None
        and ("," if decimal == "." else ".") not in cell
    )


def _arrow(
    content: bytes, delimiter: str, width: int, kinds: Mapping[int, pa.DataType], decimal: str, name: str
) -> list[pa.ChunkedArray]:  # fmt: skip
    names = [str(i) for i in range(width)]
    ragged: list[arrow_csv.InvalidRow] = []

    def kept(row: arrow_csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    def read(threads: bool) -> pa.Table:
        return arrow_csv.read_csv(
            pa.BufferReader(content),
            arrow_csv.ReadOptions(use_threads=threads, column_names=names, skip_rows_after_names=1, block_size=2**22),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in content, invalid_row_handler=kept),
            arrow_csv.ConvertOptions(
                column_types={each: kinds.get(i, pa.string()) for i, each in enumerate(names)},
                null_values=["", *SPELLINGS], strings_can_be_null=False, quoted_strings_can_be_null=False,
                decimal_point=decimal, check_utf8=False,
            ),
        )  # fmt: skip

    try:
        table = read(True)
        if ragged:
            ragged.clear()
            read(False)  # one thread knows the numbers of records
    except pa.ArrowInvalid as error:
        if kinds:
            raise
        raise DataError(f"{name} is not readable text ({first_line(error)})") from None
    if ragged:
        said = [f"record {row.number} has {row.actual_columns} cells" for row in ragged[:MOST_SAID]]
        more = f" (and {len(ragged) - MOST_SAID} more)" if len(ragged) > MOST_SAID else ""
        raise DataError(
            f"{name}: {', '.join(said)}{more} where {width} are expected (a truncated file, or a delimiter inside?)"
        )
    return [table.column(i) for i in range(width)]


def _lone(content: bytes, name: str) -> pa.ChunkedArray:
    """Read a lone column, in which a blank line is a missing cell."""
    lines = content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    try:
        cells = [record[0] if (record := next(csv.reader([line], strict=True), [])) else "" for line in lines[1:]]
    except csv.Error as error:
        raise DataError(f"{name} is not a readable CSV file ({first_line(error)})") from None
    while cells and not cells[-1]:
        cells.pop()
    return pa.chunked_array([strings(cells)])

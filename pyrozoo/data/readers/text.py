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
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from pyrozoo.core.errors import DataError, SettingError, first_line
from pyrozoo.data.readers.arrow import strings
from pyrozoo.data.readers.cells import INTEGER, MISSING, SPELLINGS, decimal_of, is_text, plain
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw
from pyrozoo.data.readers.words import as_typed

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

CYRILLIC = ("cp1251", "koi8-r", "cp866")
"""Encodings of Cyrillic text, the usual one first."""

ENOUGH = 200
"""Letters beyond ASCII by which an encoding can be told from all others."""

_SIGNS = "[\xa2-\xa8\xac\xaf\xb1\xb6\xb8\xb9\xbc-\xbe\xd7\xf7\u0192\u02c6\u02dc]"

_FOREIGN = re.compile(
    r"[^\W\d_a-zA-Z]{3,}|[^\x00-\x7f]{4,}"  # runs that no language of Western Europe has
    rf"|{_SIGNS}(?=[^\W\d_])|(?<=[^\W\d_]){_SIGNS}"  # signs beside letters
    "|(?<=[^\\W\\d_])[\u20ac\u201a\u201e\u201c\u201d\u2020\u2021\u2026\u2030\u2039\u203a](?=[^\\W\\d_])"
    r"|(?<=[^\W\d_m])[\xb2\xb3]|[\xb2\xb3](?=[^\W\d_])|\xbf(?=[^\W\d_])(?![^?]*\?)|(?<=[^\W\d_])\xbf"
    "|[a-z][\xc0-\xde\u0160\u017d\u0152][a-z]"  # a large letter in the middle
    "|[\xd0\xf0\xdd\xfd\xde\xfe]"  # Icelandic, or six letters of Turkish
    r"|\u0178|\u0153(?=[^\W\d_ucisdntr])"
)
"""What text that is decoded as cp1252 shows where it is in another encoding."""

_CYRILLIC = re.compile("[\u0410-\u042f\u0401-\u040f]?[\u0430-\u045f]+|[\u0410-\u042f\u0401-\u040f]+")

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
    content, titles = _below_titles(content, text, delimiter)
    more += (f"above the table, left out: {', '.join(titles)}",) if titles else ()
    text = _head(content) if titles else text
    records = sample(text, delimiter)
    if not records:
        raise DataError(f"{path.name} is not readable text: a quote is never closed")
    if all(cell[:1] == " " for record in records for cell in record[1:]) and len(records[0]) > 1:
        content = re.sub(re.escape(delimiter.encode()) + rb" +", delimiter.encode(), content)
        records = sample(_head(content), delimiter)
    decimal, note, problem = decimal_of(
        itertools.chain.from_iterable(records), layout.decimal, delimiter if len(records[0]) > 1 else ""
    )
    if layout.delimiter is None and delimiter in ",;|" and _halved(records) and '"' not in text:
        other = ";" if delimiter == "," else ","
        raise DataError(
            f"{path.name}: {delimiter.join(records[1])!r} below one name may be one cell or two: set "
            f"{as_typed('delimiter', other)} (then it is one) or {as_typed('delimiter', delimiter)} (then it is two)"
        )
    _check_stated(text, layout, delimiter, path.name)
    if layout.delimiter is None and (words := _wordy(text, records)):
        raise DataError(
            f"{path.name}: each line is {words} words: set data.delimiter=space (then each is a cell) or "
            "data.delimiter=, (then each line is one cell)"
        )
    columns = _columns(content, delimiter, records, decimal, path.name)
    head, columns = _without_ends(records[0], columns)
    return Raw(
        path.name, "text", columns, head=tuple(head), first=2, notes=(*notes, *more, *([note] if note else [])),
        problems=(problem,) if problem else (), facts={**facts, "decimal": decimal},
        stated=frozenset({"header", "delimiter", "encoding", "decimal"}),
    )  # fmt: skip


def _halved(records: Sequence[list[str]]) -> bool:
    """Return whether each line but the first, which has one cell, has two: or one that holds what is no delimiter."""
    return _short(records) and len(records[0]) == 1 and any(record[1] for record in records[1:])


def _below_titles(content: bytes, text: str, delimiter: str) -> tuple[bytes, list[str]]:
    """Take off lines with text in their first cell alone, above a table of three columns or more."""
    records, titles = sample(text, delimiter, LOOKED), []
    widths = Counter(len(record) for record in records)
    if len(records) < 3 or widths.most_common(1)[0][0] < 3:
        return content, []
    while len(records) > 2 and records[0][0].strip() and not any(cell.strip() for cell in records[0][1:]):
        title, records = records.pop(0)[0], records
        if "\n" in title or _looks_number(title):
            return content, []
        titles.append(repr(title.strip()))
        content = content.partition(b"\n" if b"\n" in content else b"\r")[2]
        content = content.lstrip(b"\r\n")
        while records and not any(cell.strip() for cell in records[0]):
            records.pop(0)
            content = content.partition(b"\n" if b"\n" in content else b"\r")[2]
    return content, titles


def _check_stated(text: str, layout: Layout, delimiter: str, name: str) -> None:
    """Refuse a delimiter that is said and occurs nowhere, where another one is in each line."""
    if layout.delimiter is None or layout.decimal is not None or delimiter in text:
        return
    lines = [line for line in text.splitlines() if line.strip()][:LOOKED]
    for other in CANDIDATES:
        counts = {line.count(other) for line in lines}
        if len(lines) > 1 and len(counts) == 1 and counts.pop():
            more = " (set data.decimal=, too if it is the decimal mark)" if other == "," else ""
            said = SPELLED.get(other, other)
            raise DataError(f"{name}: data.delimiter is {layout.delimiter!r}, and each line has {said!r} instead{more}")


def _wordy(text: str, records: Sequence[list[str]]) -> int:
    """Return of how many words each line is, if it is one cell and they are equally many: 0 where that says nothing."""
    if len(records) < 3 or any(len(record) > 1 for record in records) or '"' in text:
        return 0
    counts = {len(record[0].split()) for record in records}
    return counts.pop() if len(counts) == 1 and 1 not in counts else 0


def _without_ends(head: list[str], columns: list[pa.ChunkedArray]) -> tuple[list[str], list[pa.ChunkedArray]]:
    """Leave out columns at the end that have neither a name nor a cell: delimiters at the ends of lines."""
    while len(columns) > 1 and len(head) >= len(columns) - 1 and not "".join(head[len(columns) - 1 :]).strip():
        column = columns[-1]
        kept = pc.any(pc.not_equal(pc.utf8_trim_whitespace(column), "")) if is_text(column) else pa.scalar(True)
        if kept.as_py():
            break
        head, columns = head[: len(columns) - 1], columns[:-1]
    return head, columns


def _head(content: bytes) -> str:
    """Return the beginning of a text, up to the end of a line."""
    head = content if len(content) <= HEAD else content[: content.rfind(b"\n", 0, HEAD) + 1 or HEAD]
    return head.decode("utf-8", errors="replace")


def _preamble(content: bytes) -> tuple[bytes, str | None, tuple[str, ...]]:
    """Take off what stands above a table: blank lines, comments, and the line by which Excel names the delimiter."""
    content, said, comments = content.lstrip(b"\r\n"), None, 0
    if found := re.match(rb"sep=(.)\r?\n", content):
        content, said = content[found.end() :], found[1].decode()
    while found := re.match(rb"#([^\r\n]*)(?:\r\n|\r|\n)[\r\n]*", content):
        if said is None and _alike(found[0], content[found.end() :]):  # names behind a #, as NumPy writes them
            content = content if found[1].lstrip()[:1] in b",;\t|" else found[1].lstrip() + content[len(found[1]) + 1 :]
            break
        content, comments = content[found.end() :], comments + 1
    notes = (f"{comments} lines above the table begin with #: left out",) if comments else ()
    return content, said, notes


def _alike(line: bytes, rest: bytes) -> bool:
    """Return whether a delimiter is as often in a line as in the next one."""
    following = re.match(rb"[^\r\n]*", rest)
    return following is not None and any(
        0 < line.count(each) == following[0].count(each) for each in (b",", b";", b"\t", b"|")
    )


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
        found, example = _guessed(content, name)
        said = f"encoding {found}, as its letters suggest: {example!r} (data.encoding)"
        return _recoded(content, found, name), found, (said,)
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


def _guessed(content: bytes, name: str) -> tuple[str, str]:
    """Guess an encoding other than UTF-8, and return it with a word that shows how it reads.

    cp1252 where the letters are those of Western Europe, a Cyrillic one where that gives words; another one only where
    there is enough text to tell.

    Raises:
        DataError: Nobody can tell.
    """
    lines = b"\n".join(itertools.islice((line for line in content.split(b"\n") if not line.isascii()), 2000))
    try:
        western = lines.decode("cp1252")
    except UnicodeDecodeError:
        western = None
    _mostly(lines, name)
    if western is not None and not _FOREIGN.search(western) and not _apart(western):
        return "cp1252", _example(western)
    cyrillic = [(score, encoding) for encoding in CYRILLIC if (score := _cyrillic(lines, encoding)) > (0.0, 0)]
    if cyrillic:
        encoding = max(cyrillic, key=lambda each: each[0])[1]
        return encoding, _example(lines.decode(encoding))
    if len(lines) - len(re.sub(rb"[\x80-\xff]", b"", lines)) >= ENOUGH:
        from charset_normalizer import from_bytes

        if (best := from_bytes(lines).best()) is not None:
            return str(best.encoding), _example(lines.decode(best.encoding))
    raise DataError(
        f"{name} is not UTF-8, and too little of its text tells in which encoding it is: set data.encoding, such as "
        "cp1250 (Central Europe), cp1251 (Cyrillic), cp1253 (Greek), shift_jis (Japanese) or gb18030 (Chinese)"
    )


def _mostly(lines: bytes, name: str) -> None:
    """Refuse text that is UTF-8 but for a few bytes: in another encoding all of its other letters would be wrong."""
    wrong = lines.decode("utf-8", errors="replace")
    right = sum(not each.isascii() and each != "\ufffd" for each in wrong)
    if right >= wrong.count("\ufffd"):
        line = next(line for line in wrong.split("\n") if "\ufffd" in line)
        raise DataError(f"{name} is UTF-8 but for a few bytes ({line.strip()[:60]!r}): mend them, or set data.encoding")


def _apart(text: str) -> bool:
    """Return whether all words with letters beyond ASCII have no others: no language of Western Europe writes so."""
    words = [word for word in re.findall(r"[^\W\d_]{2,}", text) if not word.isascii()]
    return bool(words) and not any(re.search("[A-Za-z]", word) for word in words)


def _cyrillic(lines: bytes, encoding: str) -> tuple[float, int]:
    """Return the share of words that are written as Cyrillic ones are, 0 if small, and the number of small letters."""
    try:
        text = lines.decode(encoding)
    except UnicodeDecodeError:
        return 0.0, 0
    words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
    signs = re.findall(r"[^\x00-\x7f\w\xab\xbb\u2013\u2014\u2116\u201c-\u201e]", text)
    right = sum(_CYRILLIC.fullmatch(word) is not None for word in words)
    small = sum(map(str.islower, "".join(words)))
    share = (right - len(signs)) / len(words) if words else 0.0
    sure = share >= 0.9 and (encoding == CYRILLIC[0] or 2 * small >= len("".join(words)))
    return (share, small) if sure else (0.0, 0)


def _example(text: str) -> str:
    """Return a word with a letter beyond ASCII."""
    words = [word for word in re.findall(r"\w+", text) if not word.isascii()]
    return max(words, key=len)[:20] if words else ""


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
    return " " if _spaced([line for line in lines if line.strip()]) else usual


def _spaced(lines: Sequence[str]) -> bool:
    """Return whether spaces are between cells: equally many of them, of which some are numbers in each line or quoted.

    The first line may be one cell short, as R writes it.
    """
    cut = [(sample(re.sub(r"[ \t]+", " ", line.strip()), " ") or [[]])[0] for line in lines]
    if len(cut) < 2 or len({*map(len, cut[1:])}) > 1:
        return False
    width, body = len(cut[1]), cut[1:]
    if width < 2 or len(cut[0]) not in (width, width - 1):
        return False
    if any(re.search(r'"[ \t]+"', line) for line in lines):
        return True
    return any(all(_looks_number(line[i]) for line in body) for i in range(width))


def _looks_number(cell: str) -> bool:
    return plain(cell.strip('"')) is not None or cell.strip('"').lower() in MISSING


def _replaced(content: bytes, delimiter: str, name: str) -> bytes:
    """Put one character in the place of a delimiter of several, or of runs of spaces."""
    if STAND_IN.encode() in content:
        raise DataError(f"{name} holds the control character U+001F: its delimiter must be one character")
    if delimiter == " ":
        content = re.sub(rb"(?m)^[ \t]+|(?<![ \t])[ \t]++(?=\r?$)", b"", content)
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
        return [_lone(content, delimiter, name)]
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
        cells = {record[i] for record in records if len(record) == width}  # each spelling is looked at once
        cells = {each for each in cells if each.lower() not in MISSING}
        if cells and all(map(INTEGER.fullmatch, cells)):
            found[i] = pa.int64()
        elif cells and all(_decimal(cell, decimal) for cell in cells):
            found[i] = pa.float64()
    return found


_PLAIN = re.compile(r"-?\d+([.,]\d+)?([eE][+-]?\d+)?")


def _decimal(cell: str, decimal: str) -> bool:
    return _PLAIN.fullmatch(cell) is not None and ("," if decimal == "." else ".") not in cell


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


def _lone(content: bytes, delimiter: str, name: str) -> pa.ChunkedArray:
    """Read a lone column, in which a blank line is a missing cell."""
    lines = content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    found: list[str] = []
    try:
        for record in csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter, strict=True):
            if len(record) > 1:
                raise DataError(
                    f"{name}: record {len(found) + 1} has {len(record)} cells where 1 is expected; if the comma is the "
                    "decimal mark, set \"data.delimiter=;\"" if delimiter == "," else
                    f"{name}: record {len(found) + 1} has {len(record)} cells where 1 is expected"
                )  # fmt: skip
            found.append(record[0] if record else "")
    except csv.Error as error:
        raise DataError(f"{name} is not a readable CSV file ({first_line(error)})") from None
    cells = found[1:]
    while cells and not cells[-1]:
        cells.pop()
    return pa.chunked_array([strings(cells)])

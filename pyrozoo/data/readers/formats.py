"""Every format of files: recognised by first bytes and ending, and read, or refused with what to do."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import pyarrow as pa

from pyrozoo.core.errors import DataError
from pyrozoo.data.readers.guard import check_packed, meant, readable
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw, existing

HEAD = 4096
"""Bytes that a format is recognised by."""


@dataclass(frozen=True)
class Format:
    """A format that is read.

    Attributes:
        name: What it is called.
        endings: Of its files, the usual one first.
        settings: Those of ``guard.WRITTEN`` that have a meaning for it.
        room: The module that reads it.
        reader: The function there.
        more: Arguments of it between the path and the layout.
    """

    name: str
    endings: tuple[str, ...]
    settings: frozenset[str]
    room: str
    reader: str
    more: tuple[str, ...] = ()

    def read(self, path: Path, layout: Layout) -> Raw:
        """Read a file of this format; the library that does is imported only now."""
        import importlib

        function = getattr(importlib.import_module(f"pyrozoo.data.readers.{self.room}"), self.reader)
        return cast(Raw, function(path, *self.more, layout))


def _statistics(name: str, *endings: str, settings: tuple[str, ...] = ("encoding", "decimal")) -> Format:
    return Format(name, endings, frozenset(settings), "statistics", "read_statistics", (name,))


def _columnar(name: str, reader: str, *endings: str) -> Format:
    return Format(name, endings, frozenset({"decimal"}), "columnar", reader)


TEXT = frozenset({"header", "delimiter", "encoding", "decimal"})

FORMATS = {
    each.name: each
    for each in (
        Format("Excel", (".xlsx", ".xlsm"), frozenset({"header", "key", "decimal"}), "sheets", "read_workbook"),
        Format("OpenDocument", (".ods",), frozenset({"header", "key", "decimal"}), "sheets", "read_ods"),
        _statistics("SPSS", ".sav", ".zsav"),
        _statistics("SPSS portable", ".por", settings=("decimal",)),
        _statistics("Stata", ".dta"),
        _statistics("SAS", ".sas7bdat"),
        _statistics("SAS transport", ".xpt"),
        _columnar("Parquet", "parquet_raw", ".parquet", ".pq"),
        _columnar("Feather", "read_feather", ".feather", ".arrow", ".arrows", ".ipc"),
        Format("NumPy", (".npy",), frozenset(), "arrays", "numpy_raw"),
        Format("NumPy archive", (".npz",), frozenset({"key"}), "arrays", "numpy_raw"),
        Format("MatrixMarket", (".mtx",), frozenset(), "arrays", "matrix_raw"),
        Format("IDX", (".idx",), frozenset(), "arrays", "idx_raw"),
    )
}  # fmt: skip

PICTURES = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"BM": "BMP",
    b"II*\0": "TIFF", b"MM\0*": "TIFF",
}  # fmt: skip
"""First bytes of pictures."""

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

MAGIC = {
    b"PAR1": "Parquet", b"ARROW1": "Feather", b"FEA1": "Feather", b"\xff\xff\xff\xff": "Feather",
    b"\x93NUMPY": "NumPy", b"%%MatrixMarket": "MatrixMarket", b"$FL2": "SPSS", b"$FL3": "SPSS",
    b"<stata_dta>": "Stata", b"HEADER RECORD*******LIB": "SAS transport",
    b"\0" * 12 + b"\xc2\xea\x81\x60\xb3\x14\x11\xcf": "SAS",
}  # fmt: skip
"""First bytes of formats that are read."""

SAVE = "save the table as .xlsx or CSV"
AS_PARQUET = "in Python, save what it holds by DataFrame.to_parquet or numpy.save"
IN_R = "in R, save the table by write.csv(x, 'x.csv', row.names = FALSE)"
UNPACK = "unpack it first"
OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

REFUSED = {
    b"%PDF": ("a PDF document", SAVE), b"{\\rtf": ("a document of a word processor (RTF)", SAVE),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", AS_PARQUET), b"MATLAB 5.0": ("a MATLAB file", "in MATLAB, use writematrix"),
    b"CDF\x01": ("a NetCDF file", AS_PARQUET), b"CDF\x02": ("a NetCDF file", AS_PARQUET),
    b"SQLite format 3\0": ("an SQLite database", "export its table as CSV"),
    b"ORC": ("an ORC file", "save the table as Parquet"), b"Obj\x01": ("an Avro file", "save the table as Parquet"),
    b"RDX2\n": ("R data", IN_R), b"RDX3\n": ("R data", IN_R), b"RDA2\n": ("R data", IN_R), b"RDA3\n": ("R data", IN_R),
    b"X\n\0\0\0": ("R data (.rds)", IN_R), b"A\n2\n": ("R data (.rds)", IN_R), b"A\n3\n": ("R data (.rds)", IN_R),
    b"7z\xbc\xaf'\x1c": ("a 7z archive", UNPACK), b"Rar!": ("a RAR archive", UNPACK),
}  # fmt: skip
"""First bytes of what is not read: what it is, and what to do."""

PICKLE = ("a pickle, which is never opened, since opening runs what it holds", AS_PARQUET)
JSON = ("JSON", "save it as CSV: in Python, pandas.read_json(FILE).to_csv('x.csv', index=False)")
PAGE = ("a web page (HTML)", SAVE)

REFUSED_ENDINGS = {
    ".json": JSON, ".jsonl": JSON, ".ndjson": JSON, ".geojson": JSON, ".pkl": PICKLE, ".pickle": PICKLE,
    ".html": PAGE, ".htm": PAGE, ".rds": ("R data (.rds)", IN_R), ".rdata": ("R data", IN_R), ".rda": ("R data", IN_R),
    ".doc": ("a document of a word processor", SAVE), ".docx": ("a document of a word processor", SAVE),
    ".odt": ("a document of a word processor", SAVE), ".pdf": ("a PDF document", SAVE),
    ".xls": ("a workbook of Excel 97-2003 (.xls)", "open it in a spreadsheet program and save it as .xlsx"),
    ".xlsb": ("a binary workbook (.xlsb)", "open it in Excel and save it as .xlsx"),
    ".numbers": ("a workbook of Numbers", "export it as .xlsx or CSV"), ".mat": ("a MATLAB file", "use writematrix"),
    ".pt": ("a file of PyTorch", AS_PARQUET), ".pth": ("a file of PyTorch", AS_PARQUET),
}  # fmt: skip
"""Endings of what is not read, where the first bytes do not say it."""

TYPED = {".json", ".jsonl", ".ndjson", ".geojson", ".html", ".htm"}
"""Endings of text that is refused by its ending: its first bytes are letters like others."""

CODECS: dict[bytes, tuple[str, Callable[..., Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.GzipFile),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\0": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("zstd", partial(pa.input_stream, compression="zstd")),
}
"""First bytes of compressed files -> what compresses them, and how to open what they hold."""


def open_raw(path: str | Path, layout: Layout) -> Raw:
    """Read any file as people have it.

    The first bytes say what a file is; its ending only where they do not. A note says where the two disagree.

    Args:
        path: A file, or a folder of texts or of Parquet files.
        layout: What is said of it.

    Returns:
        What stands in it.

    Raises:
        DataError: There is no such file, it is of a format that is not read, or corrupt; the message says what to do.
        SettingError: Settings that have no meaning for the format, all of them.
    """
    path = existing(path)
    if path.is_dir():
        return _folder(path, layout)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror})") from None
    if not head:
        raise DataError(f"{path.name} is empty")
    for magic, (codec, opened) in CODECS.items():
        if head.startswith(magic):
            return _compressed(path, layout, codec, path.stem, partial(opened, str(path)))
    if head.startswith(b"PK"):
        return _zipped(path, layout)
    return _plain(path, layout, head)


def _folder(path: Path, layout: Layout) -> Raw:
    """Read a folder of texts, or of Parquet files, which are one table."""
    from pyrozoo.data.readers.row_groups import parquet_files
    from pyrozoo.data.readers.texts import read_texts, text_files

    if not (files := parquet_files(path)):
        meant(layout, {"encoding"}, "a folder of texts")
        return read_texts(path, layout)
    if texts := text_files(path)[0]:
        said = f"{texts[0].name} and others" if len(texts) > 1 else texts[0].name
        raise DataError(f"{path.name} holds Parquet files ({files[0].name}) and texts ({said}): put them apart")
    meant(layout, {"decimal"}, "a folder of Parquet files")
    from pyrozoo.data.readers.columnar import parquet_folder

    return parquet_folder(path, layout)


def kind_of(head: bytes, ending: str, name: str) -> str | None:
    """Return the key of ``FORMATS`` that first bytes belong to, None for text.

    Args:
        head: The first bytes.
        ending: Of the file.
        name: Of the file, for messages.

    Raises:
        DataError: Of no format that is read.
    """
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            return found
    if b"SPSS PORT FILE" in head[:500]:
        return "SPSS portable"
    if head[:1] and 102 <= head[0] <= 115 and head[1:3] in (b"\1\1", b"\2\1"):
        return "Stata"  # before version 13
    if head[:2] == b"\0\0" and len(head) > 3 and head[2] in (8, 9, 11, 12, 13, 14) and 1 <= head[3] <= 8:
        return "IDX"
    _refuse(head, ending, name)
    if _is_text(head):
        return None
    what = next((each.name for each in FORMATS.values() if ending in each.endings), None)
    if what is not None:
        raise DataError(f"{name} is not a readable {what} file: its first bytes are of another format")
    raise DataError(f"{name} is of no format that is read: {SAVE}, or as Parquet")


def is_picture(path: Path) -> bool:
    """Return whether a file's first bytes are those of a picture."""
    with path.open("rb") as file:
        return _picture(file.read(HEAD)) is not None


def _picture(head: bytes) -> str | None:
    found = next((what for magic, what in PICTURES.items() if head.startswith(magic)), None)
    if found == "BMP" and _is_text(head):  # a text may begin with BM
        return None
    return "WebP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else found


def _refuse(head: bytes, ending: str, name: str) -> None:
    """Raise DataError where a file is of a format that is not read."""
    if picture := _picture(head):
        raise DataError(f"{name} is a picture ({picture}); this model takes a table, model=potts_grid takes pictures")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    found = next((said for magic, said in REFUSED.items() if head.startswith(magic)), None)
    if found is None and head.startswith(OFFICE):
        if ending in (".xlsx", ".xlsm"):
            found = ("protected by a password", "save it without one")
        else:
            found = REFUSED_ENDINGS.get(ending, ("a file of an old Office program", SAVE))
    if found is None and head[257:262] == b"ustar":
        found = ("a tar archive", UNPACK)
    if found is None and head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        found = PICKLE
    if found is None and start.startswith((b"<!doctype html", b"<html", b"<table", b"<meta", b"<head")):
        found = PAGE
    if found is None and start.startswith(b"<?xml"):
        found = ("XML", SAVE)
    if found is None and start.startswith((b'{"', b'[{"', b"[{", b"[[")) and not ending.startswith((".csv", ".tsv")):
        found = JSON
    if found is None and (ending in TYPED or not _is_text(head)):
        found = REFUSED_ENDINGS.get(ending)
    if found is not None:
        raise DataError(f"{name} is {found[0]}, which is not read: {found[1]}")


def _is_text(head: bytes) -> bool:
    """Return whether first bytes may be text, in whatever encoding."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\0\0\xfe\xff")):
        return True
    if 0 in head:  # UTF-16 without a mark: every other byte of plain letters
        return any(head[start::2].count(0) > len(head) // 5 and not head[1 - start :: 2].count(0) for start in (0, 1))
    return not any(byte in head for byte in (*range(1, 9), *range(14, 27), 28, 29, 30))


def _plain(path: Path, layout: Layout, head: bytes) -> Raw:
    """Read a file that is neither compressed nor a zip archive."""
    ending = path.suffix.lower()
    kind = kind_of(head, ending, path.name)
    if kind is not None:
        return _read(path, layout, FORMATS[kind])
    return _text(path, layout, ending, None)


def _read(path: Path, layout: Layout, format: Format) -> Raw:
    ending = path.suffix.lower()
    said = ending if ending in format.endings else format.endings[0]
    _meant(layout, format.settings, f"a {said} file", headed=False if format.room == "arrays" else None)
    with readable(path.name, f"{format.name} file"):
        raw = format.read(path, layout)
    if ending in format.endings or not (_claimed(ending)):
        return raw
    return replace(raw, notes=(f"{path.name} is a {said} file in spite of its ending, and is read as one", *raw.notes))


def _meant(layout: Layout, settings: frozenset[str], what: str, headed: bool | None) -> None:
    """Refuse settings without a meaning; ``header`` may say what is so."""
    tolerated = {"header"} if layout.header is not None and layout.header is headed else set()
    meant(layout, settings | tolerated, what)


def _claimed(ending: str) -> bool:
    """Return whether an ending says of what format a file is."""
    read = {each for format in FORMATS.values() for each in format.endings}
    return ending in read or ending in (".csv", ".tsv", ".tab", ".txt") or ending in REFUSED_ENDINGS


def _text(path: Path, layout: Layout, ending: str, opened: Callable[[], BinaryIO] | None, more: str = "") -> Raw:
    """Read delimited text, whatever the file's ending says."""
    meant(layout, TEXT | {more} if more else TEXT, f"a {ending} file" if ending else "a text file")
    from pyrozoo.data.readers.text import read_text

    raw = read_text(path, layout, opened)
    if ending in REFUSED_ENDINGS or any(ending in format.endings for format in FORMATS.values()):
        note = f"{path.name} holds plain text in spite of its ending {ending}, and is read as text"
        raw = replace(raw, notes=(note, *raw.notes))
    return raw


# Archives -------------------------------------------------------------------------------------------------------------


def _compressed(
    path: Path, layout: Layout, codec: str, inner: str, opened: Callable[[], BinaryIO], more: str = ""
) -> Raw:  # fmt: skip
    """Read what a compressed file holds; ``inner`` is what that would be called."""
    with readable(path.name, f"{codec} file"), opened() as file:
        head = file.read(HEAD)
    if not head:
        raise DataError(f"{path.name} is empty: nothing is compressed in it")
    ending = PurePosixPath(inner).suffix.lower()
    zipped = head.startswith(b"PK")
    if head.startswith(tuple(CODECS)) or (zipped and ending not in (".xlsx", ".xlsm", ".ods", ".npz")):
        raise DataError(f"{path.name} holds a compressed file or an archive: {UNPACK}")
    kind = None if zipped else kind_of(head, ending or path.suffix.lower(), path.name)
    if kind is None and not zipped:

        def checked() -> BinaryIO:
            return cast(BinaryIO, _Guarded(opened(), path, codec))

        raw = _text(path, layout, ending or ".txt", checked, more)
        return replace(raw, facts={**raw.facts, "compression": codec})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        usual = f"inside{ending}" if ending else f"inside{FORMATS[kind].endings[0]}" if kind else "inside"
        unpacked = Path(folder) / (PurePosixPath(inner).name or usual)
        if kind is not None and unpacked.suffix.lower() not in FORMATS[kind].endings:
            unpacked = unpacked.with_name(unpacked.name + FORMATS[kind].endings[0])
        with readable(path.name, f"{codec} file"), opened() as file, unpacked.open("wb") as out:
            while block := file.read(2**20):
                out.write(block)
                check_packed(path.name, out.tell(), path.stat().st_size)
        raw = open_raw(unpacked, replace(layout, key=None) if more else layout)
    return replace(raw, name=path.name, facts={**raw.facts, "compression": codec})


class _Guarded:
    """A compressed stream whose damage is told in one line."""

    def __init__(self, file: Any, path: Path, codec: str) -> None:
        self.file, self.name, self.codec = file, path.name, codec
        self.packed, self.unpacked = path.stat().st_size, 0

    def __enter__(self) -> _Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int = -1) -> bytes:
        with readable(self.name, f"{self.codec} file"):
            if size >= 0:
                return self._checked(bytes(self.file.read(size)))
            blocks = []
            while block := self._checked(bytes(self.file.read(2**24))):
                blocks.append(block)
            return b"".join(blocks)

    def _checked(self, block: bytes) -> bytes:
        self.unpacked += len(block)
        check_packed(self.name, self.unpacked, self.packed)
        return block


def _zipped(path: Path, layout: Layout) -> Raw:
    """Read a zip archive: a workbook, arrays, or the one file that it holds."""
    ending = path.suffix.lower()
    what = next((each.name for each in FORMATS.values() if ending in each.endings), "zip")
    with readable(path.name, f"{what} file"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        arrays = all(each.endswith(".npy") for each in names) and ending in (".npz", "", ".zip")
        if arrays or not {"mimetype", "xl/workbook.xml"}.isdisjoint(names):  # of others one file is read as it unpacks
            check_packed(path.name, sum(each.file_size for each in archive.infolist()), path.stat().st_size)
        kind = b""
        if "mimetype" in names:
            with archive.open("mimetype") as file:
                kind = file.read(100)
    shown = [each for each in names if not each.endswith("/") and "__MACOSX/" not in each]
    shown = [each for each in shown if not PurePosixPath(each).name.startswith(".")]
    if "xl/workbook.xml" in names:
        return _read(path, layout, FORMATS["Excel"])
    if b"opendocument.spreadsheet" in kind:
        return _read(path, layout, FORMATS["OpenDocument"])
    if arrays and (names or ending == ".npz"):
        return _read(path, layout, FORMATS["NumPy archive"])
    inside = {"word/document.xml": ".docx", "xl/workbook.bin": ".xlsb", "Index/Document.iwa": ".numbers"}
    said = next((REFUSED_ENDINGS[end] for each, end in inside.items() if each in names), None)
    if b"opendocument" in kind:
        said = REFUSED_ENDINGS[".odt"]
    if any(each.endswith("/data.pkl") for each in names):
        said = REFUSED_ENDINGS[".pt"]
    if said is not None:
        raise DataError(f"{path.name} is {said[0]}, which is not read: {said[1]}")
    if what != "zip":
        raise DataError(f"{path.name} is not a readable {what} file: it is a zip archive of something else")
    return _member(path, layout, shown)


def _member(path: Path, layout: Layout, names: list[str]) -> Raw:
    """Read the one file of a zip archive, or the one that ``data.key`` names."""
    if not names:
        raise DataError(f"{path.name} is empty: the archive holds no file")
    if layout.key is not None:
        said = [each for each in names if str(layout.key) in (each, PurePosixPath(each).name)]
        if len(said) == 1:
            names = said
        elif len(names) > 1:
            raise DataError(f"{path.name} holds no file {layout.key!r} (data.key); it has {', '.join(names[:20])}")
    elif len(names) > 1:
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise DataError(f"{path.name} holds several files; set data.key to one of {', '.join(names[:20])}{more}")
    chosen = names[0]

    def opened() -> BinaryIO:
        archive = zipfile.ZipFile(path)
        return cast(BinaryIO, archive.open(chosen))

    key = "key" if layout.key is not None and str(layout.key) in (chosen, PurePosixPath(chosen).name) else ""
    return _compressed(path, layout, "zip", chosen, opened, key)

"""Files made from valid ones by damage: bytes anywhere, and what each format has of its own.

A mutant is known by its number and a seed. Formats are changed where they say how large something is, what type it has,
and where the rest stands: bytes changed anywhere are mostly refused by a checksum.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat
import scipy.io
import scipy.sparse
from PIL import Image

import pyrozoo

Generator = np.random.Generator


@dataclass
class Mutant:
    """A file, or a run directory.

    Attributes:
        format: What it was.
        name: Of the file.
        content: Of the file.
        rng: What is left of its random numbers.
        kind: The container it is meant for; None: any. Of a directory whether to load it or to go on with it.
        settings: What is said of how it is laid out.
        directory: The name of the valid run directory that it is made of.
    """

    format: str
    name: str
    content: bytes
    rng: Generator
    kind: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    directory: str = ""

    def write(self, path: Path) -> None:
        """Write it."""
        if self.directory:
            shutil.copytree(directories()[self.directory], path, symlinks=True)
            harm(path, self.rng)
        else:
            path.write_bytes(self.content)


NASTY = (
    b"", b"nan", b"NaN", b"inf", b"-Infinity", b"1e999", b"-1e308", b"1e-320", b"99999999999999999999999999", b"-1",
    b"0.5", b"-0", b"1,5", b"007", b"1_000", b"0x1F", b"true", b"None", b"NA", b"\xff\xfe", b"\0", b"\r", b"\n", b'"',
    b"'", b",", b";", b"\t", b"=cmd|' /C calc'!A0", b"@SUM(1+1)", b"${oc.env:PYROZOO_SECRET}", b"$\\frac{", b"$5",
    b"<script>alert(1)</script>", b"../../etc/passwd", b"{[", b"\xe2\x80\xae", b"\xed\xa0\x80", b"\x1b[31m",
    b"2020-13-45", b"2020-01-01", b"1970-01-01T00:00:00Z", b"%s%n", b"column_0", b"row", b"9" * 400, b"x" * 5000,
    b"x" + b" " * 100_000 + b"y", b"(" * 100_000, b"1," * 20_000,
)  # fmt: skip
"""What cells, names and numbers of a damaged or hostile file may be."""

EXTREMES = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def pick(rng: Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


# Bytes ----------------------------------------------------------------------------------------------------------------


def scrambled(content: bytes, rng: Generator, most: int = 6) -> bytes:
    """Change bytes anywhere."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, most))):
        at = int(rng.integers(len(data) + 1)) if rng.random() < 0.6 else int(rng.integers(min(len(data), 200) + 1))
        size = int(rng.integers(1, 1 + min(64, max(1, len(data)))))
        what = int(rng.integers(8))
        if what == 0 and at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
        elif what == 1 and at < len(data):
            data[at] = int(rng.integers(256))
        elif what == 2:
            data = data[:at]
        elif what == 3:
            del data[at : at + size]
        elif what == 4:
            data[at:at] = data[at : at + size] * int(rng.integers(1, 4))
        elif what == 5:
            there = int(rng.integers(len(data) + 1))
            data[at : at + size], data[there : there + size] = data[there : there + size], data[at : at + size]
        elif what == 6:
            data[at:at] = pick(rng, NASTY)
        else:
            width = pick(rng, (1, 2, 4, 8))
            data[at : at + width] = (pick(rng, EXTREMES) % 256**width).to_bytes(width, pick(rng, ("little", "big")))
    return bytes(data)


# Text -----------------------------------------------------------------------------------------------------------------


def text(rng: Generator) -> bytes:
    """Return a table or a list of some delimiter, valid or nearly so."""
    delimiter = pick(rng, (",", ",", ";", "\t", "|", " ", "::"))
    rows, columns = int(rng.integers(1, 14)), int(rng.integers(1, 6))
    if rng.random() < 0.3:
        cells = [["user", "item", "rating"]]
        cells += [[f"u{rng.integers(6)}", f"i{rng.integers(5)}", str(rng.integers(1, 6))] for _ in range(3 * rows)]
    elif rng.random() < 0.3:
        cells = [[f"q{j}" for j in range(columns)]]
        cells += [[pick(rng, ("yes", "no", "maybe", "")) for _ in range(columns)] for _ in range(rows)]
    else:
        cells = [["name", *(f"c{j}" for j in range(columns))]] if rng.random() < 0.7 else []
        numbers = rng.poisson(3, (rows, columns)) if rng.random() < 0.6 else rng.normal(size=(rows, columns)).round(3)
        cells += [[*([f"r{i}"] if cells else []), *map(str, line)] for i, line in enumerate(numbers.tolist())]
    lines = [[cell.encode() for cell in line] for line in cells]
    for _ in range(int(rng.integers(0, 5))):
        damage(lines, rng)
    ends = pick(rng, (b"\n", b"\n", b"\r\n", b"\r"))
    content = ends.join(delimiter.encode().join(line) for line in lines) + pick(rng, (b"", ends))
    if rng.random() < 0.1:
        encoding = pick(rng, ("utf-16", "utf-32", "latin-1", "cp1252"))
        content = content.decode("utf-8", "replace").encode(encoding, "replace")
    return scrambled(content, rng, 4) if rng.random() < 0.3 else content


def damage(lines: list[list[bytes]], rng: Generator) -> None:
    """Change some cells of a table, or some lines."""
    what = int(rng.integers(9))
    if not lines or not (line := pick(rng, lines)):
        return
    at = int(rng.integers(len(line)))
    if what == 0:
        line[at] = pick(rng, NASTY)
    elif what == 1:
        del line[at]
    elif what == 2:
        line.insert(at, pick(rng, NASTY))
    elif what == 3:
        lines.append([*line])
    elif what == 4:
        lines.remove(line)
    elif what == 5:
        other = pick(rng, lines)
        if other:
            there = int(rng.integers(len(other)))
            line[at], other[there] = other[there], line[at]
    elif what == 6:
        value = pick(rng, NASTY)
        for each in lines[int(rng.integers(2)) :]:
            if at < len(each):
                each[at] = value
    elif what == 7:
        line[at] = b'"' + line[at] + pick(rng, (b'"', b"", b'""', b'"x'))
    else:
        del lines[1 + int(rng.integers(3)) :]


# Arrays ---------------------------------------------------------------------------------------------------------------


def npy(rng: Generator) -> bytes:
    """Return an array with a header that may not be true."""
    shape = [int(each) for each in rng.integers(0, 6, int(rng.integers(0, 5)))] if rng.random() < 0.6 else [5, 3]
    stated = [*shape]
    if stated and rng.random() < 0.5:
        stated[int(rng.integers(len(stated)))] = pick(rng, (*EXTREMES, -1, 10**30))
    descr = pick(rng, (
        "'<f8'", "'<f8'", "'<i8'", "'|u1'", "'<f2'", "'<f16'", "'<c16'", "'|O'", "'|V8'", "'<U3'", "'|S3'", "'|b1'",
        "'<M8[ns]'", "'<M8[Y]'", "'<m8[s]'", "'>f8'", "[('a', '<f8'), ('b', '<i4')]", "[('a', [('b', '<f8')])]",
        "[('a', '<f8', (3,))]", "[]", "None", "'nonsense'", "'<f8' * 10", "''", "'<U0'", "[('', '<f8')]", "'<i16'",
    ))  # fmt: skip
    said = tuple(stated) if rng.random() < 0.9 else pick(rng, (None, "x", [3], 5, (2.5, 1), (True, 2)))
    order = pick(rng, ("False", "False", "True", "0", "None"))
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {said!r}, }}"
    if rng.random() < 0.15:
        header = scrambled(header.encode(), rng).decode("latin-1")
    if rng.random() < 0.05:
        header = pick(rng, ("(" * 3000, "{" * 300, "[[" * 900 + "]]" * 900, "1" * 5000))
    whole = header.encode("latin-1") + b" " * int(rng.integers(0, 64)) + b"\n"
    version, width = pick(rng, (((1, 0), 2), ((1, 0), 2), ((2, 0), 4), ((3, 0), 4), ((9, 9), 2)))
    length = len(whole) if rng.random() < 0.9 else pick(rng, EXTREMES)
    kind = pick(rng, (np.float64, np.float64, np.uint8))
    body = rng.normal(3, 2, shape).astype(kind)
    if body.size and kind is np.float64 and rng.random() < 0.2:
        body.flat[int(rng.integers(body.size))] = pick(rng, (np.nan, np.inf, -np.inf, 1e308, 5e-324))
    content = b"\x93NUMPY" + bytes(version) + (length % 256**width).to_bytes(width, "little") + whole + body.tobytes()
    return scrambled(content, rng) if rng.random() < 0.2 else content


def npz(rng: Generator) -> bytes:
    """Return an archive of arrays, or of SciPy's sparse matrix, with parts of it damaged."""
    buffer = io.BytesIO()
    if rng.random() < 0.5:
        matrix = scipy.sparse.random(6, 5, 0.4, format=pick(rng, ("csr", "csc", "coo", "bsr", "dia")), random_state=1)
        scipy.sparse.save_npz(buffer, matrix)
        parts = members(buffer.getvalue())
        name = pick(rng, list(parts))
        array = np.load(io.BytesIO(parts[name]))
        if array.dtype.kind in "if" and array.size and rng.random() < 0.7:
            array = array.copy().reshape(-1)
            array[int(rng.integers(array.size))] = pick(rng, (-1, 0, 7, 10**9, 127))
            changed = io.BytesIO()
            np.save(changed, array.reshape(-1))
            parts[name] = changed.getvalue()
        elif rng.random() < 0.6:
            parts[name] = npy(rng)
        else:
            del parts[name]
    else:
        parts = {f"{pick(rng, ('x', 'y', 'arr_0', '../x', '/x', ''))}.npy": npy(rng) for _ in range(rng.integers(1, 3))}
    return packed(parts, rng)


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts: dict[str, bytes], rng: Generator) -> bytes:
    """Return a zip archive, sometimes damaged itself."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    content = buffer.getvalue()
    return scrambled(content, rng, 3) if rng.random() < 0.15 else content


def mtx(rng: Generator) -> bytes:
    """Return a MatrixMarket file whose numbers may not be true."""
    sparse = rng.random() < 0.7
    kind = pick(rng, ("real", "real", "integer", "pattern", "complex", "double", "unsigned-integer", "x"))
    symmetry = pick(rng, ("general", "general", "symmetric", "skew-symmetric", "hermitian", "x"))
    rows, columns = int(rng.integers(1, 7)), int(rng.integers(1, 7))
    count = int(rng.integers(0, 9))
    values = {"pattern": 0, "complex": 2}.get(kind, 1)
    lines = []
    for _ in range(count if sparse else rows * columns):
        place = [str(rng.integers(1, rows + 1)), str(rng.integers(1, columns + 1))] if sparse else []
        lines.append(" ".join([*place, *(str(rng.integers(-3, 9)) for _ in range(values))]))
    sizes = [rows, columns, *([count] if sparse else [])]
    if rng.random() < 0.4:
        sizes[int(rng.integers(len(sizes)))] = pick(rng, (*EXTREMES, -1, 10**30))
    if lines and rng.random() < 0.4:
        words = pick(rng, lines).split() or [""]
        words[int(rng.integers(len(words)))] = pick(rng, NASTY[:24]).decode("latin-1")
        lines[int(rng.integers(len(lines)))] = " ".join(words)
    form = "coordinate" if sparse else "array"
    head = f"%%MatrixMarket matrix {form} {kind} {symmetry}\n% made\n{' '.join(map(str, sizes))}\n"
    content = (head + "\n".join(lines) + "\n").encode("latin-1", "replace")
    return scrambled(content, rng, 3) if rng.random() < 0.3 else content


def idx(rng: Generator) -> bytes:
    """Return an IDX file whose header may not be true."""
    shape = [int(each) for each in rng.integers(0, 5, int(rng.integers(1, 5)))]
    body = rng.integers(0, 256, int(np.prod(shape)), dtype=np.uint8).tobytes()
    if rng.random() < 0.4:
        shape[int(rng.integers(len(shape)))] = pick(rng, EXTREMES) % 2**32
    content = bytes([0, 0, pick(rng, (8, 8, 8, 9, 13, 14)), len(shape)]) + np.array(shape, ">u4").tobytes() + body
    return scrambled(content, rng, 3) if rng.random() < 0.3 else content


# Columns --------------------------------------------------------------------------------------------------------------


METADATA = (
    b"{", b"[]", b'{"index_columns": 3}', b'{"index_columns": [3, "c0"]}', b"null", b'{"index_columns": ["c0"]}',
    b'{"index_columns": null}', b"[" * 3000, b"\xff",
)  # fmt: skip
"""What a file may say of the index of pandas."""


def arrow(rng: Generator) -> pa.Table:
    """Return a table of columns of any type, valid but often of no use."""
    count = int(rng.integers(0, 9)) if rng.random() < 0.5 else 8

    def number() -> float:
        return pick(rng, (np.nan, np.inf, 1e308, -1.0)) if rng.random() < 0.1 else float(rng.integers(0, 5))

    def hole(value: Any) -> Any:
        return None if rng.random() < 0.15 else value

    makers: tuple[Callable[[], pa.Array], ...] = (
        lambda: pa.array([hole(number()) for _ in range(count)], pa.float64()),
        lambda: pa.array([hole(int(rng.integers(0, 4))) for _ in range(count)], pa.int64()),
        lambda: pa.array([hole(pick(rng, ("yes", "no", "\0", "$a$", "=1+1"))) for _ in range(count)]),
        lambda: pa.array([hole(bool(rng.integers(2))) for _ in range(count)]),
        lambda: pa.array([[1, 2]] * count, pa.list_(pa.int64())),
        lambda: pa.array([{"a": 1, "b": [2]}] * count),
        lambda: pa.array([[("k", 1)]] * count, pa.map_(pa.string(), pa.int64())),
        lambda: pa.array(["a", None, "b"] * count).slice(0, count).dictionary_encode(),
        lambda: pa.array([b"x"] * count, pa.binary()),
        lambda: pa.nulls(count),
        lambda: pa.array([1] * count, pa.duration("s")),
        lambda: pa.array([pick(rng, (0, 2**62, -(2**62))) for _ in range(count)], pa.timestamp("us", "UTC")),
        lambda: pa.array([0] * count, pa.date32()),
        lambda: pa.array([0] * count, pa.time64("us")),
        lambda: pa.array(range(count), pa.decimal128(38, 3)),
        lambda: pa.array([2**63 + 5] * count, pa.uint64()),
        lambda: pa.array([1.5] * count, pa.float16()),
        lambda: pa.array([None] * count, pa.struct([])),
        lambda: pa.array([[[0.5]]] * count, pa.list_(pa.list_(pa.float64()))),
        lambda: pa.array(["x"] * count, pa.large_string()),
        lambda: pa.FixedSizeListArray.from_arrays(pa.array([1.0] * (2 * count)), 2),
        lambda: pa.array([1] * count).dictionary_encode(),
    )
    plain = rng.random() < 0.4
    columns = [pick(rng, makers[:4] if plain else makers)() for _ in range(int(rng.integers(1, 5)))]
    strange = ("a", "b", "c", "", "a", "$\\frac{", "\0", "__index_level_0__", "user", "item", "rating")
    names = [pick(rng, strange) if rng.random() < 0.3 else f"c{j}" for j in range(len(columns))]
    made = pa.Table.from_arrays(columns, names=names)
    if rng.random() < 0.2:
        metadata = pick(rng, METADATA)
        made = made.replace_schema_metadata({b"pandas": metadata})
    return made


def parquet(rng: Generator) -> bytes:
    buffer = io.BytesIO()
    try:
        pq.write_table(arrow(rng), buffer, compression=pick(rng, ("snappy", "zstd", "none")))
    except pa.ArrowException:  # a type that Parquet has not
        pq.write_table(pa.table({"a": [1.0, 2.0, None]}), buffer)
    content = buffer.getvalue()
    return scrambled(content, rng, 3) if rng.random() < 0.4 else content


def feather(rng: Generator) -> bytes:
    buffer, made = io.BytesIO(), arrow(rng)
    stream = pa.ipc.new_stream if rng.random() < 0.3 else pa.ipc.new_file
    with stream(buffer, made.schema) as writer:
        writer.write_table(made)
    content = buffer.getvalue()
    return scrambled(content, rng, 3) if rng.random() < 0.4 else content


# Pictures -------------------------------------------------------------------------------------------------------------


def png(rng: Generator) -> bytes:
    """Return a PNG whose parts are changed, with checksums that are right."""
    content = picture(rng, "PNG")
    parts, at = [], 8
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        parts.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    for _ in range(int(rng.integers(0, 3))):
        part = pick(rng, parts)
        what = int(rng.integers(5))
        if part[0] == b"IHDR" and what < 4:
            fields = list(struct.unpack(">IIBBBBB", part[1])) if len(part[1]) == 13 else [1, 1, 8, 0, 0, 0, 0]
            place = int(rng.integers(7))
            fields[place] = pick(rng, EXTREMES) % (2**32 if place < 2 else 256)
            part[1] = struct.pack(">IIBBBBB", *fields)
        elif what == 0:
            parts.remove(part)
        elif what == 1:
            parts.append([*part])
        elif what == 2 and part[0] == b"IDAT":
            part[1] = zlib.compress(scrambled(b"\0" * 100, rng))
        elif what == 3:
            part[0] = pick(rng, (b"PLTE", b"tRNS", b"IDAT", b"tEXt", b"zTXt", b"iCCP", b"acTL", b"eXIf"))
        else:
            part[1] = scrambled(part[1], rng)
        if not parts:
            break
    whole = content[:8]
    for name, body in parts:
        whole += len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
    return scrambled(whole, rng, 3) if rng.random() < 0.15 else whole


def picture(rng: Generator, format: str) -> bytes:
    """Return a small picture of few colours."""
    mode = pick(rng, {"PNG": ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"), "JPEG": ("L", "RGB", "CMYK"),
                      "GIF": ("L", "P"), "BMP": ("1", "L", "P", "RGB"), "TIFF": ("1", "L", "RGB", "F", "I;16"),
                      "WEBP": ("RGB", "RGBA")}[format])  # fmt: skip
    height, width = int(rng.integers(1, 12)), int(rng.integers(1, 12))
    values = rng.integers(0, 3, (height, width))
    if mode == "I;16":
        image = Image.fromarray((1000 * values).astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray(values.astype(np.float32))
    else:
        image = Image.fromarray((100 * values).astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def other_picture(rng: Generator, format: str) -> bytes:
    content = picture(rng, format)
    return scrambled(content, rng) if rng.random() < 0.9 else content


# Workbooks and files of statistics programs ---------------------------------------------------------------------------


ENTITIES = "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True))
XML = (
    b"", b"<", b"<x>" * 3000, b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "xx">{ENTITIES}]><x>&i;</x>'.encode(),
)  # fmt: skip
"""What a part of a workbook may be: entities of XML among it, of a file and of each other."""


def xlsx(rng: Generator) -> bytes:
    """Return a workbook with cells of any kind, and parts of it damaged."""
    return harmed_parts(dict(pick(rng, workbooks())), rng)


def ods(rng: Generator) -> bytes:
    """Return an OpenDocument workbook whose rows and cells may be repeated, and parts of it damaged."""
    names = " ".join(f'xmlns:{each}="urn:oasis:names:tc:opendocument:xmlns:{each}:1.0"'
                     for each in ("office", "table", "text"))  # fmt: skip
    tables = ""
    for name in ("S", "T", "S")[: int(pick(rng, (1, 1, 1, 1, 2, 3)))]:
        kinds = [pick(rng, (KINDS[:1], KINDS[:1], KINDS)) for _ in range(int(rng.integers(1, 6)))]
        rows = "".join(
            f"<table:table-row{repeated('rows', rng)}>{''.join(ods_cell(pick(rng, its), rng) for its in kinds)}"
            "</table:table-row>"
            for _ in range(int(rng.integers(0, 12)))
        )
        tables += f'<table:table table:name="{name}">{rows}</table:table>'
    content = f"<office:spreadsheet {names}>{tables}</office:spreadsheet>".encode()
    parts = {"mimetype": b"application/vnd.oasis.opendocument.spreadsheet", "content.xml": content}
    return harmed_parts(parts, rng)


KINDS = ("float", "string", "date", "time", "boolean", "percentage", "currency", "void", "empty")
"""Types of cells in OpenDocument workbooks, and one that there is not."""


def repeated(what: str, rng: Generator) -> str:
    """Return nothing, or an attribute that says how often a row or a cell is meant."""
    if rng.random() < 0.95:
        return ""
    return f' table:number-{what}-repeated="{pick(rng, ("0", "1", "2", "3", "1000", "1048576", "-1", "9" * 12, "x"))}"'


def ods_cell(kind: str, rng: Generator) -> str:
    """Return a cell of an OpenDocument workbook."""
    value, more = int(rng.integers(5)), repeated("columns", rng)
    if kind == "empty":
        return f"<table:{pick(rng, ('', 'covered-'))}table-cell{more}/>"
    if rng.random() < 0.05:
        more += f' table:number-{pick(rng, ("rows", "columns"))}-spanned="{pick(rng, (2, -1, 10**6))}"'
    stated = {"date": f"2024-{1 + value}-01", "time": f"PT{9 * value}H1M2S", "boolean": "true"}.get(kind, str(value))
    name = kind if kind in ("date", "time", "boolean") else ""
    shown = f'a{value}<text:s text:c="{pick(rng, (1, 2, 10**7, "x"))}"/>b' if rng.random() < 0.05 else f"a{value}"
    attribute = f"office:{name}-value" if name else "office:value"
    return (f'<table:table-cell office:value-type="{kind}" {attribute}="{stated}"{more}><text:p>{shown}</text:p>'
            "</table:table-cell>")  # fmt: skip


def harmed_parts(parts: dict[str, bytes], rng: Generator) -> bytes:
    """Damage none, one or two parts of a workbook."""
    for _ in range(int(rng.integers(0, 3))):
        name = pick(rng, list(parts))
        what = int(rng.integers(6))
        if what == 0:
            parts[name] = scrambled(parts[name], rng)
        elif what == 1 and len(parts) > 1:
            del parts[name]
        elif what == 2:
            parts["../../escaped.xml"] = b"<x/>"
        elif what == 3:
            parts[name] = pick(rng, XML)
        else:
            parts[name] = attributes(parts[name], rng)
    return packed(parts, rng)


def attributes(content: bytes, rng: Generator) -> bytes:
    """Change values of some attributes and cells of XML."""
    pieces = content.split(b'"')
    for _ in range(int(rng.integers(1, 4))):
        if len(pieces) > 2:
            pieces[2 * int(rng.integers(len(pieces) // 2)) + 1] = pick(rng, (
                b"A1", b"ZZZ9999999", b"A0", b"1", b"-1", b"99999999", b"s", b"str", b"e", b"b", b"d", b"n",
                b"inlineStr", b"", b"x", b"XFD1048576", b"A1:XFD1048576", b"../x",
                b"float", b"date", b"time", b"nan", b"1e400",
            ))  # fmt: skip
    made = b'"'.join(pieces)
    if rng.random() < 0.4:
        values = made.split(b"<v>")
        if len(values) > 1:
            at = int(rng.integers(1, len(values)))
            values[at] = pick(rng, NASTY[:40]).replace(b"<", b"&lt;") + b"</v>" + values[at].partition(b"</v>")[2]
            made = b"<v>".join(values)
    return made


@cache
def workbooks() -> list[dict[str, bytes]]:
    rng, found = np.random.default_rng(0), []
    numbers = rng.poisson(3, (6, 3)).tolist()
    for extra in ([], [["=SUM(A1:A3)", "#DIV/0!", True]], [[pd.Timestamp("2020-01-01").to_pydatetime(), 1e308, None]],
                  [["${oc.env:PYROZOO_SECRET}", "$\\frac{", "=cmd()"]]):  # fmt: skip
        book = openpyxl.Workbook()
        for line in [["a", "b", "c"], *numbers, *extra]:
            book.active.append(line)
        if extra:
            book.create_sheet("empty")
        buffer = io.BytesIO()
        book.save(buffer)
        found.append(members(buffer.getvalue()))
    return found


def statistics(ending: str) -> Callable[[Generator], bytes]:
    """Return what makes damaged files of a statistics program."""

    @cache
    def valid() -> list[bytes]:
        rng = np.random.default_rng(0)
        frame = pd.DataFrame({"A": rng.poisson(3, 8).astype(float), "B": rng.normal(size=8), "C": ["x", "yy"] * 4})
        frame.loc[2, "A"] = np.nan
        labels = {"A": {1.0: "low", 2.0: "mid", 3.0: "high"}}
        write = {
            "sav": lambda path: pyreadstat.write_sav(frame, path, variable_value_labels=labels),
            "zsav": lambda path: pyreadstat.write_sav(frame, path, compress=True),
            "dta": lambda path: pyreadstat.write_dta(frame, path, variable_value_labels=labels),
            "por": lambda path: pyreadstat.write_por(frame, path),
            "xpt": lambda path: pyreadstat.write_xport(frame, path),
        }[ending]
        with tempfile.TemporaryDirectory() as folder:
            write(path := Path(folder) / f"x.{ending}")
            return [path.read_bytes()]

    return lambda rng: scrambled(valid()[0], rng)


def compressed(rng: Generator) -> tuple[str, bytes]:
    """Return a compressed text, damaged before or after."""
    content = text(rng)
    made = pick(rng, (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress),
                      ("zst", lambda part: pa.compress(part, "zstd", asbytes=True)), ("zip", None)))  # fmt: skip
    ending, pack = made
    names = ("x.csv", "../x.csv", "/x.csv", "x", "a/x.csv")
    whole = packed({pick(rng, names): content}, rng) if pack is None else pack(content)
    return f"x.csv.{ending}", scrambled(whole, rng, 3) if rng.random() < 0.4 else whole


# Run directories ------------------------------------------------------------------------------------------------------


@cache
def directories() -> dict[str, Path]:
    """Write valid run directories: some finished, some that a killed run left."""
    folder = Path(tempfile.mkdtemp(prefix="pyrozoo_fuzz_"))
    small = {"rows": 12, "columns": 3, "progress": False}
    for model, method in (("zip_mixture", "em"), ("zip_mixture", "gibbs"), ("gaussian_mf", "em"), ("topics", "cavi")):
        few = {"draws": 6, "warmup": 3} if method == "gibbs" else {"max_iterations": 4}
        pyrozoo.fit(model, method, report="none", **small, **few).save(folder / f"{model}_{method}")
    for method in ("em", "gibbs", "svi"):
        few = {"draws": 6, "warmup": 3} if method == "gibbs" else {"max_iterations": 6, "tol": 0.0}
        few = {"max_steps": 6, "restart_steps": 2, "draws": 20, "evaluation_draws": 5} if method == "svi" else few
        made = folder / f"resume_{method}"
        pyrozoo.fit("zip_mixture", method, directory=made, checkpoint_every=2, **small, **few)
    return {each.name: each for each in sorted(folder.iterdir())}


YAML = (
    "_target_: os.system", "_target_: subprocess.Popen", "!!python/object/apply:os.system ['true']",
    "${oc.env:PYROZOO_SECRET}", "${oc.decode:${oc.env:PYROZOO_SECRET}}", "${oc.env:HOME}", "${model.name}", "${model}",
    "../../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin", "[" * 2000, "{a: " * 1500, "&a [*a]", "*unknown",
    "null", "[]", "{}", ".nan", ".inf", "-1", "1e400", "999999999999", "true", "''", "\"\\0\"", "x", "???", "[1, 2]",
    "{name: em}", "evil.py", "./evil.py", "2020-01-01", "!!binary x", "<<: *x",
)  # fmt: skip

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def harm(directory: Path, rng: Generator) -> None:
    """Damage a run directory."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    for _ in range(int(rng.integers(1, 3))):
        path = pick(rng, files)
        what = int(rng.integers(10))
        if path.is_dir():
            continue
        if what == 0:
            path.unlink(missing_ok=True)
        elif what == 1:
            path.unlink(missing_ok=True)
            path.symlink_to(pick(rng, ("/dev/zero", "/etc/passwd", "nowhere", path.name, "..", str(pick(rng, files)))))
        elif what == 2:
            path.unlink(missing_ok=True)
            path.mkdir(exist_ok=True)
        elif not path.is_file() or path.is_symlink():
            continue
        elif path.suffix == ".nc" and what < 9:
            path.write_bytes(harmed_netcdf(path.read_bytes(), rng))
        elif path.suffix in (".yaml", ".json", ".csv") and what < 9:
            path.write_bytes(harmed_lines(path.read_bytes(), rng, path.suffix))
        elif path.suffix == ".pt" and what < 9:
            path.write_bytes(harmed_checkpoint(path.read_bytes(), rng))
        else:
            path.write_bytes(scrambled(path.read_bytes(), rng))
    (directory / "evil.py").write_text("raise SystemError('a file of the directory was run')\n")


def harmed_lines(content: bytes, rng: Generator, ending: str) -> bytes:
    """Change values of lines such as ``name: value``."""
    lines = content.decode("utf-8", "replace").splitlines()
    for _ in range(int(rng.integers(1, 4))):
        if not lines:
            break
        at = int(rng.integers(len(lines)))
        name, sign, _ = lines[at].partition(":")
        what = int(rng.integers(6))
        value = pick(rng, YAML) if ending == ".yaml" else pick(
            rng, ("null", "NaN", "Infinity", '"x"', "[]", "{}", "-1", "1e999", "true", "[" * 3000, '"${oc.env:HOME}"')
        )  # fmt: skip
        if what == 0:
            del lines[at]
        elif what == 1:
            lines.insert(at, lines[at])
        elif what == 2 and ending == ".yaml":
            lines.insert(at, f"{' ' * (len(name) - len(name.lstrip()))}{value}")
        elif sign:
            lines[at] = f"{name}: {value}" + ("," if lines[at].endswith(",") else "")
        else:
            lines[at] = pick(rng, NASTY).decode("latin-1")
    if ending == ".yaml" and rng.random() < 0.03:
        return BOMB.encode()
    return "\n".join(lines).encode("utf-8", "replace")


def harmed_netcdf(content: bytes, rng: Generator) -> bytes:
    """Change numbers, shapes, names or attributes of a NetCDF file."""
    buffer = io.BytesIO(content)
    try:
        harm_netcdf(buffer, rng)
    except (OSError, RuntimeError, ValueError, KeyError):  # damaged before
        return scrambled(content, rng)
    made = buffer.getvalue()
    return scrambled(made, rng, 3) if rng.random() < 0.2 else made


def harm_netcdf(buffer: io.BytesIO, rng: Generator) -> None:
    """Change such a file in memory."""
    import h5py

    with h5py.File(buffer, "r+") as file:
        found: list[str] = []
        file.visititems(lambda name, each: found.append(name))
        for _ in range(int(rng.integers(1, 3))):
            name = pick(rng, found)
            if name not in file:
                continue
            each, what = file[name], int(rng.integers(8))
            if what == 0:
                del file[name]
            elif what == 1 and isinstance(each, h5py.Dataset) and each.dtype.kind == "f" and each.size:
                values = each[...]
                values = np.full_like(values, pick(rng, (np.nan, np.inf, -1.0, 1e308, 0.0)))
                each[...] = values
            elif what == 2 and isinstance(each, h5py.Dataset):
                kind, shape = (
                    each.dtype,
                    tuple(int(n) for n in rng.integers(0, 5, each.ndim + int(rng.integers(-1, 2)))),
                )
                if kind.kind in "fi" and len(shape) >= 0:
                    del file[name]
                    file.create_dataset(name, data=np.ones(shape, kind))
            elif what == 3:
                file.attrs[pick(rng, ("model", "settings", "data", "kind", "whole", "method"))] = pick(
                    rng, ("", "x", "{}", "[]", "null", '{"num_components": -1}', '{"num_components": 1000000}',
                          '{"_target_": "os.system"}', "../x", "${oc.env:HOME}", "[" * 3000)
                )  # fmt: skip
            elif what == 4 and list(file.attrs):
                del file.attrs[pick(rng, list(file.attrs))]
            elif what == 5:
                file.attrs[pick(rng, list(file.attrs) or ["x"])] = pick(rng, (np.nan, -1, 3.5, np.ones(3)))
            elif what == 6:
                file[f"{name}_more"] = h5py.SoftLink("/nowhere")
            else:
                file[f"{name}_out"] = h5py.ExternalLink("/etc/passwd", "/x")


def harmed_checkpoint(content: bytes, rng: Generator) -> bytes:
    """Change values of a checkpoint, or put a pickle that runs something in its place."""
    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return (exec, ("raise SystemError('a pickle was opened')",))

    buffer = io.BytesIO()
    if rng.random() < 0.1:
        torch.save({"process": Evil()}, buffer)
        return buffer.getvalue()
    try:
        saved = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # damaged before
        return scrambled(content, rng)
    for _ in range(int(rng.integers(1, 3))):
        at: Any = saved
        while True:
            key = pick(rng, list(at))
            if isinstance(at[key], dict) and at[key] and rng.random() < 0.8:
                at = at[key]
                continue
            break
        value, what = at[key], int(rng.integers(5))
        if what == 0:
            del at[key]
            if not at:
                break
        elif isinstance(value, torch.Tensor) and what < 4:
            if what == 1 and value.is_floating_point():
                at[key] = torch.full_like(value, float(pick(rng, (np.nan, np.inf, -1.0, 1e300))))
            elif what == 2:
                at[key] = value.flatten()[: int(rng.integers(0, 4))]
            else:
                at[key] = value.unsqueeze(0)
        else:
            at[key] = pick(rng, (None, -1, 10**9, float("nan"), "x", [], {}, torch.ones(3), True))
    torch.save(saved, buffer)
    content = buffer.getvalue()
    return scrambled(content, rng, 3) if rng.random() < 0.15 else content


# All ------------------------------------------------------------------------------------------------------------------

FORMATS: dict[str, tuple[int, str, Callable[[Generator], bytes], str | None]] = {
    "csv": (8, "x.csv", text, None),
    "txt": (3, "x.txt", text, None),
    "tsv": (2, "x.tsv", text, None),
    "npy": (6, "x.npy", npy, None),
    "npz": (5, "x.npz", npz, None),
    "mtx": (5, "x.mtx", mtx, None),
    "idx": (2, "x.idx", idx, None),
    "parquet": (6, "x.parquet", parquet, None),
    "feather": (3, "x.feather", feather, None),
    "png": (5, "x.png", png, "picture"),
    "jpeg": (2, "x.jpg", lambda rng: other_picture(rng, "JPEG"), "picture"),
    "gif": (1, "x.gif", lambda rng: other_picture(rng, "GIF"), "picture"),
    "bmp": (1, "x.bmp", lambda rng: other_picture(rng, "BMP"), "picture"),
    "tiff": (1, "x.tif", lambda rng: other_picture(rng, "TIFF"), "picture"),
    "webp": (1, "x.webp", lambda rng: other_picture(rng, "WEBP"), "picture"),
    "xlsx": (5, "x.xlsx", xlsx, None),
    "ods": (4, "x.ods", ods, None),
    "sav": (2, "x.sav", statistics("sav"), None),
    "zsav": (1, "x.zsav", statistics("zsav"), None),
    "dta": (2, "x.dta", statistics("dta"), None),
    "por": (1, "x.por", statistics("por"), None),
    "xpt": (1, "x.xpt", statistics("xpt"), None),
}
"""Format -> how often, name, what makes one, and what container it is for."""

SAID: tuple[dict[str, Any], ...] = (
    {"header": True}, {"header": False}, {"layout": "list"}, {"layout": "table"}, {"transpose": True},
    {"delimiter": ";"}, {"decimal": ","}, {"missing": ["NA", -1]}, {"columns": [0, 1]}, {"exclude": ["c0"]},
    {"row_labels": 0}, {"key": 0}, {"encoding": "utf-8"}, {"layout": "list", "absent": "zero"},
    {"layout": "list", "repeated": "sum"}, {"layout": "list", "absent": "missing", "repeated": "last"}, {"colours": 3},
    {"most_levels": 100}, {"frequency": "c1"}, {"exposure": "c1"}, {"exclude_rows": [0]},
)  # fmt: skip
"""What may be said of how a file is laid out."""


def kind_of(number: int, seed: int = 0) -> str:
    """Return the format of file ``number``."""
    return _kind(np.random.default_rng((seed, number)))


def _kind(rng: Generator) -> str:
    names = [*FORMATS, "compressed", "directory"]
    weights = np.array([each[0] for each in FORMATS.values()] + [4, 3], float)
    return str(rng.choice(names, p=weights / weights.sum()))


def mutant(number: int, seed: int = 0) -> Mutant:
    """Return file ``number``."""
    rng = np.random.default_rng((seed, number))
    name = _kind(rng)
    if name == "directory":
        which = pick(rng, sorted(directories()))
        kind = "resume" if which.startswith("resume") else "load"
        return Mutant(name, "run", b"", rng, kind, directory=which)
    if name == "compressed":
        ending, content = compressed(rng)
        return Mutant(name, ending, content, rng)
    _, called, make, kind = FORMATS[name]
    content = make(rng)
    settings = dict(pick(rng, SAID)) if rng.random() < 0.3 else {}
    if rng.random() < 0.03:
        called = f"x{pick(rng, ('.csv', '.npy', '.xlsx', '.ods', '.parquet', '.png', '', '.mtx', '.sav'))}"
    return Mutant(name, called, content, rng, kind if rng.random() < 0.9 else None, settings)

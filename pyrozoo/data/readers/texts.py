"""A folder of texts: how often each word occurs in each of them."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from pyrozoo.core.errors import DataError
from pyrozoo.data.readers.arrow import column_of, strings
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.readers.raw import Raw
from pyrozoo.data.readers.text import decoded

MANY = 20
"""Texts above which a word must occur in two of them."""

UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
"""Letters of scripts that put no space between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def read_texts(folder: Path, layout: Layout) -> Raw:
    """Count the words of every .txt file in a folder and the folders in it.

    Words are runs of letters, with apostrophes inside, in lower case. Where there are more than ``MANY`` texts, a word
    must occur in two of them; nothing else is left out.

    Args:
        folder: The folder.
        layout: ``encoding`` is that of all texts, where it is said.

    Returns:
        A list of text (its path in the folder without the ending), word and count.

    Raises:
        DataError: No .txt file, one that is not text, or no word in any.
    """
    paths, others = text_files(folder)
    if not paths:
        raise DataError(f"{folder.name} is a folder without a .txt or Parquet file; {_has(folder)}")
    notes: list[str] = []
    counts: dict[str, Counter[str]] = {}
    encodings: Counter[str] = Counter()
    named = _names(folder, paths)
    for path, name in zip(paths, named, strict=True):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{folder.name}/{name}: cannot be read ({error.strerror})") from None
        text, encoding, _ = decoded(content, layout.encoding, f"{folder.name}/{path.relative_to(folder).as_posix()}")
        encodings["utf-8" if encoding == "ascii" else encoding] += 1
        counts[name] = Counter(words(text.decode("utf-8")))
    if others:
        notes.append(f"of the folder only .txt files are read; {others} others are left out")
    if len(encodings) > 1 or "utf-8" not in encodings:
        said = ", ".join(f"{encoding} ({count})" for encoding, count in encodings.most_common())
        notes.append(f"encodings of the texts: {said} (data.encoding)")
    vocabulary, rare = _vocabulary(counts)
    if not vocabulary:
        raise DataError(f"{folder.name}: its {len(paths)} .txt files hold no word that is counted")
    if rare:
        notes.append(f"{rare} words that occur in one of the {len(paths)} texts only are left out")
    if sum(UNSPACED.search(word) is not None for word in vocabulary) > len(vocabulary) / 2:
        notes.append("its script puts no space between words: part them by spaces first, or whole clauses are counted")
    kept = {name: {word: count for word, count in each.items() if word in vocabulary} for name, each in counts.items()}
    if empty := [name for name, each in kept.items() if not each]:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        notes.append(f"texts without a counted word are left out: {', '.join(empty[:3])}{more}")
    return _raw(folder.name, {name: each for name, each in kept.items() if each}, sorted(vocabulary), tuple(notes))


def _raw(name: str, kept: dict[str, dict[str, int]], vocabulary: list[str], notes: tuple[str, ...]) -> Raw:
    place = {word: i for i, word in enumerate(vocabulary)}
    rows = np.repeat(np.arange(len(kept), dtype=np.int32), [len(each) for each in kept.values()])
    columns = np.array([place[word] for each in kept.values() for word in sorted(each)], np.int32)
    values = np.array([each[word] for each in kept.values() for word in sorted(each)], np.int64)
    listed = [
        pa.chunked_array([pa.DictionaryArray.from_arrays(column_of(rows).chunk(0), strings(kept))]),
        pa.chunked_array([pa.DictionaryArray.from_arrays(column_of(columns).chunk(0), strings(vocabulary))]),
        column_of(values),
    ]
    return Raw(
        name, "a folder of texts", listed, names=("row", "column", "value"), shape=(len(kept), len(vocabulary)),
        first=1, unit="entry", notes=notes, stated=frozenset({"encoding"}),
        facts={"layout": "list", "texts": str(len(kept)), "words": str(len(vocabulary))},
    )  # fmt: skip


def text_files(folder: Path) -> tuple[list[Path], int]:
    """Return the .txt files of a folder in the order of their names, and how many others there are."""
    shown = _shown(folder)
    texts = [path for path in shown if path.suffix.lower() == ".txt"]
    return texts, len(shown) - len(texts)


def _shown(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _has(folder: Path) -> str:
    endings = Counter(path.suffix.lower() or "no ending" for path in _shown(folder))
    said = ", ".join(f"{count} of {ending}" for ending, count in endings.most_common(5))
    return f"it has files: {said}; set data.path to one of them" if said else "it is empty"


def _names(folder: Path, paths: list[Path]) -> list[str]:
    short = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    twice = {name for name, count in Counter(short).items() if count > 1}
    return [path.relative_to(folder).as_posix() if s in twice else s for path, s in zip(paths, short, strict=True)]


def _vocabulary(counts: dict[str, Counter[str]]) -> tuple[set[str], int]:
    """Return the words that are counted, and how many are not."""
    documents = Counter(word for each in counts.values() for word in each)
    least = 2 if len(counts) > MANY else 1
    kept = {word for word, count in documents.items() if count >= least}
    return kept, len(documents) - len(kept)


def words(text: str) -> list[str]:
    """Return the words of a text: runs of letters and their marks, with apostrophes inside, in lower case."""
    text = unicodedata.normalize("NFC", text).replace("\u2019", "'").replace("\u00ad", "").lower()
    return _pattern(text.isascii()).findall(text)


@cache
def _pattern(ascii: bool) -> re.Pattern[str]:
    marks = "" if ascii else _marks()
    letter = f"[^\\W\\d_][{marks}]*" if marks else r"[^\W\d_]"
    return re.compile(f"(?:{letter})+(?:'(?:{letter})+)*")


def _marks() -> str:
    """Return all combining marks as ranges: many scripts write vowels so, and a regular expression has them apart."""
    points = [i for i in range(0x300, min(0x20000, sys.maxunicode)) if unicodedata.category(chr(i)) in ("Mn", "Mc")]
    runs = []
    for _, run in groupby(enumerate(points), lambda each: each[1] - each[0]):
        first, *rest = [point for _, point in run]
        runs.append(f"\\U{first:08x}-\\U{(rest[-1] if rest else first):08x}")
    return "".join(runs)

"""Documents as people have them: texts in a column of a table, a folder of texts, LDA-C files, arrays of NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyrozoo.core.errors import DataError, SettingError, first_line
from pyrozoo.data.documents import Documents
from pyrozoo.data.readers.layout import Layout, Wanted
from pyrozoo.data.readers.source import is_frame, own_table

ENDING, COUNTS, ARRAYS = ".txt", (".ldac", ".dat"), ".npz"
"""Files of a folder of texts, LDA-C files, and archives of NumPy."""


def read_documents(source: Any, layout: Layout, like: Documents | None = None) -> Documents | None:
    """Read documents that are no list of counts; None: the source is another.

    Args:
        source: A path, a frame with a column of texts, or a list of texts.
        layout: What is said of it: ``text``, the column; which words count; ``vocabulary``, of LDA-C files.
        like: Documents whose words count: for new ones.

    Raises:
        DataError: It cannot be read, or no word is left.
        SettingError: A setting that has no meaning for it.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir() and (files := sorted(path.rglob(f"*{ENDING}"))):
            texts = [each.read_text(encoding=layout.encoding or "utf-8", errors="replace") for each in files]
            return _counted(texts, [str(each.relative_to(path)) for each in files], path.name, layout, like)
        if path.suffix.lower() == ARRAYS:
            with np.load(path, allow_pickle=False) as arrays:
                if "vocabulary" in arrays.files and "word" in arrays.files:
                    return Documents.of_arrays({name: arrays[name] for name in arrays.files}, path.stem)
            return None
        if path.suffix.lower() in COUNTS:
            return _ldac(path, layout)
        if layout.text is None:
            return None
        return _of_frame(own_table(path, layout, Wanted()), path.name, layout, like)
    if isinstance(source, list | tuple) and source and all(isinstance(each, str) for each in source):
        return _counted(source, [f"document_{i}" for i in range(len(source))], "documents", layout, like)
    if layout.text is not None and is_frame(source):
        name = "the data" if like is None else "the new documents"
        return _of_frame(own_table(source, layout, Wanted()), name, layout, like)
    return None


def _of_frame(frame: pd.DataFrame, name: str, layout: Layout, like: Documents | None) -> Documents:
    """Count the words of a column of texts; the other columns are known about the documents."""
    names = [str(each) for each in frame.columns]
    if str(layout.text) not in names:
        said = f"{name} has no column {str(layout.text)!r}; it has {', '.join(map(repr, names[:20]))}"
        raise SettingError(f"data.text: {said}")
    frame = frame.set_axis(names, axis=1)
    label = None if layout.row_labels is None else str(layout.row_labels)
    rows = frame[label] if label in names else frame.index
    texts = [
        "" if gone else str(each) for each, gone in zip(frame[layout.text], frame[layout.text].isna(), strict=True)
    ]
    plain = label not in names and isinstance(frame.index, pd.RangeIndex)
    called = [f"document_{i}" for i in range(len(frame))] if plain else [str(each) for each in rows]
    about = {each: frame[each].to_numpy() for each in names if each not in (layout.text, label)}
    found = _counted(texts, called, name, layout, like)
    return replace(found, about=about, numbered=plain)


def _counted(texts: Sequence[str], rows: Sequence[str], name: str, layout: Layout, like: Documents | None) -> Documents:
    """Count words (scikit-learn's CountVectorizer): of ``like``, or those in enough documents and not in most."""
    from sklearn.feature_extraction.text import CountVectorizer

    stop = None if layout.stop_words in (None, "none") else layout.stop_words
    known: Mapping[str, Any] = {"stop_words": stop, "min_df": layout.least_documents, "max_df": layout.most_share}
    if like is not None:
        known = {"stop_words": stop, "vocabulary": [str(each) for each in like.column_labels]}
    elif len(texts) * layout.most_share < layout.least_documents:
        known = {"stop_words": stop}
    counter = CountVectorizer(dtype=np.float64, **known)
    try:
        counts = counter.fit_transform(texts)
    except ValueError as error:
        cure = "lower data.least_documents, raise data.most_share, or say data.stop_words=none"
        raise DataError(f"{name}: no word is left ({first_line(error)}); {cure}") from None
    made = Documents.of(counts, name)
    notes = [] if like is not None else [f"{counts.shape[1]} words of {name} are counted: {_chosen(layout)}"]
    empty = int((np.diff(counts.indptr) == 0).sum())
    if like is not None:
        total = sum(map(len, map(counter.build_analyzer(), texts)))
        lost = 1 - counts.sum() / max(total, 1)
        unknown = f"{lost:.1%} of the tokens of {name} are of words that {like.name} does not have: they are left out"
        notes += [unknown] if lost > 0 else []
    notes += [f"{empty} documents of {name} have none of these words"] if empty else []
    words = [str(each) for each in counter.get_feature_names_out()]
    return replace(made, row_labels=list(rows), column_labels=words, notes=tuple(notes))


def _chosen(layout: Layout) -> str:
    """Say which words count."""
    stop = "" if layout.stop_words in (None, "none") else f", without stop words ({layout.stop_words})"
    return f"those in {layout.least_documents} documents or more and in at most {layout.most_share:.0%} of them{stop}"


def _ldac(path: Path, layout: Layout) -> Documents:
    """Read a file of LDA-C: a line per document, how many different words, then word:count."""
    rows, words, counts = [], [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        total, *pairs = line.split() or ["0"]
        try:
            own = [(int(word), float(count)) for word, count in (each.split(":") for each in pairs)]
            if int(total) != len(own):
                raise ValueError
        except ValueError:
            said = f"line {number + 1} is not 'M word:count ...' with M pairs, as LDA-C writes documents"
            raise DataError(f"{path.name}: {said}") from None
        rows.append(len(own))
        words += [word for word, _ in own]
        counts += [count for _, count in own]
    size = max(words, default=-1) + 1
    names = [f"word_{i}" for i in range(size)]
    if layout.vocabulary is not None:
        names = Path(layout.vocabulary).read_text(encoding=layout.encoding or "utf-8").split("\n")
        names = [each.strip() for each in names if each.strip()]
        if len(names) < size:
            raise DataError(f"{path.name}: data.vocabulary lists {len(names)} words; word {size - 1} occurs")
    start = np.r_[0, np.cumsum(rows)]
    arrays = {"start": start, "word": np.array(words, dtype=np.int64), "count": np.array(counts, dtype=float)}
    return Documents.of_arrays({**arrays, "vocabulary": np.array(names, dtype=object)}, path.stem)

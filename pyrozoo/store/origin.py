"""Where data come from that a run directory does not hold: files, by path and hash, or what made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pyrozoo.core.errors import DataError
from pyrozoo.data.readers.layout import KINDS

ORIGIN = Path(".hydra") / "data.json"
"""The file of a run directory that says so; without it the data are in posterior.nc."""

MOST_STORED = 50_000_000
"""Bytes of data, simulated or given in Python, up to which posterior.nc holds them."""

READ = ("path", "test_path", "holdout")
"""Settings of data that name files."""

DIGEST = 16
"""Bytes of a hash."""


@dataclass(frozen=True)
class Origin:
    """Where data come from.

    Attributes:
        files: Setting of the data -> its file: path, absolute path, and hash (BLAKE2b of its bytes).
        values: The hash of the data themselves, where no file has them.
    """

    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    values: str = ""

    @classmethod
    def of(cls, settings: Mapping[str, Any], data: Any, *, given: bool = False, beside: bool = False) -> Origin | None:
        """Return where data come from, or None where they are to be stored.

        Args:
            settings: Of the data, as a configuration states them.
            data: What came of them.
            given: Whether they were given in Python.
            beside: Whether new rows, or cells to hide, were given in Python: then nobody else has them.
        """
        source = settings.get("source")
        named = source == "named" and bool(settings.get("file"))
        if beside:
            return None
        if not given and ((source in (*KINDS, "file") and settings.get("path") is not None) or named):
            return cls({name: _described(path) for name, path in _paths(settings)})
        large = data.values.numel() * data.values.element_size() > MOST_STORED
        return cls(values=hash_of(data)) if large else None

    @classmethod
    def read(cls, directory: Path) -> Origin | None:
        """Return what a run directory says, or None where it holds its data."""
        path = directory / ORIGIN
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} cannot be read ({error})") from None

    @property
    def text(self) -> str:
        """Return it as the text of its file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def found(self, directory: Path) -> dict[str, str]:
        """Return where the files are now, by setting: where they were, or in the run directory.

        Raises:
            DataError: One of them is gone, or is not what it was.
        """
        result = {}
        for name, file in self.files.items():
            places = dict.fromkeys((file["path"], file["absolute"], str(directory / Path(file["path"]).name)))
            there = [place for place in places if Path(place).exists()]
            same = next((place for place in there if hash_of_files(place) == file["blake2b"]), None)
            if same is None:
                why = "is not what it was" if there else "is gone"
                raise DataError(f"{directory} was fitted to {file['absolute']}, which {why}")
            result[name] = same
        return result

    def check(self, directory: Path, data: Any) -> None:
        """Raise DataError unless data are those of a run, where no file has them."""
        if self.values and hash_of(data) != self.values:
            raise DataError(f"{directory} was fitted to other data than {data.name}")


def _paths(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in READ:
        if isinstance(value := settings.get(name), str | Path):
            yield name, str(value)


def _described(path: str) -> dict[str, str]:
    return {"path": path, "absolute": str(Path(path).absolute()), "blake2b": hash_of_files(path)}


def hash_of(data: Any) -> str:
    """Return the hash of the values of data and of what is hidden of them."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    hidden = () if data.hidden is None else (data.hidden.rows, data.hidden.columns, data.hidden.values)
    for part in (data.values, *hidden):
        digest.update(np.ascontiguousarray(part.detach().cpu().numpy()).data)
    return digest.hexdigest()


def hash_of_files(path: str | Path) -> str:
    """Return the hash of a file's bytes; of a folder that of its files and their names.

    Files that have not been touched since are not read again by this process.
    """
    path = Path(path)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    known = [(str(each), (state := each.stat()).st_size, state.st_mtime_ns) for each in files]
    parts = [_hashed(*each) for each in known]
    if not path.is_dir():
        return parts[0]
    names = [f"{each.relative_to(path).as_posix()} {part}\n" for each, part in zip(files, parts, strict=True)]
    return hashlib.blake2b("".join(names).encode(), digest_size=DIGEST).hexdigest()


@cache
def _hashed(path: str, size: int, touched: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST)).hexdigest()

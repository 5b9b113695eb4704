"""Named data sets: conf/data/<name>.yaml states file, checksum, address and terms; here they are found and parsed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch

from pyrozoo.data.table import Hidden, Table, labels
from pyrozoo.types import DataError

FOLDER_VARIABLE = "PYROZOO_DATA"
"""The environment variable that names a folder to search before downloading."""


def locate(entry: Mapping[str, Any]) -> Path:
    """Find the file of a data set: in the folder ``PYROZOO_DATA`` names, else in the cache, else at its address.

    Args:
        entry: The settings of conf/data/<name>.yaml: file, sha256, url (or null), source, terms.

    Returns:
        The path of a file with the stated checksum.

    Raises:
        DataError: Not found and not downloadable, or another checksum.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        local = Path(folder) / entry["file"]
        if local.is_file():
            digest = hashlib.sha256(local.read_bytes()).hexdigest()
            if digest != entry["sha256"]:
                raise DataError(f"{local.name} in {FOLDER_VARIABLE} has SHA-256 {digest}, not {entry['sha256']}")
            return local
    if not entry.get("url"):
        raise DataError(
            f"{entry['file']} cannot be downloaded; get it from {entry['source_page']} (terms: {entry['terms']}) "
            f"and set {FOLDER_VARIABLE} to its folder"
        )
    try:
        # One file under a fixed name: nothing is unpacked, so nothing can be written outside the cache.
        fetched = pooch.retrieve(
            entry["url"], known_hash=f"sha256:{entry['sha256']}", fname=Path(entry["file"]).name,
            path=pooch.os_cache("pyrozoo"), progressbar=False,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{entry['file']} could not be downloaded from {entry['url']} ({reason}); "
            f"put it into a folder and set {FOLDER_VARIABLE} to it"
        ) from None
    return Path(fetched)


def read_named(entry: Mapping[str, Any]) -> Table:
    """Locate a named data set and parse it."""
    return PARSERS[entry["parser"]](locate(entry)).checked()


def zip_mixture_course(path: Path) -> Table:
    """Parse the course's count matrix: ``X_ND`` to fit; test rows with columns 3..9 shown and 0..2 to complete."""
    with np.load(path, allow_pickle=False) as arrays:
        shown, missing = arrays["Y_MD_obs"].astype(float), arrays["Y_MD_miss"].astype(float)
        train = Table.of(arrays["X_ND"], path.stem)
    hidden_columns = missing.shape[1]
    values = np.concatenate([np.full_like(missing, np.nan), shown], 1)
    rows, columns = np.indices(missing.shape)
    test = Table(
        torch.as_tensor(values),
        labels("test_row", len(values)),
        train.column_labels,
        f"{path.stem} test rows",
        hidden=Hidden(
            torch.as_tensor(rows.ravel()), torch.as_tensor(columns.ravel()), torch.as_tensor(missing.ravel())
        ),
    )
    if values.shape[1] != train.shape[1]:
        raise DataError(
            f"{path.name}: test rows have {hidden_columns} + {shown.shape[1]} columns, not {train.shape[1]}"
        )
    return Table(train.values, train.row_labels, train.column_labels, train.name, test=test)


PARSERS: dict[str, Callable[[Path], Table]] = {"zip_mixture_course": zip_mixture_course}
